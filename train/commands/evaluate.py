"""`python -m train evaluate`: measure a run, a model folder or a repository of the Hub."""

from train.commands import console
from train.processes import imports


def run(arguments: list[str]) -> int:
    """Measure a run or a model folder."""
    parser = console.parser_of(
        "evaluate", "Measure a run, a model folder or a repository of the Hub; print a table and write results.json."
    )
    parser.add_argument(
        "folder",
        metavar="RUN_OR_MODEL_OR_ID",
        type=str,
        help="a run (its final/ is measured), a model folder, or user/name",
    )
    parser.add_argument("--recipe", type=str | None, help="recipe with the data; default: the run's own recipe.yaml")
    parser.add_argument("--split", type=str | None, help="train, validation or test; default: the recipe's eval.split")
    parser.add_argument("--revision", type=str | None, help="branch, tag or commit of a repository; default: main")
    parser.add_argument(
        "--output", type=str | None, help="folder for results.json; of a repository: runs/evaluated/..."
    )
    console.add_trust(parser, "run code of the folder, where its model is neither ours nor one of transformers")
    options = console.parse(parser, arguments)

    with imports.stay():
        from train.commands.evaluate_folder import evaluate_folder

    console.without_bars()
    evaluate_folder(
        options.folder,
        options.recipe,
        options.split,
        revision=options.revision,
        output=options.output,
        trust_remote_code=options.trust,
    )
    return 0
