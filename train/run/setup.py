"""Everything before the first step: check the recipe, claim the run folder, build or restore the run."""

import contextlib
import datetime
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, ProjectConfiguration
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from train import files
from train.data import examples, packing
from train.data import splits as data
from train.errors import UserError, plain
from train.hub import push
from train.measure import results
from train.model import build
from train.processes import environment, peers, random_state
from train.run import averages, best, checkpoint, first_look, history, shard
from train.run.writer import Writer
from train.settings import earlier
from train.settings import splits as splits_of_recipe
from train.settings.recipe import Recipe
from train.settings.rules import as_written

FINISHED = "finished.json"
# Fields that may differ between two starts of one run: where it and its data lie (a hash guards the data itself), how long
# it goes on, how its processes share the work and wait for each other, and what the Hub is told and sent. A step's batch,
# `batch.max_tokens`, is that of all processes and micro-batches together, so their numbers do not change it.
MAY_DIFFER = (
    *("run_dir", "data.root", "loop.max_steps", "loop.accumulate", "loop.shard", "loop.timeout"),
    *("data.license", "data.language", "loop.push_to", "loop.push_every", "loop.push_revision"),
)


@dataclass
class Run:
    """All that a run works with.

    Attributes:
        recipe: the resolved recipe.
        folder: folder of the run.
        accelerator: processes, devices and precision.
        tokenizer: the run's tokenizer.
        splits: raw rows by split.
        train: encoded training rows.
        model: the model as accelerate wraps it.
        bare: the model itself.
        optimizer: Adam.
        progress: where the run stands.
        random: random state of this rank to start from, None = as it is.
        identity: hashes that a checkpoint carries and a resume compares.
        average: moving average of the weights, None = not wanted.
        writer: writes checkpoints while training goes on; main process only.
        saved: step of the newest checkpoint that was begun.
        history: the parts of the run's way, see `train.run.history`; main process only.
        pusher: sends checkpoints to the Hub while training goes on; main process only, None = not wanted.
    """

    recipe: Recipe
    folder: Path
    accelerator: Accelerator
    tokenizer: PreTrainedTokenizerFast
    splits: dict[str, Dataset]
    train: examples.Examples
    model: torch.nn.Module
    bare: PreTrainedModel
    optimizer: AcceleratedOptimizer
    progress: random_state.Progress
    random: dict[str, torch.Tensor] | None
    identity: dict[str, Any]
    average: averages.MovingAverage | None = None
    writer: Writer = field(default_factory=Writer)
    saved: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    pusher: push.Pusher | None = None


@contextlib.contextmanager
def set_up(recipe: Recipe) -> Iterator[Run | None]:
    """Yield a run that is ready for its next step, None when it is finished already. The folder is locked meanwhile.

    Raises:
        UserError: something is not as it must be. A folder that did not exist before does not exist after it.
    """
    folder = recipe.folder
    build.check(recipe)
    shard.wanted(recipe)
    environment.settle()
    with peers.starting(recipe.loop.timeout):
        accelerator = make_accelerator(recipe)
    with peers.watching(accelerator, recipe.loop.timeout, folder):
        yield from _set_up(recipe, folder, accelerator)


def _set_up(recipe: Recipe, folder: Path, accelerator: Accelerator) -> Iterator[Run | None]:
    """Yield what `set_up` yields, from where the processes know of each other."""
    if random_state.from_main(
        accelerator, random_state.on_main(accelerator, lambda: int(_is_finished(folder, recipe)))
    ):
        accelerator.print(f"{folder}: this run is finished; its model is in {folder / 'final'}")
        yield None
        return
    random_state.on_main(accelerator, lambda: push.check(recipe))
    with accelerator.main_process_first():
        splits = data.load_splits(recipe)
    splits_of_recipe.check(recipe, splits)
    random_state.on_main(accelerator, lambda: _look(recipe, splits))
    with contextlib.ExitStack() as stack:
        random_state.on_main(accelerator, lambda: stack.enter_context(_claimed(folder, recipe)))
        yield _build(recipe, folder, accelerator, splits)


