"""`python -m train average`: write the mean of a run's last checkpoints as a model folder."""

from pathlib import Path

from train.commands import console
from train.errors import UserError
from train.processes import imports


def run(arguments: list[str]) -> int:
    """Average the last checkpoints of a run."""
    parser = console.parser_of(
        "average", "Write the mean of the last checkpoints' weights as a model folder, RUN/average."
    )
    parser.add_argument("run_dir", metavar="RUN", type=str, help="folder of the run")
    parser.add_argument("--last", type=int, default=5, help="how many checkpoints")
    options = console.parse(parser, arguments)

    with imports.stay():
        from train import files
        from train.run import mean

    files.refuse_missing(options.run_dir)
    if not (Path(options.run_dir) / files.CHECKPOINTS).is_dir():
        raise UserError(f"{options.run_dir}: not the folder of a run, it has no checkpoints/")
    folder = mean.average(Path(options.run_dir), options.last)
    recipe = Path(options.run_dir) / files.RECIPE
    print(f"average of the last {options.last} checkpoints: {folder}")
    print(f"measure it: python -m train evaluate {folder} --recipe {recipe}")
    return 0
