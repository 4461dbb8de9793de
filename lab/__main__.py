"""`python -m lab NAME`: run one lab; without a name, list them."""

import argparse
import importlib
import sys
import time
from pathlib import Path
from typing import Any

import torch

# The name of each lab, in the order of the course: `lab/NAME.py` has TITLE (one line), SECONDS (with --quick, on one slow
# core), `options(parser)` where it has any of its own, and `run(options) -> Outcome`.
LABS = tuple(
    "lookup tokens learning ladder forget roles scale mask source order heads ffn depth halves cost longer numbers words".split()
)  # fmt: skip
FOLDER = Path("runs/lab")


def main(words: list[str]) -> int:
    """Run one lab and write its table and picture."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: python -m lab NAME [--seeds N] [--no-quick] [--output FOLDER]\n")
        for name in LABS:
            module = importlib.import_module(f"lab.{name}")
            print(f"  {name:8} {module.SECONDS:4d} s  {module.TITLE}")
        return 0
    if words[0] not in LABS:
        print(f"lab: {words[0]}: no such lab; one of {', '.join(LABS)}", file=sys.stderr)
        return 2
    options, lab = _parsed(words)
    print(
        f"{options.name}: {lab.TITLE}\nabout {lab.SECONDS} s on one slow core with one seed and --quick\n", flush=True
    )
    torch.set_num_threads(1)  # a second one costs these small tensors more than it brings
    start = time.perf_counter()
    try:
        outcome = lab.run(options)
    except ValueError as error:
        print(f"lab {options.name}: {error}", file=sys.stderr)
        return 2
    print(outcome.text())
    settings = {name: value for name, value in vars(options).items() if isinstance(value, int) or name == "task"}
    settings["seconds"] = round(time.perf_counter() - start)
    for path in outcome.write(options.output, options.name, settings):
        print(f"wrote {path}")
    return 0


def _parsed(words: list[str]) -> tuple[argparse.Namespace, Any]:
    lab: Any = importlib.import_module(f"lab.{words[0]}")
    parser = argparse.ArgumentParser(prog=f"python -m lab {words[0]}", description=lab.TITLE)
    parser.set_defaults(name=words[0])
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds; more than one gives mean ± deviation")
    parser.add_argument(
        "--quick",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the size of the course, under three minutes",
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help=f"folder of table and picture ({FOLDER})")
    if hasattr(lab, "options"):
        lab.options(parser)
    options = parser.parse_args(words[1:])
    if options.seeds < 1:
        parser.error(f"--seeds: {options.seeds}: must be at least 1")
    return options, lab


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
