# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A search as text: its tree, and a table of several searches of one sentence. And as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from .search import Result
from .view import Hypothesis, Search

FATES = {
    "kept": "no longer among the best",
    "winner": "the winner",
    "ended": "ended, worse than the winner",
    "length": "ended, behind the winner by the length penalty alone",
    "worse": "worse than the k-th",
}


def tree(search: Search) -> str:
    """Draw a search as lines: a hypothesis stands below the one that it branched from.

    Tokens that follow each other without a branch stand on one line. Behind it stand the step of its last token, its
    score in nats, and its fate; what was worse than the k-th right behind one of its tokens stands below it.
    """
    children: dict[int | None, list[int]] = {}
    for number, node in enumerate(search.nodes):
        children.setdefault(node.parent, []).append(number)
    lines: list[str] = []
    open_branches = [(number, "") for number in reversed(_alive(search, children, None))]
    lines += _dead(search, children, [None], "")
    while open_branches:  # not a recursion: a text may have more tokens than Python has frames
        number, indent = open_branches.pop()
        chain = [number]
        while len(following := _alive(search, children, chain[-1])) == 1:
            chain += following
        last = search.nodes[chain[-1]]
        fate = "" if following else f"  {FATES[last.fate]}"
        text = "".join(_shown(search.nodes[place]) for place in chain)
        lines.append(f"{indent}{text}  [{last.step + 1}] {last.score:.2f}{fate}")
        lines += _dead(search, children, list(chain), indent + "  ")
        open_branches += [(place, indent + "  ") for place in reversed(following)]
    return "\n".join(lines)


def table(results: Sequence[Result]) -> str:
    """Compare several searches of one sentence, each beside the reference's own score.

    Scores are divided by length ** length penalty, so that only those of one line can be compared.
    """
    rows = [
        ("beams", "length penalty", "nats", "tokens", "score", "reference", "what a difference comes from", "text")
    ]
    for result in results:
        penalty = result.search.length_penalty
        reference = "" if result.reference is None else f"{result.reference[0] / result.reference[1] ** penalty:.4f}"
        numbers = (f"{result.score:.4f}", str(result.length), f"{result.final:.4f}", reference)
        rows.append((str(result.search.beams), f"{penalty:g}", *numbers, result.verdict, result.text))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(results: Sequence[Result]) -> str:
    """Write searches as JSON, every node of their trees included."""
    return json.dumps([asdict(result) for result in results], indent=2, ensure_ascii=False)


def _alive(search: Search, children: dict[int | None, list[int]], parent: int | None) -> list[int]:
    """Return the children that others grew from, or that ended."""
    return [number for number in children.get(parent, []) if search.nodes[number].fate != "worse"]


def _dead(search: Search, children: dict[int | None, list[int]], parents: list[int | None], indent: str) -> list[str]:
    """Return one line of what was worse than the k-th behind these nodes."""
    dead = [
        search.nodes[number]
        for parent in parents
        for number in children.get(parent, [])
        if search.nodes[number].fate == "worse"
    ]
    shown = ", ".join(f"{_shown(node)} [{node.step + 1}] {node.score:.2f}" for node in dead)
    return [f"{indent}x {shown}"] if dead else []


def _shown(node: Hypothesis) -> str:
    """Return a label without what a terminal would obey: a stranger's tokenizer may hold anything."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in node.label)
