"""`python -m train attention`: draw where a translation looks."""

from pathlib import Path

from train.commands import console
from train.processes import imports


def run(arguments: list[str]) -> int:
    """Draw the cross-attention of one translation."""
    parser = console.parser_of(
        "attention", "Translate a text and draw where each output token looked, one panel per head."
    )
    parser.add_argument(
        "folder", metavar="RUN_OR_MODEL", type=str, help="a run, or a model folder of an encoder-decoder"
    )
    parser.add_argument("text", metavar="TEXT", type=str, help="the source text")
    parser.add_argument(
        "--output", type=str | None, help="the picture to write; default: attention.png in the run, or model, folder"
    )
    options = console.parse(parser, arguments)

    with imports.stay():
        from train import files
        from train.model import loading
        from train.pictures import attention

    run, model = loading.locate(Path(options.folder))
    print(attention.of_model(options.folder, options.text, options.output or (run or model) / files.ATTENTION))
    return 0
