"""Adam and the learning rate of section 5.3, a pure function of the step: a resume needs no scheduler."""

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from train.settings.sections import OptimSection


def learning_rate(step: int, optim: "OptimSection", d_model: int, max_steps: int | None = None) -> float:
    """Return the learning rate of one step (Vaswani et al. 2017, sec. 5.3, eq. 3).

    Every schedule climbs linearly to its peak at step `warmup_steps`. Then `inverse_sqrt` falls as 1/sqrt(step), which
    with `lr=None` is eq. 3 itself; `cosine` and `linear` reach `min_lr` at `max_steps`; `constant` stays at the peak.

    Args:
        step: the step about to be taken, counted from 1.
        optim: the recipe's section; `lr=None` means the paper's peak, d_model^-0.5 * warmup_steps^-0.5.
        d_model: width of the model.
        max_steps: length of the run; `cosine` and `linear` need it.

    Raises:
        ValueError: if the step is below 1, or the schedule needs `max_steps` and has none.
    """
    if step < 1:
        raise ValueError(f"step: {step}: steps are counted from 1")
    warmup = max(optim.warmup_steps, 1)
    peak = optim.lr if optim.lr is not None else d_model**-0.5 * warmup**-0.5
    if step < warmup:
        return peak * step / warmup
    return max(optim.min_lr, _after_warmup(step, optim, peak, warmup, max_steps))


def _after_warmup(step: int, optim: "OptimSection", peak: float, warmup: int, max_steps: int | None) -> float:
    """Return the rate of a step past the warm-up."""
    if optim.schedule == "inverse_sqrt":
        return peak * math.sqrt(warmup / step)
    if optim.schedule == "constant":
        return peak
    if max_steps is None:
        raise ValueError(f"optim.schedule: {optim.schedule!r} needs the length of the run, max_steps")
    # A run no longer than its warm-up has nothing left to decay over.
    share = min(1.0, (step - warmup) / max(max_steps - warmup, 1))
    if optim.schedule == "cosine":
        share = 0.5 * (1.0 - math.cos(math.pi * share))
    elif optim.schedule != "linear":
        raise ValueError(f"optim.schedule: {optim.schedule!r}: one of inverse_sqrt, cosine, linear, constant")
    return peak + (optim.min_lr - peak) * share


def build_optimizer(model: torch.nn.Module, optim: "OptimSection") -> torch.optim.AdamW:
    """Return Adam with the betas and epsilon of the recipe (sec. 5.3); decay touches matrices only.

    With `weight_decay=0` AdamW is Adam. Norm gains and biases are never decayed: pulling them to zero changes the
    scale of a layer, not its complexity. The learning rate is set by the loop before every step.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=0.0,
        betas=(optim.beta1, optim.beta2),
        eps=optim.eps,
        fused=True,  # three to four times as fast as the loop over tensors, on a CPU too
    )
