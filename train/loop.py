"""The training loop: what happens in a run, and in which order."""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from accelerate.utils import gather_object

from train import (
    alive,
    checkpoint,
    collate,
    ema,
    evaluate,
    feed,
    finish,
    flops,
    optim,
    probes,
    shard,
    state,
    stop,
    tracking,
    watch,
)
from train.errors import NonFiniteError
from train.setup import Run, set_up

if TYPE_CHECKING:
    from train.recipe import Recipe
    from train.writer import Writer

LOWER_IS_BETTER = ("loss", "perplexity", "word_perplexity", "bits_per_byte")


class StepReport(NamedTuple):
    """What one step did, over all processes.

    Attributes:
        loss: nats per target token, label smoothing included.
        grad_norm: global norm of the gradient before clipping.
        lr: learning rate of the step.
        targets: labels in the loss.
        real_tokens: tokens of the rows.
        padded_tokens: tokens with padding.
        flops: of the model, over the real tokens.
        stop: number of a signal that some process received, 0 = none.
    """

    loss: float
    grad_norm: float
    lr: float
    targets: int
    real_tokens: int
    padded_tokens: int
    flops: int
    stop: int


def fit(recipe: "Recipe") -> Path:
    """Train a recipe to its end, from the start or from the newest intact checkpoint of its run folder.

    Returns:
        The run folder.

    Raises:
        UserError: something in the recipe, its data or its run folder is not as it must be.
        NonFiniteError: the loss or the gradient is no number.
        DriftError: the ranks no longer hold the same weights.
        Stopped: SIGTERM or SIGINT arrived; the state is saved.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(recipe.loop.matmul_precision)
    try:
        with contextlib.ExitStack() as end, set_up(recipe) as run:
            if run is not None:
                with finish.drawn(run):
                    train(run, end)
                    finish.finish(shard.whole(run))
    finally:
        torch.set_float32_matmul_precision(before)
    return recipe.folder


def train(run: Run, end: contextlib.ExitStack) -> None:
    """Take steps until the run has as many as it wants; every rank takes the same ones.

    Args:
        run: the run.
        end: closed when the run has ended, in whatever way.
    """
    loop, progress = run.recipe.loop, run.progress
    accelerator = run.accelerator
    places = feed.Places(
        run.train, run.recipe, accelerator.process_index, accelerator.num_processes, progress.epoch, progress.position
    )
    tracker = tracking.Tracker(accelerator, run.recipe, run.folder, progress)
    watchdog = watch.of_run(run.recipe, run.bare.config, progress)
    batches = feed.deliveries(
        run.train, collate.Collator(run.recipe.task, run.tokenizer, run.recipe), places, loop.num_workers
    )
    _announce(run, tracker, places)
    run.model.train()
    if run.random is not None:
        state.restore_random_state(run.random)  # last: whatever is built above may have drawn numbers
    # Whatever ends the loop: a checkpoint that was begun is written to its end.
    with contextlib.closing(tracker), stop.requests(end) as request, _ended(run.writer):
        if _due(progress.step, loop.eval_every) and progress.evaluated < progress.step:
            _evaluate(run, tracker)  # the stop that led to this checkpoint came before its evaluation
        while not is_done(run):
            started = time.perf_counter()
            delivery = next(batches)
            report = train_step(run, delivery, request.signal)
            _advance(progress, delivery.place, report, time.perf_counter() - started)
            state.arrive(progress.step)
            tracker.step(progress, report)
            first = delivery.place.epoch == 0
            for finding in watchdog.step(progress.step, report.loss, report.grad_norm, first, report.targets):
                tracker.warn(progress.step, finding)
            if report.stop:
                _save(run, tracker)
                wait_for_write(run)
                place = checkpoint.folder_of(run.folder, progress.step)
                raise stop.Stopped(
                    report.stop, f"stopped at step {progress.step}, saved in {place}; run the same command to go on"
                )
            if _due(progress.step, loop.eval_every) or progress.step == loop.max_steps:
                _evaluate(run, tracker)
            if _due(progress.step, loop.save_every) or is_done(run):
                _save(run, tracker)
        wait_for_write(run)


def train_step(run: Run, delivery: feed.Delivery, signal: int) -> StepReport:
    """Update the weights once, with the mean loss per target token over all micro-batches of all ranks.

    The number of targets is summed before the first forward pass: dividing by a rank's or micro-batch's own number
    would give every token of a short one more weight.
    """
    accelerator, step = run.accelerator, run.progress.step + 1
    counts = _count(run, delivery, signal)
    divisor = counts[0].clamp(min=1)
    loss = torch.zeros((), device=accelerator.device)
    for number, batch in enumerate(delivery.micro, start=1):
        inputs = {name: value.to(accelerator.device, non_blocking=True) for name, value in batch.inputs.items()}
        last = number == len(delivery.micro)
        with contextlib.nullcontext() if last else accelerator.no_sync(run.model):
            part = run.model(**inputs, num_items_in_batch=divisor).loss
            # DDP takes the mean over ranks; each part is divided by the global count already, so the sum is wanted.
            accelerator.backward(part * accelerator.num_processes)
        loss += part.detach()
    clip = run.recipe.optim.clip_norm
    norm = shard.clip(accelerator, run.model, math.inf if clip is None else clip)
    total = accelerator.reduce(loss)
    if not (torch.isfinite(total) and torch.isfinite(norm)):  # the same on every rank, so all of them stop here
        raise _non_finite(run, step, loss, norm, delivery)
    lr = optim.learning_rate(step, run.recipe.optim, run.bare.config.d_model, run.recipe.loop.max_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average is not None:
        run.average.update(step)
    targets, real, padded, work, failed, *signals = counts.tolist()
    if failed:
        wait_for_write(run)  # raises what the write met
    stopped = next((int(number) for number, seen in zip(stop.SIGNALS, signals, strict=True) if seen), 0)
    return StepReport(float(total), float(norm), lr, targets, real, padded, work, stopped)


def _count(run: Run, delivery: feed.Delivery, signal: int) -> torch.Tensor:
    """Sum over all ranks, in one collective: targets, real tokens, tokens with padding, FLOPs, writes that failed, and who
    was told to stop.
    """
    micro = delivery.micro
    mine = [sum(getattr(batch, name) for batch in micro) for name in ("targets", "real_tokens", "padded_tokens")]
    mine += [flops.of_step(run.bare, micro), int(run.writer.error is not None)]
    mine += [int(signal == number) for number in stop.SIGNALS]
    state.arrive(run.progress.step)
    return run.accelerator.reduce(torch.tensor(mine, device=run.accelerator.device))


def _non_finite(
    run: Run, step: int, loss: torch.Tensor, norm: torch.Tensor, delivery: feed.Delivery
) -> NonFiniteError:
    """Return the error of a step whose loss or gradient is no number; every rank calls it."""
    losses = run.accelerator.gather(loss[None]).tolist()
    ranks = [rank for rank, value in enumerate(losses) if not math.isfinite(value)]
    where = (
        f"the loss of rank {ranks[0]} is {losses[ranks[0]]}" if ranks else f"the norm of the gradient is {float(norm)}"
    )
    place = delivery.place
    mine = [index for micro in place.micro for index in micro]
    everyones = gather_object([mine]) if run.accelerator.num_processes > 1 else [mine]
    rows = ", ".join(f"rows of rank {rank}: {everyones[rank]}" for rank in ranks or range(len(everyones)))
    return NonFiniteError(
        f"step={step} rank={ranks[0] if ranks else 'all'}: {where}; epoch {place.epoch}, batch {place.position}, "
        f"{rows}; the checkpoints on disk are from before it"
    )


def _advance(progress: state.Progress, place: feed.Place, report: StepReport, seconds: float) -> None:
    """Move a run's position past a step."""
    progress.step += 1
    progress.tokens += report.real_tokens
    progress.flops += report.flops
    progress.seconds += seconds
    ended = place.position + 1 == place.batches
    progress.epoch, progress.position = (place.epoch + 1, 0) if ended else (place.epoch, place.position + 1)
    if ended:
        progress.stream = place.following


