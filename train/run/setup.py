"""Everything before the first step: check the recipe, claim the run folder, build or restore the run."""

import contextlib
import datetime
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, ProjectConfiguration
from datasets import Dataset
from transformers import PreTrainedModel

from train import files
from train.cost import here
from train.data import splits as data
from train.data import training
from train.errors import UserError, plain
from train.model import build
from train.processes import environment, peers, random_state, ranks
from train.run import averages, best, checkpoint, first_look, history, shard
from train.run import folder as run_folder
from train.run.run import Progress, Publishing, Run
from train.settings.recipe import Recipe
from train.settings.rules import require_splits


@contextlib.contextmanager
def set_up(recipe: Recipe, publishing: Publishing | None = None) -> Iterator[Run | None]:
    """Yield a run that is ready for its next step, None when it is finished already. The folder is locked meanwhile.

    Raises:
        UserError: something is not as it must be. A folder that did not exist before does not exist after it.
    """
    folder = recipe.folder
    build.check(recipe)
    if recipe.loop.push_to is None:
        publishing = None
    elif publishing is None:
        raise UserError(
            f"loop.push_to: {recipe.loop.push_to}: fit must be given what sends it, publishing=train.hub.push"
        )
    shard.take_over_flag(recipe)
    environment.settle()
    with peers.starting(recipe.loop.timeout):
        accelerator = make_accelerator(recipe)
    environment.refuse_alone(accelerator.num_processes)
    with peers.watching(accelerator, recipe.loop.timeout, folder):
        yield from _set_up(recipe, folder, accelerator, publishing)


def _set_up(
    recipe: Recipe, folder: Path, accelerator: Accelerator, publishing: Publishing | None
) -> Iterator[Run | None]:
    """Yield what `set_up` yields, from where the processes know of each other."""
    if ranks.from_main(accelerator, lambda: int(run_folder.is_finished(folder, recipe))):
        accelerator.print(f"{folder}: this run is finished; its model is in {folder / 'final'}")
        yield None
        return
    if publishing is not None:
        ranks.on_main(accelerator, lambda: publishing.check(recipe))
    with accelerator.main_process_first():
        splits = data.load_splits(recipe)
    require_splits(recipe, splits)
    ranks.on_main(accelerator, lambda: _look(recipe, splits, accelerator.device.type))
    with contextlib.ExitStack() as stack:
        ranks.on_main(accelerator, lambda: stack.enter_context(run_folder.claimed(folder, recipe)))
        run = _build(recipe, folder, accelerator, splits)
        if publishing is not None and accelerator.is_main_process:
            run.publisher = publishing.begin(run)
        yield run


def _look(recipe: Recipe, splits: dict[str, Dataset], device: str) -> None:
    """Print how the data were understood, and what looks wrong with them, or with the numbers on this device."""
    for line in first_look.lines(splits):
        print(plain(line))
    for line in (*first_look.doubts(recipe, splits), *(here.doubts(recipe) if device == "cpu" else ())):
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


def compiled(model: PreTrainedModel, backend: str = "inductor") -> None:
    """Let a model run through `torch.compile` from now on, as one graph for rows of any number and length.

    How many places a masked language model maps to the vocabulary is known from the data alone (decision 007); without
    the flag the graph would break there.
    """
    torch._dynamo.config.capture_dynamic_output_shape_ops = True
    model.compile(dynamic=True, backend=backend)


