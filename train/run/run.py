"""A run while it is trained: what it works with, where it stands, and what it asks of whoever publishes it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from train.data import examples
from train.run import averages
from train.run.writer import Writer
from train.settings.recipe import Recipe


class Publisher(Protocol):
    """Sends checkpoints somewhere while training goes on; `train.hub.push.Pusher` is one. Main process only."""

    def offer(self, step: int, last: bool = False) -> None:
        """Take the checkpoint of a step, which may be deleted afterwards.

        Args:
            step: of a checkpoint that is on disk.
            last: whether the run ends with it.
        """

    def close(self) -> None:
        """Wait until what was taken is sent, or until that takes too long."""


class Publishing(Protocol):
    """What makes publishers; the module `train.hub.push` is one."""

    def check(self, recipe: Recipe) -> None:
        """Find out before the training whether checkpoints could be sent.

        Raises:
            UserError: they could not.
        """

    def begin(self, run: "Run") -> Publisher:
        """Return the publisher of a run."""


@dataclass
class Progress:
    """Where a run stands. Plain numbers, so that JSON holds all of it.

    Attributes:
        step: updates done.
        epoch: pass over the data that the next batch belongs to, from 0.
        position: global batches of that pass already used.
        stream: where the data of that pass begin, for data that is streamed.
        tokens: real tokens seen, over all processes.
        seconds: time spent training, over all starts of the run.
        flops: of the model over those tokens, see `train.cost.flops`.
        evaluated: step of the last evaluation, 0 = none yet.
        best: best value of `eval.best_metric`, None = none yet.
        best_step: the step it was measured at.
        bad_evals: evaluations since then.
        watch: what the watchdog remembers.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    stream: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    flops: int = 0
    evaluated: int = 0
    best: float | None = None
    best_step: int = 0
    bad_evals: int = 0
    watch: dict[str, Any] = field(default_factory=dict)


@dataclass
class Run:
    """All that a run works with.

    Attributes:
        recipe: the resolved recipe.
        folder: folder of the run.
        accelerator: processes, devices and precision.
        tokenizer: the run's tokenizer.
        splits: raw rows by split.
        train: encoded training rows.
        model: the model as accelerate wraps it.
        bare: the model itself.
        optimizer: Adam.
        progress: where the run stands.
        identity: hashes that a checkpoint carries and a resume compares.
        random: random state of this rank to start from, None = as it is.
        average: moving average of the weights, None = not wanted.
        writer: writes checkpoints while training goes on; main process only.
        saved: step of the newest checkpoint that was begun.
        history: the parts of the run's way, see `train.run.history`; main process only.
        publisher: takes checkpoints while training goes on; main process only, None = not wanted.
    """

    recipe: Recipe
    folder: Path
    accelerator: Accelerator
    tokenizer: PreTrainedTokenizerFast
    splits: dict[str, Dataset]
    train: examples.Examples
    model: torch.nn.Module
    bare: PreTrainedModel
    optimizer: AcceleratedOptimizer
    progress: Progress
    identity: dict[str, Any]
    random: dict[str, torch.Tensor] | None = None
    average: averages.MovingAverage | None = None
    writer: Writer = field(default_factory=Writer)
    saved: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    publisher: Publisher | None = None
