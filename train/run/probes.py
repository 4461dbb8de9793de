"""What a few validation rows tell about a model: heads that do nothing, and places that see the tokens after them.

The thresholds, and what is done with an alarm, stand in `train.run.watchdog`. Dimension letters: B batch, T queries, S keys,
H heads, K head_dim (of values: v_head_dim), D d_model.
"""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from modeling_vanilla.attention import MultiHeadAttention
from modeling_vanilla.heads import shift_right
from train.data import collate
from train.measure import evaluate, scoring
from train.run.watchdog import Alarm
from train.tasks import TASKS

if TYPE_CHECKING:
    from train.run.run import Run

ROWS = 8
"""Validation rows that are looked at."""
DEAD_SHARE = 1e-4
"""A head that adds less to its layer's input than this (root mean squares) is lost in bf16, whose rounding is 4e-3."""
DEAD_SPREAD = 1e-3
"""Deviation of a head's scores over the keys below which its softmax is a plain mean: e^0.001 = 1.001."""
LEAK_CHANGE = 1e-3
"""Change of an earlier place's logits, as a share of the largest logit, above which it saw a later token."""


class Head(NamedTuple):
    """How alive a head is.

    Attributes:
        name: its layer and number.
        share: root mean square of what it adds, over that of the layer's input.
        spread: root mean square deviation of its scores over the keys; None for a single key.
    """

    name: str
    share: float
    spread: float | None

    @property
    def fault(self) -> str | None:
        """Return in words what is dead about it."""
        if self.share < DEAD_SHARE:
            return f"{self.name} adds {self.share:.1e} of its layer's input"
        if self.spread is not None and self.spread < DEAD_SPREAD:
            return f"{self.name} takes a plain mean of all places"
        return None


def look(run: "Run") -> list[Alarm]:
    """Return what is wrong with a run's model; every rank calls it, on the same rows.

    Two forward passes over `ROWS` rows. The random state and the training mode are left as they were.
    """
    config: Any = run.bare.config
    recipe, module = run.recipe, run.accelerator.unwrap_model(run.model)
    # The rows that the evaluation has just encoded.
    _, encoded = evaluate.encoded_split(run.splits, "validation", recipe.eval.limit, run.tokenizer, recipe)
    rows = [encoded.row(0, number) for number in range(min(ROWS, len(encoded)))]
    if not rows:
        return []
    batch = collate.Collator(recipe.task, run.tokenizer, recipe)(rows, epoch=0)
    inputs = {name: value.to(run.accelerator.device) for name, value in batch.inputs.items()}
    learned = [inputs.pop(name) for name in collate.LEARNED if name in inputs]
    if TASKS[recipe.task].has_pairs:
        inputs["decoder_input_ids"] = shift_right(learned[0], config)
    with scoring.undisturbed(module), run.accelerator.autocast():
        with heads_of(run.bare) as heads:
            output = module(**inputs)
        alarms = [Alarm("dead_head", head.fault, head.share) for head in heads if head.fault]
        change = change_from_later(module, inputs, output.logits) if config.variant != "encoder" else 0.0
    if change > LEAK_CHANGE:
        text = f"the logits of a place change by {change:.1e} with a token after it: the causal mask is broken"
        alarms.append(Alarm("leak", text, change))
    return alarms


def change_from_later(module: torch.nn.Module, inputs: dict[str, torch.Tensor], logits: torch.Tensor) -> float:
    """Replace the last token that a decoder reads; return how far the logits (B, T, V) before it move.

    Returns:
        The largest change, as a share of the largest logit.
    """
    name = "decoder_input_ids" if "decoder_input_ids" in inputs else "input_ids"
    changed = inputs[name].clone()
    if changed.shape[1] < 2:
        return 0.0
    changed[:, -1] = (changed[:, -1] + 1) % logits.shape[-1]
    other = module(**(inputs | {name: changed})).logits
    earlier, moved = logits[:, :-1].float(), other[:, :-1].float()
    return float((moved - earlier).abs().max() / earlier.abs().max().clamp(min=1e-12))


@contextlib.contextmanager
def heads_of(model: torch.nn.Module) -> Iterator[list[Head]]:
    """Measure every attention head of a model during the forward pass made inside."""
    heads: list[Head] = []
    hooks = []
    for name, module in model.named_modules():
        if isinstance(module, MultiHeadAttention):
            hooks += _measure(name.removeprefix("model."), module, heads)
    try:
        yield heads
    finally:
        for hook in hooks:
            hook.remove()


def _measure(name: str, attention: MultiHeadAttention, heads: list[Head]) -> list[Any]:
    """Hook one attention so that a forward pass appends its heads; return the hooks."""
    seen: dict[str, torch.Tensor] = {}

    def keep(role: str):
        def hook(module, inputs, output):
            seen[role] = output.float()

        return hook

    def read(module, inputs):
        seen["input"] = inputs[0].float()

    def finish(module, inputs):
        shares, spreads = _shares(attention, inputs[0].float(), seen["input"]), _spreads(attention, seen)
        lines = zip(shares.tolist(), spreads.tolist(), strict=True)
        single = seen["key"].shape[1] == 1
        heads.extend(
            Head(f"{name} head {number}", share, None if single else spread)
            for number, (share, spread) in enumerate(lines, start=1)
        )

    return [
        attention.register_forward_pre_hook(read),
        attention.q_proj.register_forward_hook(keep("query")),
        attention.k_proj.register_forward_hook(keep("key")),
        attention.out_proj.register_forward_pre_hook(finish),
    ]


def _shares(attention: MultiHeadAttention, context: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Return what each head adds, from contexts (B, T, H*K) to (B, T, D), over the attention's input: (H,)."""
    context = context.unflatten(-1, (-1, attention.v_head_dim))  # (B, T, H, K)
    weight = attention.out_proj.weight.float().unflatten(-1, (-1, attention.v_head_dim))  # (D, H, K)
    added = torch.einsum("bthk,dhk->bthd", context, weight)
    return added.square().mean((0, 1, 3)).sqrt() / source.square().mean().sqrt().clamp(min=1e-12)


def _spreads(attention: MultiHeadAttention, seen: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the deviation of each head's scores over the keys: (H,).

    The variance of q k over the keys is q C q with their covariance C, so that no (T, S) scores are needed.
    """
    query, key = (seen[role].unflatten(-1, (-1, attention.head_dim)) for role in ("query", "key"))  # (B, T or S, H, K)
    key = key - key.mean(1, keepdim=True)
    covariance = torch.einsum("bshi,bshj->bhij", key, key) / key.shape[1]
    variance = torch.einsum("bthi,bhij,bthj->bth", query, covariance, query)
    return variance.clamp(min=0).mean((0, 1)).sqrt() * attention.scaling