def is_done(run: Run) -> bool:
    """Tell whether a run has all its steps, or early stopping ends it."""
    patience = run.recipe.loop.early_stopping
    stalled = patience is not None and run.progress.bad_evals >= patience
    return run.progress.step >= run.recipe.loop.max_steps or stalled


def _due(step: int, every: int) -> bool:
    """Tell whether something done every so many steps is due after this one."""
    return step > 0 and step % every == 0


def _evaluate(run: Run, tracker: tracking.Tracker) -> None:
    """Measure the validation data, and keep the model if it is the best so far."""
    progress, own = run.progress, run.recipe.eval
    progress.evaluated = progress.step
    if "validation" not in run.splits or not own.during_training:
        return
    tracker.pause()
    wait_for_write(run)
    names = list(dict.fromkeys([*own.during_training, own.best_metric]))
    whole = shard.whole(run)
    with torch.compiler.set_stance("force_eager" if run.recipe.loop.compile else "default"):
        scores = evaluate.evaluate(
            whole.model, run.tokenizer, run.splits, run.recipe, run.accelerator, "validation", names
        )
        findings = probes.look(whole)
        scores |= finish.averaged_scores(run, names)
    value = scores[own.best_metric]
    sign = -1 if own.best_metric in LOWER_IS_BETTER else 1
    better = math.isfinite(value) and (progress.best is None or sign * value > sign * progress.best)
    if better:
        progress.best, progress.best_step, progress.bad_evals = value, progress.step, 0
        state.on_main(run.accelerator, lambda: finish.write_model_folder(whole, run.folder / "best"))
    else:
        progress.bad_evals += 1
    figures = " ".join(f"{name}={number:.4f}" for name, number in scores.items())
    tracker.say(f"eval step={progress.step} {figures}{' (best so far)' if better else ''}")
    tracker.event("eval", progress.step, dict(scores))
    for finding in findings:
        tracker.warn(progress.step, finding)
    tracker.resume()


