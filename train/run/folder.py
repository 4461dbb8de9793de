"""The folder of a run: who may use it, for which recipe, and whether its run is finished."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from train import files
from train.errors import UserError
from train.run import checkpoint
from train.settings import earlier
from train.settings.recipe import Recipe, flat
from train.settings.rules import as_written

# Fields that may differ between two starts of one run: where it and its data lie (a hash guards the data itself), how long
# it goes on, how its processes share the work and wait for each other, what the Hub is told and sent, and what is looked at. A step's batch,
# `batch.max_tokens`, is that of all processes and micro-batches together, so their numbers do not change it.
MAY_DIFFER = (
    *("run_dir", "data.root", "loop.max_steps", "loop.accumulate", "loop.shard", "loop.timeout"),
    *("data.license", "data.language", "loop.push_to", "loop.push_every", "loop.push_revision", "eval.look"),
)


@contextlib.contextmanager
def claimed(folder: Path, recipe: Recipe) -> Iterator[None]:
    """Hold the run folder for this process; a user's error takes back what this call made."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run_dir: {folder}: cannot be made a folder ({error.strerror})") from None
    with files.lock(folder):
        # Once more, now that no other process can change it.
        refuse_other(folder, recipe)
        for directory in (folder, folder / files.CHECKPOINTS):
            files.tidy(directory)
        if not files.has_progress(folder):
            # An earlier start that never reached a checkpoint may have had another recipe.
            shutil.rmtree(folder / files.TOKENIZER, ignore_errors=True)
        if not (folder / files.RECIPE).exists():  # says that this is a run; an older one stays until this is accepted
            write_recipe(folder, recipe)
        try:
            yield
        except UserError:
            if made and not files.has_progress(folder):
                shutil.rmtree(folder, ignore_errors=True)
                with contextlib.suppress(OSError):  # a parent in which another run began meanwhile stays
                    for parent in made[1:]:
                        parent.rmdir()
            raise


def refuse_other(folder: Path, recipe: Recipe) -> None:
    """Compare a run folder with the recipe that wants to use it.

    Raises:
        UserError: the folder holds something that is no run, or a run whose recipe differs in the field named.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"run_dir: {folder}: is a file, must be a folder")
    path = folder / files.RECIPE
    if not path.is_file():
        other = next(
            (p.name for p in sorted(folder.iterdir()) if not p.name.startswith((".lock", files.STAGING))), None
        )
        if other is not None:
            raise UserError(f"run_dir: {folder}: holds no run but other files ({other}); name a new or empty folder")
        return
    if not files.has_progress(folder):
        return
    try:
        old = yaml.safe_load(path.read_text(encoding="utf-8"))
        # A recipe written before a field existed meant the field's default, or what was built in.
        old = flat(Recipe(old["name"], old["task"]).to_dict()) | earlier.meant(old) | flat(old)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as the recipe of this run: {error}") from None
    new = flat(recipe.to_dict())
    _refuse_passed(folder, recipe.loop.max_steps)
    for name in [*new, *(name for name in old if name not in new)]:
        if name not in MAY_DIFFER and old.get(name) != new.get(name):
            raise UserError(
                f"{path}: {name}: this folder's run has {as_written(old.get(name))}, the recipe {as_written(new.get(name))}: "
                "must be the same; use another folder with --run_dir"
            )


def _refuse_passed(folder: Path, max_steps: int) -> None:
    """Refuse an end that lies behind the step a run has reached; the end may move to any step before it.

    Raises:
        UserError: names both.
    """
    steps = [checkpoint.step_of(path) for path in checkpoint.folders(folder)]
    if not steps or max_steps >= steps[-1]:
        return
    reached = checkpoint.step_of(checkpoint.newest(folder))  # a damaged one does not count
    if max_steps < reached:
        raise UserError(f"loop.max_steps: {max_steps}: must be at least {reached}, the step reached in {folder}")


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Tell whether a run folder holds this recipe's run, at its end."""
    refuse_other(folder, recipe)
    end = files.read_object(folder / files.FINISHED)
    whole = (folder / files.FINAL / files.CONFIG).is_file() and (folder / files.RESULTS).is_file()
    return whole and end.get("max_steps") == recipe.loop.max_steps


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the resolved recipe of a run into its folder."""
    files.write_text(folder / files.RECIPE, recipe.to_yaml())
