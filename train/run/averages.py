"""The moving average of the weights, kept beside the training (Polyak and Juditsky 1992; as TensorFlow's tutorials have it).

After step t: average = d * average + (1 - d) * weights, with d = min(decay, (1 + t) / (10 + t)), so that the random weights
of the start are forgotten soon. d is a function of the step alone, and the average is in fp32 whatever the weights are in: a
resumed run has the same one, bit for bit.

torch's `AveragedModel` is not used: its first update copies the weights, it averages in their precision, and it keeps a second
module, whose state has other names than the trainable weights of a checkpoint.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file

from train.errors import UserError

FILE = "ema.safetensors"


class MovingAverage:
    """An fp32 copy of a model's trainable weights that follows them.

    Every process keeps its own; since they update their weights alike, the copies are alike.

    Args:
        model: the bare model, with the weights of the start.
        decay: share of the average that stays at each step, in (0, 1).
    """

    def __init__(self, model: torch.nn.Module, decay: float):
        self.model, self.decay = model, decay
        self.values = {name: weight.detach().float().clone() for name, weight in self._weights()}

    def _weights(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Yield the trainable weights by name; a tied one once."""
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weight in self._weights():
            self.values[name].lerp_(weight.detach().float(), 1.0 - decay)

    def put(self) -> None:
        """Replace the model's weights by the average."""
        for name, weight in self._weights():
            weight.detach().copy_(self.values[name])

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Lend the model the average, and give its own weights back, bit for bit."""
        before = [weight.detach().clone() for _, weight in self._weights()]
        self.put()
        try:
            yield
        finally:
            for (_, weight), value in zip(self._weights(), before, strict=True):
                weight.detach().copy_(value)

    def load(self, folder: Path) -> None:
        """Take over the average of a checkpoint.

        Raises:
            UserError: the checkpoint has none, or one of another model.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise UserError(f"{path}: missing; this checkpoint was written without loop.ema")
        saved = load_file(path)
        if {name: value.shape for name, value in saved.items()} != {n: v.shape for n, v in self.values.items()}:
            raise UserError(f"{path}: holds the average of another model")
        for name, value in self.values.items():
            value.copy_(saved[name])