def _build(recipe: Recipe, folder: Path, accelerator: Accelerator, splits: dict[str, Dataset]) -> Run:
    """Build tokenizer, rows, model and optimiser, and restore the newest intact checkpoint into them."""
    # Tokenizer, model and rows, the same on every rank.
    ranks.on_main(accelerator, lambda: build.make_tokenizer(recipe, splits["train"], folder / files.TOKENIZER))
    tokenizer = build.load_tokenizer(folder / files.TOKENIZER)
    random_state.seed_everything(recipe.loop.seed)
    model = build.make_model(recipe, tokenizer, data.label_names(splits["train"]))
    encoded = training.encode(splits["train"], tokenizer, recipe)
    # The model as the processes share it, each with dropout of its own.
    if recipe.loop.compile:
        compiled(model)
    with warnings.catch_warnings():
        # Our only buffer is a constant table: sending it from rank 0 before every forward pass would be waste. The
        # name that replaces the option does not exist in accelerate yet.
        warnings.filterwarnings("ignore", message=".*broadcast_buffers", category=FutureWarning)
        wrapped, optimizer = shard.prepare(accelerator, model, recipe)
    random_state.seed_everything(recipe.loop.seed, accelerator.process_index, 1)
    identity = {
        "data": data.fingerprint(splits),
        "tokenizer": files.sha256(folder / files.TOKENIZER / "tokenizer.json"),
    }
    run = Run(
        recipe=recipe,
        folder=folder,
        accelerator=accelerator,
        tokenizer=tokenizer,
        splits=splits,
        train=encoded,
        model=wrapped,
        bare=model,
        optimizer=optimizer,
        progress=Progress(),
        identity=identity,
    )
    if recipe.loop.ema is not None:
        run.average = averages.MovingAverage(model, recipe.loop.ema)
    # Where it goes on; until the end a rank may refuse, and the folder stays as it was.
    step = ranks.from_main(accelerator, lambda: _newest_step(folder))
    saved = _restore(run, checkpoint.folder_of(folder, step)) if step is not None else None
    ranks.arrive()
    accelerator.wait_for_everyone()
    if not ranks.from_main(accelerator, lambda: int(_accept(run, saved))):
        run.progress.best, run.progress.best_step = None, 0
    return run


def _accept(run: Run, saved: checkpoint.State | None) -> bool:
    """Write down that the run goes on with this recipe, from a checkpoint's state; main process only.

    Returns:
        Whether `final/` can be made of the best weights that the run knows.
    """
    run_folder.write_recipe(run.folder, run.recipe)
    run.history = history.begin(run, saved)
    if best.settle(run.folder, run.progress) or run.recipe.loop.final != "best":
        return True
    problem = f"the best weights, of step {run.progress.best_step}, are damaged or deleted"
    print(f"warning: {run.folder / files.BEST}: {problem}; the next evaluation starts anew", file=sys.stderr)
    return False


def _newest_step(folder: Path) -> int | None:
    """Return the step of the checkpoint to go on from, None for a new run; set later ones aside, which are damaged.

    Raises:
        UserError: all are damaged, or a finished run has none left.
    """
    newest = checkpoint.newest(folder)
    if newest is None and files.has_progress(folder):
        raise UserError(f"{folder / 'checkpoints'}: empty, so this run cannot go on; train into another folder")
    if newest is None:
        return None
    checkpoint.set_aside(folder, newest)
    return checkpoint.step_of(newest)


def _restore(run: Run, source: Path) -> checkpoint.State:
    """Bring a run to where a checkpoint left it; return what that says of itself.

    Raises:
        UserError: it is of another version, or the data or the tokenizer are not those the checkpoint was trained on.
    """
    saved = checkpoint.read_state(source)
    run.progress = best.noted(source, saved.progress)
    for name, value in run.identity.items():
        old = saved.identity[name]
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
    if saved.processes == world:
        run.random = checkpoint.read_random_state(source, rank)
    else:
        random_state.seed_everything(run.recipe.loop.seed, rank, 2, run.progress.step)
    before = {"processes": saved.processes} | (saved.history or [{}])[-1]
    shares = {"processes": world, "accumulate": run.recipe.loop.accumulate}
    changed = [f"{before[name]} {name}, now {now}" for name, now in shares.items() if before.get(name, now) != now]
    if changed:
        run.accelerator.print(f"{source}: saved with {'; '.join(changed)}: same batches, other dropout from here on")
    return saved
