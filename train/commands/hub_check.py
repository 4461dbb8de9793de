"""`python -m train hub-check`: check that a repository works for a stranger."""

from train.commands import console
from train.processes import imports


def run(arguments: list[str]) -> int:
    """Check that a repository works for a stranger."""
    parser = console.parser_of(
        "hub-check",
        "Check a folder or a repository of the Hub in an empty cache, offline, in a process without this project: files, "
        "weights, code, card, every Auto class, the same numbers, pipelines, a step of the Trainer. Exit code 1: it fails.",
    )
    parser.add_argument("place", metavar="MODEL_OR_ID", type=str, help="a model folder, or user/name on the Hub")
    parser.add_argument("--revision", type=str | None, help="branch, tag or commit; default: the main branch")
    console.add_trust(parser, "run code that is not that of the installed package")
    options = console.parse(parser, arguments)

    with imports.stay():
        from train.hub.check import report

    console.without_bars()
    examined = report.check(options.place, options.revision, options.trust)
    print(examined)
    return int(examined.failed)
