"""The four kinds of layer of Table 1 (Vaswani et al. 2017, sec. 4), and what each should cost.

Dimension letters: B batch, T length n, D width d, H heads, K head_dim, W half a window, N blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from modeling_vanilla import VanillaConfig
from modeling_vanilla.attention import MultiHeadAttention

WINDOW, WIDTH = 64, 3
"""r of restricted self-attention, k of the convolution."""


class Blocks(MultiHeadAttention):
    """Restricted self-attention that computes only near pairs: blocks of W queries, each with three blocks of keys.

    A window that is a mask over all pairs computes them all and throws most away.
    """

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        """Map (B, T, D) to (B, T, D)."""
        query, key, value = (
            self._split_heads(project(hidden_states), self.head_dim)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, H, T, K)
        context = near(query * self.scaling, key, value, self.config.attention_window // 2)
        return self.out_proj(context.transpose(1, 2).flatten(2)), None


def near(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, half: int) -> torch.Tensor:
    """Attend where |i - j| <= half, for scaled queries, keys and values (B, H, T, K): the context, of the same shape."""
    length = query.shape[2]
    spare = -length % half
    blocks = (length + spare) // half
    query = F.pad(query, (0, 0, 0, spare)).unflatten(2, (blocks, half))  # (B, H, N, W, K)
    key, value = (
        F.pad(side, (0, 0, half, half + spare)).unfold(2, 3 * half, half) for side in (key, value)
    )  # (B, H, N, K, 3W)
    rows = torch.arange(half, device=query.device)[:, None]  # (W, 1)
    columns = torch.arange(-half, 2 * half, device=query.device)  # (3W,), from the start of the block
    starts = torch.arange(blocks, device=query.device)[:, None, None] * half  # (N, 1, 1)
    seen = ((rows - columns).abs() <= half) & (starts + columns >= 0) & (starts + columns < length)  # (N, W, 3W)
    scores = (query @ key).masked_fill(~seen, torch.finfo(query.dtype).min)  # (B, H, N, W, 3W)
    context = scores.softmax(-1) @ value.transpose(-1, -2)  # (B, H, N, W, K)
    return context.flatten(2, 3)[:, :, :length]


class Recurrent(nn.Module):
    """One GRU (Cho et al. 2014): (B, T, D) to (B, T, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Read from left to right."""
        return self.gru(states)[0]


class Convolution(nn.Module):
    """One convolution over k positions, without a bias: (B, T, D) to (B, T, D)."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv1d(width, width, WIDTH, padding=WIDTH // 2, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Join each position with its neighbours."""
        return self.conv(states.transpose(1, 2)).transpose(1, 2)


class States(nn.Module):
    """An attention whose weights are left out of its output."""

    def __init__(self, attention: MultiHeadAttention):
        super().__init__()
        self.attention = attention

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Attend from (B, T, D) to itself."""
        return self.attention(states)[0]


@dataclass
class Layer:
    """A row of Table 1.

    Attributes:
        build: Makes the layer from its width and the name of the attention kernel.
        operations: Operations of a forward pass by n and d, 2 for a multiplication and addition.
        written: The same as text, without the 2.
        sequential: The paper's sequential operations.
    """

    name: str
    build: Callable[[int, str], nn.Module]
    operations: Callable[[int, int], float]
    written: str
    sequential: str


def attention(width: int, kernel: str, heads: int = 0, kind=MultiHeadAttention, **settings) -> MultiHeadAttention:
    """Return one of this package's attentions; heads are 64 wide where no number is given, as in base."""
    config = VanillaConfig(
        variant="encoder", d_model=width, num_heads=heads or max(1, width // 64), num_layers=1, **settings
    )
    config._attn_implementation = kernel
    return kind(config, 0)


LAYERS = (
    Layer(
        "self-attention",
        lambda d, kernel: States(attention(d, kernel)),
        lambda n, d: 4 * n * n * d + 8 * n * d * d,
        "2 n² d + 4 n d²",
        "O(1)",
    ),
    Layer(
        "restricted, a mask",
        lambda d, kernel: States(attention(d, kernel, attention_window=WINDOW)),
        lambda n, d: 4 * n * n * d + 8 * n * d * d,
        "2 n² d + 4 n d²",
        "O(1)",
    ),
    Layer(
        "restricted, in blocks",
        lambda d, kernel: States(attention(d, kernel, kind=Blocks, attention_window=WINDOW)),
        lambda n, d: 4 * 1.5 * WINDOW * n * d + 8 * n * d * d,
        "3 r n d + 4 n d²",
        "O(1)",
    ),
    Layer("recurrent (GRU)", lambda d, kernel: Recurrent(d), lambda n, d: 12 * n * d * d, "6 n d²", "O(n)"),
    Layer(
        "convolution",
        lambda d, kernel: Convolution(d),
        lambda n, d: 2 * WIDTH * n * d * d,
        "k n d²",
        "O(1)",
    ),
)


def counted(layer: nn.Module, states: torch.Tensor) -> int:
    """Return the operations of a forward pass as torch counts them: those of every matrix product that it sees."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(states)
    return counter.get_total_flops()


def check_count(layer: Layer, length: int, width: int, kernel: str = "eager") -> float:
    """Return counted operations over those of the formula.

    The counter does not see into every fused kernel: of the CPU's sdpa it counts nothing. A count is worth something
    only where the formula is met, so a difference of more than 1 % is an error.

    Raises:
        ValueError: The count is off by more than 1 %.
    """
    count = counted(layer.build(width, kernel), torch.randn(1, length, width))
    ratio = count / layer.operations(length, width)
    if abs(ratio - 1) > 0.01:
        raise ValueError(
            f"{layer.name}: {count:,} operations counted at n={length}, d={width}, {ratio:.0%} of the formula; a kernel of "
            f"attn_implementation={kernel!r} is not counted"
        )
    return ratio