def _look(recipe: Recipe, splits: dict[str, Dataset]) -> None:
    """Say how the data were understood, and what looks wrong with them."""
    for line in first_look.lines(splits):
        print(plain(line))
    for line in first_look.doubts(recipe, splits):
        print(f"warning: {plain(line)}", file=sys.stderr)


def make_accelerator(recipe: Recipe) -> Accelerator:
    """Return accelerate's view of the processes. We accumulate ourselves, so it must not divide by anything."""
    tracker = None if recipe.loop.tracker == "none" else recipe.loop.tracker
    # accelerate drops a value that equals its default for NCCL, and gloo then waits its own 30 minutes: hence the 1 us.
    patience = datetime.timedelta(seconds=peers.patience(recipe.loop.timeout), microseconds=1)
    try:
        return Accelerator(
            mixed_precision="bf16" if recipe.loop.precision == "bf16" else "no",
            gradient_accumulation_steps=1,
            log_with=tracker,
            project_config=ProjectConfiguration(project_dir=str(recipe.folder), logging_dir=str(recipe.folder)),
            kwargs_handlers=[
                DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
                InitProcessGroupKwargs(timeout=patience),
            ],
        )
    except ValueError as error:
        raise UserError(f"loop.tracker, loop.precision: {tracker}, {recipe.loop.precision}: {error}") from None


def _build(recipe: Recipe, folder: Path, accelerator: Accelerator, splits: dict[str, Dataset]) -> Run:
    """Build tokenizer, rows, model and optimiser, and restore the newest intact checkpoint into them."""
    random_state.on_main(accelerator, lambda: build.make_tokenizer(recipe, splits["train"], folder / "tokenizer"))
    tokenizer = build.load_tokenizer(folder / "tokenizer")
    random_state.seed_everything(recipe.loop.seed)
    labels = splits["train"].features["label"].names if recipe.task == "classification" else None
    model = build.make_model(recipe, tokenizer, labels)
    encoded = packing.training_examples(splits["train"], tokenizer, recipe)
    if recipe.loop.compile:
        model.compile(dynamic=True)
    with warnings.catch_warnings():
        # Our only buffer is a constant table: sending it from rank 0 before every forward pass would be waste. The
        # name that replaces the option does not exist in accelerate yet.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        wrapped, optimizer = shard.prepare(accelerator, model, recipe)
    # Same weights on every rank so far, now each has its own dropout.
    random_state.seed_everything(recipe.loop.seed, accelerator.process_index, 1)
    identity = {"data": data.fingerprint(splits), "tokenizer": files.sha256(folder / "tokenizer" / "tokenizer.json")}
    progress = random_state.Progress()
    run = Run(
        recipe, folder, accelerator, tokenizer, splits, encoded, wrapped, model, optimizer, progress, None, identity
    )
    if recipe.loop.push_to is not None and accelerator.is_main_process:
        run.pusher = push.Pusher(run)
    if recipe.loop.ema is not None:
        run.average = averages.MovingAverage(model, recipe.loop.ema)
    newest = random_state.on_main(accelerator, lambda: _newest(folder))
    step = random_state.from_main(accelerator, int(newest.name.removeprefix("step-")) if newest else None)
    saved = _restore(run, checkpoint.folder_of(folder, step)) if step is not None else None
    random_state.arrive()
    accelerator.wait_for_everyone()  # until here a rank may refuse, and the folder stays as it was
    if not random_state.from_main(accelerator, random_state.on_main(accelerator, lambda: int(_accept(run, saved)))):
        run.progress.best, run.progress.best_step = None, 0
    return run


def _accept(run: Run, saved: dict[str, Any] | None) -> bool:
    """Write down that the run goes on with this recipe, from a checkpoint's state; main process only.

    Returns:
        Whether `final/` can be made of the best weights that the run knows.
    """
    files.write_text(run.folder / "recipe.yaml", _yaml(run.recipe))
    run.history = history.begin(run, saved)
    if best.settle(run.folder, run.progress) or run.recipe.loop.final != "best":
        return True
    words = (
        f"the best weights, of step {run.progress.best_step}, are damaged or deleted; the next evaluation starts anew"
    )
    print(f"warning: {run.folder / best.FOLDER}: {words}", file=sys.stderr)
    return False


