"""Checkpoints of a run: begun by every rank, written by one, and waited for by all."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from train.processes import peers, random_state, ranks
from train.run import averages, checkpoint, finish, shard

if TYPE_CHECKING:
    from train.run.run import Run
    from train.run.tracking import Tracker
    from train.run.writer import Writer


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
    states = random_state.gather_random_states(run.accelerator)
    whole = shard.whole(run, moments=True)
    content = {
        "progress": asdict(progress),
        "processes": run.accelerator.num_processes,
        "identity": run.identity,
        "scheduled": progress.step % loop.save_every == 0,
        "history": run.history,
    }
    more = {} if run.average is None else {averages.FILE: run.average.tensors()}
    what = (run.folder, progress.step, whole.bare, whole.optimizer.optimizer, states, content, more)
    step = run.saved = progress.step

    def write() -> None:
        in_background = checkpoint.copied(*what)
        if in_background is None:
            checkpoint.save(*what)
            finish.saved(run, step)
        else:
            run.writer.start(in_background, then=lambda: finish.saved(run, step))

    ranks.on_main(run.accelerator, write)
    tracker.resume()


def wait_for_write(run: "Run") -> None:
    """Wait until the checkpoint that was begun is on disk; every rank calls it, and all fail where it failed."""
    ranks.on_main(run.accelerator, run.writer.wait)


@contextlib.contextmanager
def ended(writer: "Writer") -> Iterator[None]:
    """Wait at the end of the block, however it ends, until nothing is written any more."""
    try:
        yield
    finally:
        writer.join()