def _save(run: Run, tracker: tracking.Tracker) -> None:
    """Begin to write a checkpoint of this moment and drop those that are too old; every rank calls it."""
    tracker.pause()
    wait_for_write(run)
    loop, progress = run.recipe.loop, run.progress
    if not shard.is_sharded(run.bare):
        alive.refuse_drift(run.accelerator, run.bare, progress.step)
    states = state.gather_random_states(run.accelerator)
    whole = shard.whole(run, moments=True)
    content = {
        "progress": asdict(progress),
        "processes": run.accelerator.num_processes,
        "identity": run.identity,
        "scheduled": _due(progress.step, loop.save_every),
    }

    more = {} if run.average is None else {ema.FILE: run.average.tensors()}
    what = (run.folder, progress.step, whole.bare, whole.optimizer.optimizer, states, content, more)
    step, last = progress.step, is_done(run)

    def write() -> None:
        in_background = checkpoint.copied(*what)
        if in_background is None:
            checkpoint.save(*what)
            finish.saved(run, step, last)
        else:
            run.writer.start(in_background, then=lambda: finish.saved(run, step, last))

    state.on_main(run.accelerator, write)
    tracker.resume()


def wait_for_write(run: Run) -> None:
    """Wait until the checkpoint that was begun is on disk; every rank calls it, and all fail where it failed."""
    state.on_main(run.accelerator, run.writer.wait)


@contextlib.contextmanager
def _ended(writer: "Writer") -> Iterator[None]:
    """Wait at the end of the block, however it ends, until nothing is written any more."""
    try:
        yield
    finally:
        writer.join()


def _announce(run: Run, tracker: tracking.Tracker, places: feed.Places) -> None:
    """Say what is about to be trained, on what, and for how long."""
    recipe, config = run.recipe, run.bare.config
    parameters = sum(parameter.numel() for parameter in run.bare.parameters())
    batches = len(places.plan(run.progress.epoch))
    tracker.say(
        f"{recipe.name}: {recipe.task}, {config.variant}, {parameters:,} parameters, vocabulary {config.vocab_size}, "
        f"{run.accelerator.num_processes} process(es) on {run.accelerator.device.type}, {recipe.loop.precision}"
    )
    unit = "epoch" if recipe.data.stream_rows is None else "window"
    tracker.say(
        f"{len(run.train):,} training rows in {batches} batches {'an epoch' if unit == 'epoch' else 'of this window'}; "
        f"{recipe.loop.max_steps} steps are {recipe.loop.max_steps / batches:.1f} {unit}s; run folder {run.folder}"
    )
    if run.progress.step:
        tracker.say(f"resumed at step {run.progress.step}, epoch {run.progress.epoch}, batch {run.progress.position}")
