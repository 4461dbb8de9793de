"""A step of a recipe's model on this machine's CPU, timed."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from accelerate.utils import convert_outputs_to_fp32

from train.cost import formulas
from train.data import batching, collate, steps
from train.model import build
from train.model.optim import build_optimizer
from train.settings.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from train.data.examples import Examples

SECONDS = 2.0
"""That a pass over the rows of a trial should take at most; there are two, and one of them warms up."""


def load_of(recipe: Recipe, lengths: np.ndarray, rows: list[int]) -> formulas.Load:
    """Return the load of a batch of some rows, padding included, from the lengths (rows of the data, sides)."""
    sides = tuple(map(int, lengths[rows].max(axis=0)))
    return formulas.load_of(recipe.task, len(rows), sides, recipe.batch.mask_probability)


def operations(recipe: Recipe, config: Any, load: formulas.Load) -> float:
    """Return the FLOPs that a forward and a backward pass execute."""
    forward = formulas.forward_flops(config, recipe.task, load)
    return formulas.training_flops(forward, recipe.loop.gradient_checkpointing)


def seconds_per_step(
    recipe: Recipe,
    config: Any,
    encoded: "Examples",
    tokenizer: "PreTrainedTokenizerBase",
    mean: formulas.Load,
    peak: float,
) -> float:
    """Return the seconds of a step on this machine's CPU: forward, backward, and the update of the weights.

    The model has random weights, and rows of the data: those of a micro-batch, or as many of them as take some two seconds at
    half of the peak, at least one. A step takes so much longer as it has more operations.

    Args:
        recipe: its kernel, precision, checkpointing and optimiser are used; weights of `model.init_from` are not read.
        config: of its model.
        encoded: the training data.
        tokenizer: of the run.
        mean: load of a step on average.
        peak: FLOP/s of a matrix product.
    """
    lengths, done = encoded.lengths(0), operations(recipe, config, mean)

    def work(rows: list[int]) -> float:
        return operations(recipe, config, load_of(recipe, lengths, rows))

    batches = steps.Places(encoded, recipe, 0, 1, 0, 0).plan(0)
    usual = min(batches, key=lambda rows: abs(work(rows) - done))
    rows = batching.micro_batches(usual, 0, 1, recipe.loop.accumulate)[0]
    while len(rows) > 1 and work(rows) > SECONDS * peak / 2:
        rows = rows[::2]
    batch = collate.Collator(recipe.task, tokenizer, recipe)([encoded.row(0, row) for row in rows], 0)
    with _products(recipe):
        model = build.head_of(recipe.task)(config).train()
        model.set_attn_implementation(recipe.model.attn_implementation)
        if recipe.loop.gradient_checkpointing:
            build.recompute(model)
        passed, updated = _timed(recipe, model, batch)
    return passed * done / work(rows) + updated


def _timed(recipe: Recipe, model: "PreTrainedModel", batch: collate.Batch) -> tuple[float, float]:
    """Return the seconds of a pass over a batch, and of an update; of each the second."""
    optimizer = build_optimizer(model, recipe.optim)
    forward = torch.autocast("cpu", torch.bfloat16, enabled=recipe.loop.precision == "bf16")(model.forward)
    options = {"skip_logits": True} if recipe.loop.skip_logits else {}
    passed = updated = 0.0
    for _ in range(2):
        began = time.perf_counter()
        output = convert_outputs_to_fp32(forward)(
            **batch.inputs, **options, num_items_in_batch=torch.tensor(batch.targets)
        )
        output.loss.backward()
        middle = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        passed, updated = middle - began, time.perf_counter() - middle
    return passed, updated


@contextlib.contextmanager
def _products(recipe: Recipe) -> Iterator[None]:
    """Take the recipe's precision of fp32 products, and leave it as it was."""
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(recipe.loop.matmul_precision)
        yield
    finally:
        torch.set_float32_matmul_precision(before)