def _newest(folder: Path) -> Path | None:
    """Return the checkpoint to go on from.

    Raises:
        UserError: all are damaged, or a finished run has none left.
    """
    newest = checkpoint.newest(folder)
    if newest is None and files.has_progress(folder):
        raise UserError(f"{folder / 'checkpoints'}: empty, so this run cannot go on; train into another folder")
    if newest is not None:
        checkpoint.set_aside(folder, newest)
    return newest


def _restore(run: Run, source: Path) -> dict[str, Any]:
    """Bring a run to where a checkpoint left it; return the checkpoint's state.

    Raises:
        UserError: the data or the tokenizer are not those the checkpoint was trained on.
    """
    saved = checkpoint.read_state(source)
    try:
        run.progress = random_state.Progress(**(saved["progress"] | best.noted(source)))
        identity, processes = saved["identity"], saved["processes"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{source}: {checkpoint.STATE} is of another version of this program ({error}); "
            "go on with that one, or train into another folder with --run_dir"
        ) from None
    for name, value in run.identity.items():
        old = identity[name]
        if old != value:
            raise UserError(
                f"{source}: was trained with another {name} (sha256 {old[:12]}, now {value[:12]}); "
                "restore it, or train into another folder with --run_dir"
            )
    run.saved = run.progress.step
    run.train.seek(run.progress.epoch, run.progress.stream)
    shard.load(source, run)
    if run.average is not None:
        run.average.load(source)
    rank, world = run.accelerator.process_index, run.accelerator.num_processes
    if processes == world:
        run.random = checkpoint.read_random_state(source, rank)
    else:
        random_state.seed_everything(run.recipe.loop.seed, rank, 2, run.progress.step)
    before = {"processes": processes} | (saved.get("history") or [{}])[-1]
    shares = {"processes": world, "accumulate": run.recipe.loop.accumulate}
    changed = [f"{before[name]} {name}, now {now}" for name, now in shares.items() if before.get(name, now) != now]
    if changed:
        words = "; ".join(changed)
        run.accelerator.print(f"{source}: saved with {words}: same batches, other dropout from here on")
    return saved


@contextlib.contextmanager
def _claimed(folder: Path, recipe: Recipe) -> Iterator[None]:
    """Hold the run folder for this process; a user's error takes back what this call made."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"run_dir: {folder}: cannot be made a folder ({error.strerror})") from None
    with files.lock(folder):
        # Once more, now that nobody else can change it.
        refuse_other(folder, recipe)
        for place in (folder, folder / "checkpoints"):
            files.tidy(place)
        if not files.has_progress(folder):
            # An earlier start that never reached a checkpoint may have had another recipe.
            shutil.rmtree(folder / "tokenizer", ignore_errors=True)
        if not (
            folder / "recipe.yaml"
        ).exists():  # says that this is a run; one that is there stays until this is accepted
            files.write_text(folder / "recipe.yaml", _yaml(recipe))
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
    path = folder / "recipe.yaml"
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
        old = _flat(Recipe(old["name"], old["task"]).to_dict()) | earlier.meant(old) | _flat(old)
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as the recipe of this run: {error}") from None
    new = _flat(recipe.to_dict())
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
    names = [path.name for path in checkpoint.folders(folder)]
    if not names or max_steps >= int(names[-1].removeprefix("step-")):
        return
    newest = checkpoint.newest(folder)  # a damaged one does not count
    reached = int(newest.name.removeprefix("step-"))
    if max_steps < reached:
        raise UserError(f"loop.max_steps: {max_steps}: must be at least {reached}, the step reached in {folder}")


def _is_finished(folder: Path, recipe: Recipe) -> bool:
    """Tell whether a run folder holds this recipe's run, at its end."""
    refuse_other(folder, recipe)
    end = files.read_object(folder / FINISHED)
    whole = (folder / "final" / "config.json").is_file() and (folder / results.FILE).is_file()
    return whole and end.get("max_steps") == recipe.loop.max_steps


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"optim.lr": 0.1, ...}` for nested sections."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _yaml(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML."""
    return yaml.safe_dump(recipe.to_dict(), sort_keys=False, allow_unicode=True)
