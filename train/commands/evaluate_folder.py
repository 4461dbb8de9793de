"""A folder or a repository, measured: its results.json written and its table printed."""

import dataclasses
import os
from pathlib import Path

from accelerate import Accelerator

from train import files
from train.data.splits import fingerprint, label_names, load_splits
from train.errors import UserError
from train.hub import fetch
from train.measure import provenance, results
from train.measure.evaluate import evaluate
from train.model import loading
from train.processes import environment
from train.settings.reading import load_recipe

# What a model and a tokenizer of any kind are read from. Pickle is not among it, nor is code, which has a flag of its own.
FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja")


def evaluate_folder(
    folder,
    recipe=None,
    split=None,
    *,
    revision=None,
    output=None,
    trust_remote_code=False,
    accelerator=None,
    splits=None,
) -> dict:
    """Score a run, a model folder or a repository of the Hub, write results.json and print a small table.

    Args:
        folder: a run (then its `final/` is scored and the run's results.json written), a folder with a model and
            tokenizer (then results.json is written beside them), or user/name on the Hub.
        recipe: a `Recipe`, or the path of one; None = the recipe.yaml of the run the folder belongs to.
        split: None = the recipe's `eval.split`.
        revision: branch, tag or commit of a repository; None = its main branch.
        output: folder for results.json; None = as above, and for a repository `runs/evaluated/<user>--<name>`.
        trust_remote_code: run code of the folder, where the model is neither ours nor one of transformers.
        accelerator: one that exists already; None makes one.
        splits: the data, where it is loaded already.

    Returns:
        The content of results.json.

    Raises:
        UserError: no model there, or no recipe to be found.
    """
    identity: dict[str, str] = {}
    if _on_the_hub(str(folder), recipe, revision):
        output = output or Path("runs") / "evaluated" / str(folder).replace("/", "--")
        folder, identity = fetched(str(folder), revision, trust_remote_code)
    run_dir, model_folder = (None, Path(folder)) if identity else loading.locate(Path(folder))
    recipe_path = run_dir / files.RECIPE if run_dir and recipe is None else None
    recipe = _recipe_for(recipe, run_dir, Path(folder))
    if accelerator is None:
        environment.settle()
        accelerator = Accelerator(mixed_precision="bf16" if recipe.loop.precision == "bf16" else "no")
        environment.refuse_alone(accelerator.num_processes)
    loaded = loading.load(model_folder, recipe.task, run_dir, trust_remote_code)
    record = _measured(loaded, model_folder, run_dir, recipe, splits, split or recipe.eval.split, accelerator)
    if recipe_path:  # in words of the version that wrote it, which may have known fewer keys
        record["recipe_hash"] = provenance.hash_of_file(recipe_path)
    record["model"] = identity | {"class": type(loaded[0]).__name__}
    output_folder = (
        Path(output) if output else run_dir if run_dir and model_folder == run_dir / files.FINAL else model_folder
    )
    if accelerator.is_main_process:
        output_folder.mkdir(parents=True, exist_ok=True)
        path = results.write(output_folder, record, recipe.eval.split)
        print(f"{results.table(record)}\nwritten to {path}")
    accelerator.wait_for_everyone()
    return record


def _measured(loaded, folder: Path, run_dir: Path | None, recipe, splits, split: str, accelerator) -> dict:
    """Return the content of results.json for a (model, tokenizer) that was loaded from a folder."""
    model, tokenizer = loaded
    splits = splits or load_splits(recipe)
    if (names := label_names(next(iter(splits.values())))) is not None:
        loading.check_classes(model, names, folder)
    measured = evaluate(
        model.to(accelerator.device), tokenizer, splits, _as_read_by(model, recipe), accelerator, split
    )
    return results.build(
        measured,
        recipe=recipe,
        model=model,
        folder=folder,
        split=split,
        data_hash=fingerprint(splits),
        # What the run itself wrote at its end knows more than its log.
        train=((results.read(run_dir) or {}).get("train") or results.train_summary(run_dir)) if run_dir else None,
    )


def _on_the_hub(folder_or_id: str, recipe, revision: str | None) -> bool:
    """Say whether a place is a repository of the Hub; the words that only one of the two takes are checked."""
    if Path(folder_or_id).is_dir() or not fetch.is_id(folder_or_id):
        if revision:
            raise UserError(
                f"--revision {revision}: {folder_or_id} is no repository of the Hub, so it has no revisions"
            )
        return False
    if recipe is None:
        rule = "for a repository of the Hub, say how to score it: --recipe RECIPE.yaml"
        raise UserError(f"{folder_or_id}: no such folder; {rule}")
    return True


def _as_read_by(model, recipe):
    """Return the recipe with as many positions as the model has: rows are cut where it ends, not where the recipe's would."""
    most = getattr(model.config, "max_position_embeddings", None)
    return dataclasses.replace(
        recipe, model=dataclasses.replace(recipe.model, max_position_embeddings=most or 1 << 20)
    )


def _recipe_for(recipe, run_dir: Path | None, folder: Path):
    """Return the recipe itself, the recipe of that path, or that of the run."""
    if recipe is not None and not isinstance(recipe, (str, os.PathLike)):
        return recipe
    path = recipe or (run_dir / files.RECIPE if run_dir else None)
    if path is None:
        raise UserError(f"{folder}: belongs to no run, so say how to score it: --recipe RECIPE.yaml")
    return load_recipe([str(path)])


def fetched(repo_id: str, revision: str | None, trust_remote_code: bool) -> tuple[Path, dict[str, str]]:
    """Return the folder of a repository's model in the cache, and what identifies it.

    Raises:
        UserError: no such repository or revision, or the Hub cannot be reached.
    """
    commit = fetch.commit_of(repo_id, revision)
    patterns = [*FILES, "*.py"] if trust_remote_code else [*FILES]
    return fetch.cached(repo_id, commit, patterns), {"id": repo_id, "revision": commit}
