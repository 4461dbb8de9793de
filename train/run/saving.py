"""Checkpoints of a run: begun by every rank, written by one, and waited for by all."""

import copy
from typing import TYPE_CHECKING

from train.processes import peers, random_state, ranks
from train.run import averages, best, checkpoint, shard

if TYPE_CHECKING:
    from train.run.run import Run
    from train.run.tracking import Tracker


def save(run: "Run", tracker: "Tracker") -> None:
    """Begin to write a checkpoint of this moment and drop those that are too old; every rank calls it.

    A step that has its checkpoint already gets no other.
    """
    loop, progress = run.recipe.loop, run.progress
    if run.saved == progress.step:
        return
    tracker.pause()
    wait_for_write(run)
    if not shard.is_sharded(run.bare):
        peers.refuse_drift(run.accelerator, run.bare, progress.step)
    random_states = random_state.gather_random_states(run.accelerator)
    model, moments = shard.gathered(run)
    state = checkpoint.State(
        progress=copy.deepcopy(progress),
        processes=run.accelerator.num_processes,
        identity=run.identity,
        scheduled=progress.step % loop.save_every == 0,
        history=run.history,
    )
    extra = {} if run.average is None else {averages.FILE: run.average.values}
    step = run.saved = progress.step

    def write() -> None:
        snapshot = checkpoint.Snapshot.of(state, model, moments, random_states, extra)
        copied = snapshot.copied()
        if copied is None:
            snapshot.write(run.folder)
            _written(run, step)
        else:
            run.writer.start(lambda: copied.write(run.folder), then=lambda: _written(run, step))

    ranks.on_main(run.accelerator, write)
    tracker.resume()


def _written(run: "Run", step: int) -> None:
    """Offer the checkpoint of a step to the publisher, and drop what is too old; main process only."""
    if run.publisher is not None:
        run.publisher.offer(step)
    loop = run.recipe.loop
    checkpoint.prune(run.folder, max(loop.keep_last, loop.average_last if loop.final == "average" else 1))
    best.prune(run.folder)


def wait_for_write(run: "Run") -> None:
    """Wait until the checkpoint that was begun is on disk; every rank calls it, and all fail where it failed."""
    ranks.on_main(run.accelerator, run.writer.wait)
