"""What the generators of data share: their rows, the refusal of a wrong argument, and how their gold is printed."""

import json
import sys
from collections.abc import Callable, Iterable

from train.errors import UserError

Rows = dict[str, list[str]]
Aligned = tuple[str, str, list[list[int]]]
"""A source, its target, and for each character of the target the places of the characters of the source that decide it."""


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Refuse an argument of a generator.

    Raises:
        UserError: the rule does not hold.
    """
    if not holds:
        raise UserError(f"data.generator_args.{name}: {value!r} {rule}")


def as_lines(pairs: Iterable[Aligned]) -> list[str]:
    """Return pairs as lines of JSON, as `python -m modeling_vanilla look --report --gold FILE` reads them."""
    return [
        json.dumps({"source": source, "target": target, "gold": gold}, ensure_ascii=False)
        for source, target, gold in pairs
    ]


def print_gold(module: str, with_gold: Callable[[int], list[str]]) -> None:
    """Print as many pairs as the command line asks for."""
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal() or not int(sys.argv[1]):
        sys.exit(f"usage: python -m train.data.{module} PAIRS; PAIRS must be a number of at least 1")
    print("\n".join(with_gold(int(sys.argv[1]))))
