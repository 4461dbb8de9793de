"""What a run will take, before it is started: parameters, operations, memory, steps, hours and money."""

import dataclasses
import functools
import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from modeling_vanilla.losses import ROWS
from train import files
from train.cost import formulas, gpus, here, trial
from train.data import steps, training
from train.data.examples import Examples
from train.data.splits import label_names, load_splits
from train.errors import MissingDataError
from train.model import build
from train.model.optim import learning_rate
from train.settings.recipe import Recipe
from train.settings.rules import require_splits
from train.tasks import TASKS

LENGTH = 32
"""Tokens a row where the data is not here and the recipe does not say."""
CUDA_CONTEXT = 1e9
"""Bytes that CUDA and its libraries take for themselves."""


@dataclasses.dataclass
class Seen:
    """What the steps of a run look like.

    Attributes:
        mean: load of a step on average, over all processes.
        largest: load of the step that needs the most memory.
        real: real tokens of a step on average, None where they are not known.
        rows: rows of the training data, None where it is not here, or streamed.
        batches: steps of one epoch, likewise.
        note: how this is known.
    """

    mean: formulas.Load
    largest: formulas.Load
    real: float | None
    rows: int | None
    batches: int | None
    note: str


def make(recipe: Recipe, chosen: dict[str, gpus.Gpu], options: Any) -> dict[str, Any]:
    """Return the plan of a recipe as plain values.

    Args:
        recipe: the recipe.
        chosen: GPUs by name.
        options: mfu, price, processes, length, and whether this CPU is asked for, as the command line has them.

    Raises:
        UserError: something is not as `fit` needs it. Only files that are not here yet are done without.
    """
    require_splits(recipe, recipe.data.splits())
    encoded, tokenizer, labels, reason = (None, None, None, "--length was given") if options.length else _read(recipe)
    model = build.outline(recipe, len(tokenizer) if tokenizer else _vocabulary(recipe), labels)
    config: Any = model.config
    loop, eager = recipe.loop, recipe.model.attn_implementation == "eager"
    keeping = formulas.Keeping(loop.precision == "bf16", loop.gradient_checkpointing, eager)
    if encoded is None:
        seen = _assumed(recipe, config, options.length, reason)
    else:
        seen = _counted(recipe, config, encoded, keeping)
    done = trial.operations(recipe, config, seen.mean)
    share = seen.largest * (1 / (options.processes * loop.accumulate))
    ways = {
        f"{precision}{', checkpointed' if again else ''}": formulas.Keeping(precision == "bf16", again, eager)
        for precision in ("fp32", "bf16")
        for again in (False, True)
    }
    shards = options.processes if loop.shard else 1
    if loop.skip_logits:
        share = dataclasses.replace(share, outputs=min(share.outputs, ROWS))
    memory = {name: _memory(model, recipe.task, share, way, shards) for name, way in ways.items()}
    used = next(name for name, way in ways.items() if way == keeping)
    step = encoded and functools.partial(trial.seconds_per_step, recipe, config, encoded, tokenizer, seen.mean)
    return {
        "name": recipe.name,
        "task": recipe.task,
        "variant": config.variant,
        "vocabulary": config.vocab_size,
        "vocabulary_is_a_bound": tokenizer is None and recipe.model.vocab_size is None and not recipe.model.init_from,
        "parameters": count(model),
        "steps": loop.max_steps,
        "epochs": loop.max_steps / seen.batches if seen.batches else None,
        "peak": _peak(recipe, config.d_model),
        "rows": seen.rows,
        "tokens": _tokens(seen, loop.max_steps),
        "flops": _flops(config, recipe, seen.mean),
        "memory_per_process": memory,
        "memory_used": used,
        "processes": options.processes,
        "mfu": options.mfu,
        "gpus": [_on(n, g, recipe, done, memory[used]["total"], options) for n, g in chosen.items()],
        "cpu": here.row(recipe, config, seen.mean, memory[used]["total"], options.mfu, step) if options.cpu else None,
        "data": seen.note,
    }


def count(model: torch.nn.Module) -> dict[str, int]:
    """Return the parameters by part; a matrix that embeddings and head share counts with the embeddings."""
    numbers = {"embeddings": 0, "encoder": 0, "decoder": 0, "head": 0}
    for name, parameter in model.named_parameters():
        if ".embed_tokens." in name or ".embeddings." in name:
            stack = "embeddings"
        else:
            stack = name.split(".")[1] if name.startswith("model.") else "head"
        numbers[stack] += parameter.numel()
    return numbers | {"total": sum(numbers.values())}


def _read(recipe: Recipe) -> tuple[Any, Any, int | None, str]:
    """Return the encoded training rows, the tokenizer and the number of classes; or None thrice and why they are not here.

    A tokenizer that the run has not built yet is built in a folder that is thrown away.
    """
    if recipe.data.hub:
        return None, None, None, "a data set of the Hub is not fetched for a plan"
    try:
        train = load_splits(recipe)["train"]
        with tempfile.TemporaryDirectory() as scratch:
            folder = recipe.folder / files.TOKENIZER
            if not (folder / "tokenizer.json").is_file():
                folder = Path(scratch) / files.TOKENIZER
                build.make_tokenizer(recipe, train, folder)
            tokenizer = build.load_tokenizer(folder)
        names = label_names(train)
        labels = None if names is None else len(names)
        return training.encode_window(train, tokenizer, recipe), tokenizer, labels, ""
    except MissingDataError as error:
        return None, None, None, str(error)


