"""`python -m train curves`: draw the course of a run."""

from pathlib import Path

from train.commands import console


def run(arguments: list[str]) -> int:
    """Draw the course of a run."""
    parser = console.parser_of(
        "curves",
        "Draw losses, learning rate and gradient norm of a run over its steps, as a PNG; with eval.look its film too.",
    )
    parser.add_argument("run_dir", metavar="RUN", type=str, help="folder of the run; it may still be training")
    parser.add_argument(
        "--output", type=str | None, help="the picture to write; default: curves.png in the run folder"
    )
    options = console.parse(parser, arguments)

    from train import files
    from train.pictures import curves, film

    print(curves.of_run(options.run_dir, options.output))
    if options.output is None and (Path(options.run_dir) / files.MAPS).is_dir():
        print(film.of_run(options.run_dir))
    return 0
