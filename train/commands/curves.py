"""`python -m train curves`: draw the course of a run."""

from train.commands import console


def run(words: list[str]) -> int:
    """Draw the course of a run."""
    parser = console.parser_of(
        "curves", "Draw losses, learning rate and gradient norm of a run over its steps, as a PNG."
    )
    parser.add_argument("run_dir", metavar="RUN", type=str, help="folder of the run; it may still be training")
    parser.add_argument(
        "--output", type=str | None, help="the picture to write; default: curves.png in the run folder"
    )
    options = console.parse(parser, words)

    from train.pictures import plots

    print(plots.curves_of(options.run_dir, options.output))
    return 0