def _vocabulary(recipe: Recipe) -> int:
    """Return the size of the vocabulary, or the recipe's bound of it, without data."""
    folder = recipe.folder / files.TOKENIZER
    if (folder / "tokenizer.json").is_file():
        return len(build.load_tokenizer(folder))
    return len(build.load_tokenizer(recipe.tokenizer.path)) if recipe.tokenizer.path else recipe.tokenizer.vocab_size


def _counted(recipe: Recipe, config: Any, encoded: Examples, keeping: formulas.Keeping) -> Seen:
    """Count the batches of the first epoch, as the loop will take them; padding is that of one process."""
    lengths = encoded.lengths(0)
    plan = steps.Places(encoded, recipe, 0, 1, 0, 0).plan(0)
    loads = [trial.load_of(recipe, lengths, rows) for rows in plan]
    mean = sum(loads, formulas.Load()) * (1 / len(loads))
    largest = max(loads, key=lambda load: formulas.activation_bytes(config, load, keeping))
    streamed = recipe.data.stream_rows is not None  # then the number of windows is not known
    average = np.round(lengths.mean(axis=0), 1).tolist()
    note = (
        f"counted{' in the first window of the stream' if streamed else ''}: {len(encoded):,} rows of {average} tokens"
    )
    rows, batches = (None, None) if streamed else (len(encoded), len(plan))
    return Seen(mean, largest, float(lengths.sum()) / len(plan), rows, batches, f"{note} on average")


def _assumed(recipe: Recipe, config: Any, length: int | None, reason: str) -> Seen:
    """Return steps that use their whole budget with rows of one length."""
    blocks = TASKS[recipe.task].cuts_blocks
    if length is None:
        longest = config.max_position_embeddings - (recipe.task == "causal")
        length = min(recipe.batch.block_size or longest, longest) if blocks else LENGTH
    length = min(length, recipe.batch.max_tokens)
    rows = recipe.batch.max_tokens // length
    rows = min(rows, recipe.batch.max_rows or rows)
    sides = (length, length) if TASKS[recipe.task].has_pairs else (length,)
    load = formulas.load_of(recipe.task, rows, sides, recipe.batch.mask_probability)
    note = f"assumed: full batches of rows of {length} tokens a side ({reason})"
    return Seen(load, load, None, None, None, note)


def _peak(recipe: Recipe, d_model: int) -> dict[str, float]:
    """Return the step at which the learning rate ends its climb, and the rate there."""
    step = max(recipe.optim.warmup_steps, 1)
    return {"step": step, "learning_rate": learning_rate(step, recipe.optim, d_model, recipe.loop.max_steps)}


def _tokens(seen: Seen, max_steps: int) -> dict[str, float | None]:
    """Return the tokens of a step and of the run, with padding and, where they are known, without."""
    padded = seen.mean.source + seen.mean.target
    return {
        "source_per_step": seen.mean.source,
        "target_per_step": seen.mean.target,
        "padded_per_run": padded * max_steps,
        "real_per_step": seen.real,
        "real_per_run": None if seen.real is None else seen.real * max_steps,
    }


def _flops(config: Any, recipe: Recipe, load: formulas.Load) -> dict[str, Any]:
    """Return the operations of a token, a step and the run; `load` is that of a step."""
    forward = formulas.forward_flops(config, recipe.task, load)
    step, steps = formulas.training_flops(forward), recipe.loop.max_steps
    decoder = forward["decoder"] + forward["head"]
    return {
        "forward_per_source_token": forward["encoder"] / load.source if load.source else None,
        "forward_per_target_token": decoder / load.target if load.target else None,
        "forward_per_step": forward,
        "training_per_token": step / (load.source + load.target),
        "six_n_per_token": 6 * _weights_met(config, recipe.task, load),
        "training_per_step": step,
        "training_per_run": step * steps,
        "executed_per_run": formulas.training_flops(forward, recipe.loop.gradient_checkpointing) * steps,
    }


def _weights_met(config: Any, task: str, load: formulas.Load) -> float:
    """Return N: the weights of the matrix products that a token meets, on average over both sides."""
    without_pairs = formulas.Load(load.source, load.target, outputs=load.outputs)
    return sum(formulas.forward_flops(config, task, without_pairs).values()) / 2 / (load.source + load.target)


def _memory(model: Any, task: str, share: formulas.Load, keeping: formulas.Keeping, shards: int) -> dict[str, float]:
    """Return the bytes that one process needs, by part; `shards` processes divide what stays between steps."""
    linear = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)}
    needed = formulas.state_bytes(count(model)["total"], sum(linear.values()), keeping.bf16, shards)
    kept, scores = formulas.head_bytes(model.config, task, share, keeping)
    needed["activations"] = formulas.activation_bytes(model.config, share, keeping)
    needed["logits"] = kept + scores
    return needed | {"total": sum(needed.values())}


