"""The maximum path length of Table 1 (Vaswani et al. 2017, sec. 4), counted by powers of boolean matrices.

A[i, j] says that position i reads position j in one layer (or one step of a recurrence); row i of A^k says what it has seen
after k of them. Dimension letter: T length n.
"""

from collections.abc import Callable

import torch


def reads(rule: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], length: int) -> torch.Tensor:
    """Return A (T, T) for a rule of readers i (T, 1) and read positions j (T,)."""
    places = torch.arange(length)
    return rule(places[:, None], places).expand(length, length)


def joined(seen: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
    """Return what is seen (T, T) after one more layer, which reads `read` (T, T)."""
    return (seen.float() @ read.float()) > 0


def longest_path(layer: torch.Tensor, needed: torch.Tensor) -> int:
    """Return how many equal layers it takes until all pairs of `needed` (T, T) are joined.

    A, A², A⁴ ... until one joins all; then the smallest power, bit by bit. Every position reads itself, so that what is
    seen only grows.

    Args:
        layer: A, with a diagonal of True.
        needed: Pairs that must be joined: all, or for a causal layer those with j <= i.

    Raises:
        ValueError: No number of layers joins them all.
    """
    powers = [layer]
    while not (powers[-1] | ~needed).all():
        powers.append(joined(powers[-1], powers[-1]))
        if torch.equal(*powers[-2:]):
            raise ValueError(f"pairs of {len(needed)} positions stay apart however many layers there are")
    seen, depth = torch.eye(len(needed), dtype=torch.bool), 0
    for exponent in reversed(range(len(powers))):
        further = joined(seen, powers[exponent])
        if not (further | ~needed).all():
            seen, depth = further, depth + 2**exponent
    return depth + 1


def longest_path_dilated(length: int, width: int) -> int:
    """Return the same for causal convolutions whose dilation grows: 1, k, k² ... (Kalchbrenner et al. 2017, sec. 3.4)."""
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    seen, depth = torch.eye(length, dtype=torch.bool), 0
    while not (seen | ~causal).all():
        seen, depth = joined(seen, dilated(length, width, width**depth)), depth + 1
    return depth


def dilated(length: int, width: int, step: int) -> torch.Tensor:
    """Return what a causal convolution of `width` positions reads that lie `step` apart."""
    return reads(lambda i, j: (j <= i) & ((i - j) % step == 0) & (i - j < width * step), length)


def root(length: int) -> int:
    """Return the stride of Sparse Transformer, near the root of n (Child et al. 2019, sec. 4.2)."""
    return max(1, int(length**0.5))


def strided(length: int) -> torch.Tensor:
    """Return Sparse Transformer's strided pattern: the l positions before, and every l-th (Child et al. 2019, sec. 4.3)."""
    stride = root(length)
    return reads(lambda i, j: (j <= i) & ((i - j < stride) | ((i - j) % stride == 0)), length)


def fixed(length: int) -> torch.Tensor:
    """Return its fixed pattern: the position's own block, and the last of each block (Child et al. 2019, sec. 4.3)."""
    stride = root(length)
    return reads(lambda i, j: (j <= i) & ((i // stride == j // stride) | (j % stride == stride - 1)), length)


def path_lengths(length: int, window: int, width: int) -> dict[str, int]:
    """Return the longest path between any two positions of `length`, by kind of layer.

    Args:
        length: n, the number of positions.
        window: r of restricted self-attention.
        width: k of the convolution, odd.
    """
    everything = torch.ones(length, length, dtype=torch.bool)
    causal = everything.tril()
    half = width // 2
    return {
        "self-attention": longest_path(everything, everything),
        "restricted": longest_path(reads(lambda i, j: (i - j).abs() <= window // 2, length), everything),
        "recurrent": longest_path(reads(lambda i, j: (i == j) | (i == j + 1), length), causal),
        "convolution": longest_path(reads(lambda i, j: (i - j).abs() <= half, length), everything),
        "convolution, dilated": longest_path_dilated(length, width),
        "sparse, strided": longest_path(strided(length), causal),
        "sparse, fixed": longest_path(fixed(length), causal),
    }
