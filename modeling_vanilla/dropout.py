"""Dropout (Srivastava et al. 2014; Vaswani et al. 2017, sec. 5.4), on a CPU from sixteen random bits a number (decision 057)."""

import functools
import platform
from pathlib import Path

import torch
from torch import nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode
from transformers.utils.import_utils import is_tracing

STEPS = 1 << 16
"""How finely a probability is resolved on a CPU: 0.1 becomes 6554 / 65536, and the numbers that stay are scaled to match."""


def drop(hidden_states: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Set each number to zero with a probability, and divide the others by one minus it.

    On a CPU that is not Intel's, torch's own draws a number for each place, one after another, which takes up to an eighth of a
    training step. Here four places share the bits of one draw. The same seed gives other zeros than torch's own.

    Args:
        hidden_states: any shape.
        p: the probability, from 0 to 1.
        training: whether to; otherwise what came in is returned.
    """
    if not training or p == 0:
        return hidden_states
    zeros = round(p * STEPS)
    if not 0 < zeros < STEPS or not _is_plain(hidden_states):
        return nn.functional.dropout(hidden_states, p, training)
    number = hidden_states.numel()
    bits = torch.empty((number + 3) // 4, dtype=torch.int64, device="cpu").random_(-(2**63), None)
    signed = bits.view(torch.int16)[:number].view(hidden_states.shape)  # each of -32768 to 32767 as often
    kept = torch.ge(signed, zeros - STEPS // 2, out=torch.empty_like(hidden_states, requires_grad=False))
    return hidden_states * kept.mul_(STEPS / (STEPS - zeros))


def _is_plain(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor is one on a CPU whose operations nothing records or batches: that knows torch's own dropout, not ours."""
    if type(tensor) is not torch.Tensor or tensor.device.type != "cpu" or _mkl_draws():
        return False
    is_watched = is_tracing(tensor) or is_in_torch_dispatch_mode()
    return not is_watched and torch._C._functorch.peek_interpreter_stack() is None


@functools.cache
def _mkl_draws() -> bool:
    """Tell whether torch lets MKL draw, many numbers at once and on all threads, as it does on Intel's CPUs alone."""
    known = Path("/proc/cpuinfo")
    vendor = known.read_text(errors="replace") if known.exists() else platform.processor()
    return "GenuineIntel" in vendor and torch.backends.mkl.is_available()


class Dropout(nn.Dropout):
    """torch's module with the function above."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the input with some numbers set to zero; of any shape."""
        return drop(input, self.p, self.training)
