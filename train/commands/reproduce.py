"""`python -m train reproduce`: train a published run again, and compare."""

from train.commands import console
from train.processes import imports


def run(arguments: list[str]) -> int:
    """Train a published run again and compare."""
    parser = console.parser_of(
        "reproduce",
        "Train the recipe of a published run into a run folder of its own, on data with the same hash, and compare every "
        "figure of its results.json. The same command again goes on. Exit code 1: a figure is not within its tolerance.",
    )
    parser.add_argument(
        "place", metavar="RUN_OR_ID", type=str, help="a run, a published folder, or user/name on the Hub"
    )
    parser.add_argument("--revision", type=str | None, help="branch, tag or commit; default: the main branch")
    parser.add_argument("--run_dir", type=str | None, help="folder of the new run; default: runs/<name>-reproduced")
    parser.add_argument("--data.root", dest="root", type=str | None, help="folder of the data; default: the recipe's")
    parser.add_argument(
        "--tolerance", type=str | None, help="bleu=1,loss=2%: instead of ours, which results.json may narrow"
    )
    options = console.parse(parser, arguments)

    with imports.stay():
        from train.commands import fit
        from train.commands.reproduction import reproduce

    return reproduce(
        options.place, options.revision, options.run_dir, options.root, options.tolerance, train=fit.train
    )
