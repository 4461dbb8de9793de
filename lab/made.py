"""Made data: rows of tokens drawn from a seed. The special ids are those of the package's config and tokenizers."""

from collections.abc import Iterator

import torch

PAD, MARK, START, END, FIRST = 0, 1, 2, 3, 4
"""Padding, a separator, the start of a target, the end of a sequence, and the id of the first ordinary token."""


def pairs(
    task: str, seed: int, batch: int, shortest: int, longest: int, symbols: int = 20
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (source, target) batches without end, all rows of a batch of one length n.

    Args:
        task: "copy" or "reverse".
        batch: Rows B.
        symbols: Ordinary tokens to draw from.

    Returns:
        source (B, n + 1), which ends in END; target (B, n + 2): START, the n tokens, END.
    """
    if task not in ("copy", "reverse"):
        raise ValueError(f"task: {task!r}; one of copy, reverse")
    draw = torch.Generator().manual_seed(seed)
    while True:
        length = int(torch.randint(shortest, longest + 1, (1,), generator=draw))
        tokens = torch.randint(FIRST, FIRST + symbols, (batch, length), generator=draw)
        answer = tokens.flip(1) if task == "reverse" else tokens
        edge = torch.ones(batch, 1, dtype=torch.long)
        yield torch.cat([tokens, edge * END], 1), torch.cat([edge * START, answer, edge * END], 1)