def _on(name: str, gpu: gpus.Gpu, recipe: Recipe, flops: float, memory: float, options: Any) -> dict[str, Any]:
    """Return time and cost on some GPUs of one kind."""
    peak, kind = gpus.peak(gpu, recipe.loop.precision, recipe.loop.matmul_precision)
    seconds = flops / (peak * options.mfu * options.processes)
    hours = seconds * recipe.loop.max_steps / 3600
    price = gpu.price if options.price is None else options.price
    return {
        "name": name,
        "peak": peak,
        "numbers": kind,
        "memory": gpu.memory * 1e9,
        "fits": memory + CUDA_CONTEXT <= gpu.memory * 1e9,
        "seconds_per_step": seconds,
        "hours": hours,
        "price_per_hour": price,
        "cost": hours * price * options.processes,
    }


def text(plan: dict[str, Any]) -> str:
    """Return a plan as lines for people."""
    flops, tokens, parameters = plan["flops"], plan["tokens"], plan["parameters"]
    bound = ", at most: the tokenizer is not built yet" if plan["vocabulary_is_a_bound"] else ""
    epochs = f"{plan['epochs']:.1f} epochs" if plan["epochs"] else "epochs unknown"
    real = f", {tokens['real_per_step']:,.0f} of them real" if tokens["real_per_step"] else ""
    late = ": after the end of the run" if plan["peak"]["step"] > plan["steps"] else ""
    more = flops["executed_per_run"] > flops["training_per_run"]
    again = f" ({flops['executed_per_run']:.3g} with what is recomputed)" if more else ""
    lines = [
        f"{plan['name']}: {plan['task']}, {plan['variant']}, vocabulary {plan['vocabulary']:,}{bound}",
        "parameters   " + ", ".join(f"{name} {number:,}" for name, number in parameters.items() if number),
        f"data         {plan['data']}",
        f"steps        {plan['steps']:,} steps, {epochs}",
        f"peak         of the learning rate, {plan['peak']['learning_rate']:.3g}, at step {plan['peak']['step']:,}{late}",
        f"tokens       a step: {_sides(tokens)}, padding included{real}; the run: {_si(tokens['padded_per_run'])}",
        f"FLOPs        forward, a token: {_per_token(flops)}",
        f"             training, a token: {_si(flops['training_per_token'])} (6N alone: {_si(flops['six_n_per_token'])})",
        f"             a step {_si(flops['training_per_step'])}, the run {flops['training_per_run']:.3g}{again}",
        f"memory       of each of {plan['processes']} process(es), GB; this recipe: {plan['memory_used']}",
    ]
    for name, sizes in plan["memory_per_process"].items():
        shown = ", ".join(f"{use} {size / 1e9:.2f}" for use, size in sizes.items() if use != "total")
        lines.append(f"  {name:<19} {sizes['total'] / 1e9:6.2f} = {shown}")
    assumed = f"at {plan['mfu']:.0%} of the peak (an assumption, --mfu), {plan['processes']} GPU(s)"
    lines.append(f"time         {assumed if plan['gpus'] else 'here'}")
    lines.append(
        f"  {'GPU':<9} {'TFLOP/s':>13} {'GB':>5} {'fits':>5} {'s a step':>9} {'hours':>9} {'$/h':>6} {'$':>9}"
    )
    for gpu in plan["gpus"]:
        lines.append(
            f"  {gpu['name']:<9} {gpu['peak'] / 1e12:>8.1f} {gpu['numbers']} {gpu['memory'] / 1e9:>5.0f} "
            f"{'yes' if gpu['fits'] else 'no':>5} {here.short(gpu['seconds_per_step'])} {here.short(gpu['hours'])} "
            f"{gpu['price_per_hour']:>6.2f} {gpu['cost']:>9.2f}"
        )
    lines += here.lines(plan["cpu"]) if plan["cpu"] else []
    lines.append(
        "Evaluation, reading data and waiting for other GPUs come on top. Prices are assumptions, --price sets one."
    )
    return "\n".join(lines)


def _sides(tokens: dict[str, float | None]) -> str:
    sides = {"source": tokens["source_per_step"], "target": tokens["target_per_step"]}
    return " + ".join(f"{number:,.0f} {side}" for side, number in sides.items() if number)


def _per_token(flops: dict[str, Any]) -> str:
    sides = {"source": flops["forward_per_source_token"], "target, head included": flops["forward_per_target_token"]}
    return ", ".join(f"{_si(number)} {side}" for side, number in sides.items() if number)


def _si(number: float) -> str:
    """Return a number with three digits and a unit's letter."""
    power = max(0, min(5, int(math.log10(max(number, 1)) // 3)))
    return f"{number / 1000**power:.3g}{' KMGTP'[power].strip()}"
