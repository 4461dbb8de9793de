"""The arithmetic that a run gets done: FLOPs of the real tokens of a batch, by `formulas`.

What padding, recomputed activations and kernels spend beside them is no progress, so it lowers the utilisation (Chowdhery et
al. 2022, "PaLM", appendix B).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

import modeling_vanilla
from modeling_vanilla.losses import IGNORE
from train.cost import formulas
from train.tasks import TASKS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from modeling_vanilla import VanillaConfig
    from train.data.collate import Batch


def load_of(inputs: dict[str, torch.Tensor], variant: str) -> formulas.Load:
    """Return what a batch of `collate.Collator` puts through a model, padding left out.

    Rows that hold several sequences, told by positions that restart, count as those sequences: attention does not cross
    their borders.
    """
    first = _sequence_lengths(inputs.get("attention_mask"), inputs.get("position_ids"))
    labels = inputs.get("labels", inputs["input_ids"])
    tokens, pairs = int(first.sum()), int((first * first).sum())
    if variant == "encoder":
        outputs = int((labels != IGNORE).sum()) if labels.dim() == 2 else len(labels)
        return formulas.Load(source=tokens, source_pairs=pairs, outputs=outputs)
    if variant == "decoder":
        return formulas.Load(target=tokens, target_pairs=pairs, outputs=tokens)
    target = _sequence_lengths(labels != IGNORE, inputs.get("decoder_position_ids"))
    written = int(target.sum())
    return formulas.Load(tokens, written, pairs, int((target * target).sum()), int((target * first).sum()), written)


def _sequence_lengths(mask: torch.Tensor | None, position_ids: torch.Tensor | None) -> torch.Tensor:
    """Return the length of every sequence in rows (B, T), in the order of the rows.

    Args:
        mask: (B, T), nonzero = real; one of another shape, or none, leaves it to the positions to tell.
        position_ids: (B, T), restarting with each sequence of a row, 0 at padding behind them; None = one to a row.
    """
    if position_ids is None:
        return mask.ne(0).sum(-1)
    if mask is None or mask.dim() != 2:
        # Padding is what lies behind the last place that is not 0.
        mask = position_ids.ne(0).flip(-1).cumsum(-1).flip(-1)
    real = mask.ne(0)
    starts = (position_ids.eq(0) & real).flatten()
    return torch.bincount(starts.cumsum(0)[real.flatten()])[1:]


def of_step(model: "PreTrainedModel", micro: Sequence["Batch"]) -> int:
    """Return the training FLOPs of one process's micro-batches; one without real tokens only keeps the processes in step."""
    config: Any = model.config
    task = next(name for name, task in TASKS.items() if isinstance(model, getattr(modeling_vanilla, task.head)))
    return sum(of_batch(config, task, batch.inputs) for batch in micro if batch.real_tokens)


def of_batch(config: "VanillaConfig", task: str, inputs: dict[str, torch.Tensor]) -> int:
    """Return the training FLOPs of a batch's real tokens."""
    load = load_of(inputs, config.variant)
    if TASKS[task].has_tags or TASKS[task].has_spans:
        load.outputs = load.source  # every token has scores, also one without a label
    forward = formulas.forward_flops(config, task, load)
    return round(formulas.training_flops(forward))
