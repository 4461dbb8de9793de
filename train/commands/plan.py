"""`python -m train plan`: say what a run will take, without training it."""

import argparse
import json

from train.cost import gpus, plan
from train.errors import UserError
from train.settings.reading import load_recipe

USAGE = "python -m train plan RECIPE.yaml [--KEY VALUE ...] [--gpu NAME ...] [--mfu 0.35] [--price X] [--processes N]"


def run(arguments: list[str]) -> int:
    """Print the plan of a recipe; `arguments` are those of the command line."""
    parser = _parser()
    if "-h" in arguments or "--help" in arguments:
        parser.print_help()
        return 0
    options, recipe_arguments = parser.parse_known_args(arguments)
    for name, holds, rule in (
        ("mfu", 0 < options.mfu <= 1, "must be above 0 and at most 1"),
        ("price", options.price is None or options.price >= 0, "must be at least 0"),
        ("processes", options.processes >= 1, "must be at least 1"),
        ("length", options.length is None or options.length >= 1, "must be at least 1"),
    ):
        if not holds:
            raise UserError(f"--{name}: {getattr(options, name)}: {rule}")
    asked = options.gpu or [*gpus.GPUS, gpus.CPU]
    chosen = gpus.find(asked)
    options.cpu = gpus.CPU in map(str.lower, asked)
    costs = plan.make(load_recipe(recipe_arguments), chosen, options)
    print(json.dumps(costs, indent=2) if options.json else plan.text(costs))
    return 0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"plan: {message}")


def _parser() -> argparse.ArgumentParser:
    """Return the parser of what is not a key of the recipe."""
    parser = _Parser(
        "python -m train plan",
        usage=USAGE,
        description="Say what a recipe will take, without training it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--gpu",
        nargs="+",
        default=[],
        metavar="NAME",
        help=f"of {', '.join(gpus.GPUS)}, or {gpus.CPU}, this machine's; default: all",
    )
    parser.add_argument(
        "--mfu", type=float, default=0.35, help="share of a GPU's peak that is reached (default: 0.35)"
    )
    parser.add_argument("--price", type=float, help="US dollars an hour and GPU, for all of them")
    parser.add_argument("--processes", type=int, default=1, help="GPUs that work together (default: 1)")
    parser.add_argument("--length", type=int, help="tokens a row and side, where the data is not to be read")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser
