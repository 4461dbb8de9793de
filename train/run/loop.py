"""The training loop: what happens in a run, and in which order."""

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import torch
from accelerate.utils import gather_object

from train.cost import flops
from train.data import collate, steps
from train.data.examples import Blocks
from train.errors import NonFiniteError
from train.model import optim
from train.processes import random_state, ranks
from train.processes import signals as stop
from train.run import checkpoint, finish, saving, shard, tracking, validating
from train.run import watchdog as watch
from train.run.run import Progress, Publishing, Run
from train.run.setup import set_up

if TYPE_CHECKING:
    from train.settings.recipe import Recipe


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


def fit(recipe: "Recipe", publishing: Publishing | None = None) -> Path:
    """Train a recipe to its end, from the start or from the newest intact checkpoint of its run folder.

    Args:
        recipe: what is trained.
        publishing: what sends checkpoints where `loop.push_to` says, such as the module `train.hub.push`.

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
        with contextlib.ExitStack() as end, set_up(recipe, publishing) as run:
            if run is not None:
                with finish.drawn(run), stop.requests(end) as request:
                    train(run, request)
                    finish.finish(shard.whole(run))
    finally:
        torch.set_float32_matmul_precision(before)
    return recipe.folder


def train(run: Run, request: stop.Request) -> None:
    """Take steps until the run has all of them; every rank takes the same ones.

    Args:
        run: the run.
        request: a signal that arrived.
    """
    loop, progress = run.recipe.loop, run.progress
    accelerator = run.accelerator
    # The data from where the run stands, and who looks on.
    places = steps.Places(
        run.train, run.recipe, accelerator.process_index, accelerator.num_processes, progress.epoch, progress.position
    )
    tracker = tracking.Tracker(accelerator, run.recipe, run.folder, progress)
    watchdog = watch.of_run(run.recipe, run.bare.config, progress)
    batches = steps.deliveries(
        run.train, collate.Collator(run.recipe.task, run.tokenizer, run.recipe), places, loop.num_workers
    )
    _announce(run, tracker, places)
    run.model.train()
    if run.random is not None:
        random_state.restore_random_state(run.random)  # last: whatever is built above may have drawn numbers
    # Whatever ends the loop: a checkpoint that was begun is written to its end.
    with contextlib.closing(tracker), contextlib.closing(run.writer):
        _milestone(run, tracker)  # what a stop or a kill left out at the step of the checkpoint
        while not is_done(run):
            # One step, whose wait for its data counts as training.
            started = time.perf_counter()
            delivery = next(batches)
            report = train_step(run, delivery, request.signal)
            _advance(progress, delivery.place, report, time.perf_counter() - started)
            ranks.arrive(progress.step)
            # What it showed.
            tracker.step(progress, report)
            first = delivery.place.epoch == 0
            for alarm in watchdog.step(progress.step, report.loss, report.grad_norm, first, report.targets):
                tracker.warn(progress.step, alarm)
            # What is due after it: a stop, a checkpoint, an evaluation.
            if report.stop:
                _stop(run, tracker, report.stop)
            _milestone(run, tracker)
        saving.wait_for_write(run)
    if loop.push_to is not None:
        ranks.on_main(accelerator, lambda: run.publisher.offer(progress.step, last=True))


def _milestone(run: Run, tracker: tracking.Tracker) -> None:
    """Save and evaluate where a step asks for it.

    The checkpoint comes first: an evaluation may take long, and what ends it in the middle costs no step. What it finds is
    noted beside the checkpoint, see `train.run.best`.
    """
    loop, progress = run.recipe.loop, run.progress
    last = progress.step == loop.max_steps
    if last or _due(progress.step, loop.save_every):
        saving.save(run, tracker)
    if (last or _due(progress.step, loop.eval_every)) and progress.evaluated < progress.step:
        try:
            validating.validate(run, tracker)
        except stop.Interrupted as caught:
            _stop(run, tracker, caught.signal)
        if is_done(run):
            saving.save(run, tracker)


def _stop(run: Run, tracker: tracking.Tracker, signal: int) -> NoReturn:
    """End a run on a signal, with a checkpoint of its last step; every rank calls it."""
    saving.save(run, tracker)
    saving.wait_for_write(run)
    step = run.progress.step
    folder = checkpoint.folder_of(run.folder, step)
    raise stop.Stopped(signal, f"stopped at step {step}, saved in {folder}; run the same command to go on")


def train_step(run: Run, delivery: steps.Delivery, signal: int) -> StepReport:
    """Update the weights once, with the mean loss per target token over all micro-batches of all ranks.

    The number of targets is summed before the first forward pass: dividing by a rank's or micro-batch's own number
    would give every token of a short one more weight.
    """
    accelerator, step = run.accelerator, run.progress.step + 1
    # The gradient: of each micro-batch, summed over the ranks with the last one.
    counts = _count(run, delivery, signal)
    divisor = counts[0].clamp(min=1)
    loss = torch.zeros((), device=accelerator.device)
    options = {"skip_logits": True} if run.recipe.loop.skip_logits else {}
    for number, batch in enumerate(delivery.micro, start=1):
        inputs = {name: value.to(accelerator.device, non_blocking=True) for name, value in batch.inputs.items()}
        last = number == len(delivery.micro)
        with contextlib.nullcontext() if last else accelerator.no_sync(run.model):
            micro_loss = run.model(**inputs, **options, num_items_in_batch=divisor).loss
            # DDP takes the mean over ranks; each loss is divided by the global count already: a sum is needed.
            accelerator.backward(micro_loss * accelerator.num_processes)
        loss += micro_loss.detach()
    # Its norm; the same on every rank.
    clip = run.recipe.optim.clip_norm
    norm = shard.clip(accelerator, run.model, math.inf if clip is None else clip)
    total = accelerator.reduce(loss)
    if not (torch.isfinite(total) and torch.isfinite(norm)):  # so all of them stop here
        raise _non_finite(run, step, loss, norm, delivery)
    # The update.
    lr = optim.learning_rate(step, run.recipe.optim, run.bare.config.d_model, run.recipe.loop.max_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    run.optimizer.step()
    run.optimizer.zero_grad()
    if run.average is not None:
        run.average.update(step)
    # The report.
    targets, real, padded, work, failed, *signals = counts.tolist()
    if failed:
        saving.wait_for_write(run)  # raises what the write met
    stopped = next((int(number) for number, seen in zip(stop.SIGNALS, signals, strict=True) if seen), 0)
    return StepReport(float(total), float(norm), lr, targets, real, padded, work, stopped)


def _count(run: Run, delivery: steps.Delivery, signal: int) -> torch.Tensor:
    """Sum over all ranks, in one collective: targets, real tokens, tokens with padding, FLOPs, writes that failed, and who
    was told to stop.
    """
    micro = delivery.micro
    mine = [sum(getattr(batch, name) for batch in micro) for name in ("targets", "real_tokens", "padded_tokens")]
    mine += [flops.of_step(run.bare, micro), int(run.writer.error is not None)]
    mine += [int(signal == number) for number in stop.SIGNALS]
    ranks.arrive(run.progress.step)
    return run.accelerator.reduce(torch.tensor(mine, device=run.accelerator.device))


def _non_finite(
    run: Run, step: int, loss: torch.Tensor, norm: torch.Tensor, delivery: steps.Delivery
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


def _advance(progress: Progress, place: steps.Place, report: StepReport, seconds: float) -> None:
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


def _announce(run: Run, tracker: tracking.Tracker, places: steps.Places) -> None:
    """Print what is about to be trained, on what, and for how long."""
    recipe, config = run.recipe, run.bare.config
    parameters = sum(parameter.numel() for parameter in run.bare.parameters())
    batches = len(places.plan(run.progress.epoch))
    tracker.say(
        f"{recipe.name}: {recipe.task}, {config.variant}, {parameters:,} parameters, vocabulary {config.vocab_size}, "
        f"{run.accelerator.num_processes} process(es) on {run.accelerator.device.type}, {recipe.loop.precision}"
    )
    unit = "epoch" if recipe.data.stream_rows is None else "window"
    rows = "blocks" if isinstance(run.train, Blocks) else "rows"
    tracker.say(
        f"{len(run.train):,} training {rows} in {batches} batches {'an epoch' if unit == 'epoch' else 'of this window'}; "
        f"{recipe.loop.max_steps} steps are {recipe.loop.max_steps / batches:.1f} {unit}s; run folder {run.folder}"
    )
    if config.label_smoothing:
        tracker.say(
            f"the loss of a step has label smoothing {config.label_smoothing} in it, that of an evaluation has not"
        )
    if run.progress.step:
        tracker.say(f"resumed at step {run.progress.step}, epoch {run.progress.epoch}, batch {run.progress.position}")
