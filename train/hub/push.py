"""Send checkpoints to the Hub while the run goes on: beside the training, and never in its way.

Main process only. A push that fails is one warning, and the next one tries again.
"""

import os
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from huggingface_hub.utils import disable_progress_bars
from tqdm import tqdm

from train import files
from train.errors import PublishError, UserError
from train.hub import card, client, repository, upload
from train.hub.folder import is_allowed
from train.measure import provenance, scoring
from train.processes import signals
from train.run import checkpoint
from train.tasks import TASKS

if TYPE_CHECKING:
    from train.run.run import Run
    from train.settings.recipe import Recipe

PATIENCE = 300.0
"""Seconds that the end of a run waits for its last push at most; half of `loop.timeout` where that is less."""


class Waiting(NamedTuple):
    """A folder to be sent, and the step it is of."""

    step: int
    folder: Path


def target_of(recipe: "Recipe") -> repository.Target:
    """Return where a recipe's checkpoints go."""
    return repository.Target(recipe.loop.push_to, recipe.loop.push_revision, private=True)


def _once() -> client.Hub:
    """Return a way to the Hub without further tries: what counts is how a push ends."""
    return client.Hub(say=lambda line: None, waits=())


def check(recipe: "Recipe") -> None:
    """Find out before the training whether checkpoints could be sent where the recipe wants them.

    Raises:
        UserError: there is no token, it is not known or may not write, or the repository holds something else.
    """
    if recipe.loop.push_to is None:
        return
    hub = _once()
    try:
        client.log_in(hub)
        repository.survey(hub, target_of(recipe))
    except PublishError as error:  # the network may be back when there is something to send
        tqdm.write(f"warning: loop.push_to: {error}")


def begin(run: "Run") -> "Pusher":
    """Return what sends the checkpoints of a run."""
    return Pusher(run)


class Pusher:
    """One thread that sends, and the newest folder that waits for it."""

    def __init__(self, run: "Run") -> None:
        self.run, self.target = run, target_of(run.recipe)
        self.every = run.recipe.loop.push_every or run.recipe.loop.save_every
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None  # until the first offer
        self.waiting: Waiting | None = None  # what is sent next; a newer one takes its place
        self.busy = False  # whether something is being sent
        self.offered = 0  # step of the newest folder that was taken

    def offer(self, step: int, last: bool = False) -> None:
        """Have the checkpoint of a step sent, where its turn has come; it may be deleted afterwards.

        Args:
            step: of a checkpoint that is on disk.
            last: whether the run ends with it.
        """
        if step == self.offered or (step % self.every and not last):
            return
        try:
            folder = self._staged(step)
        except Exception as error:  # noqa: BLE001  (a full disk must not end a run whose checkpoint is written)
            self._warn(step, error)
            return
        self.offered = step
        with self.changed:
            dropped, self.waiting = self.waiting, Waiting(step, folder)
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name="push", daemon=True)
                self.thread.start()
            self.changed.notify_all()
        if dropped is not None:
            shutil.rmtree(dropped.folder, ignore_errors=True)

    def close(self) -> None:
        """Wait for the last push, but not for ever, nor when asked to stop."""
        patience = min(PATIENCE, self.run.recipe.loop.timeout / 2)
        end = time.monotonic() + patience
        with self.changed:
            while self.waiting is not None or self.busy:
                if signals.is_asked() or time.monotonic() > end:
                    reason = "a signal" if signals.is_asked() else f"{patience:.0f} s"
                    tqdm.write(
                        f"warning: {self._place}: the last push is not through after {reason}; the run ends without"
                    )
                    return
                self.changed.wait(0.2)

    def _staged(self, step: int) -> Path:
        """Return a folder with the model of a checkpoint; the weights are linked, so that pruning does not lose them."""
        run = self.run
        source = checkpoint.folder_of(run.folder, step)
        folder = run.folder / f"{files.STAGING}push-{step:08d}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in [*source.iterdir(), *(run.folder / files.TOKENIZER).iterdir()]:
            if not is_allowed(path.name) or path.name == files.MANIFEST:
                continue
            if path.is_symlink():
                raise UserError(f"{path}: a link, which is not followed; put the file itself there")
            _copy(path, folder / path.name, link=path.name == checkpoint.WEIGHTS_FILE)
        if TASKS[run.recipe.task].generates:
            scoring.generation_config(run.recipe, run.bare.config).save_pretrained(folder)
        provenance.public(run.recipe).save(folder / files.RECIPE)
        card.of_checkpoint(self.target.repo_id, run.recipe, step).save(folder / files.CARD)
        return folder

    def _work(self) -> None:
        """Send what waits, for ever; the thread ends with the process."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting is not None)
                (step, folder), self.waiting, self.busy = self.waiting, None, True
            disable_progress_bars()  # the run has its own; saving a checkpoint switches these on again
            try:
                files.write_manifest(folder)
                sent = upload.send(_once(), folder, self.target, f"Checkpoint of step {step}")
                tqdm.write(f"pushed step {step} to {self._place}, commit {sent.commit[:12]}")
            except Exception as error:  # noqa: BLE001  (nothing that happens here may reach the run)
                self._warn(step, error)
            shutil.rmtree(folder, ignore_errors=True)
            with self.changed:
                self.busy = False
                self.changed.notify_all()

    @property
    def _place(self) -> str:
        """Return where pushes go, for people."""
        return f"{self.target.repo_id}@{self.target.revision}"

    def _warn(self, step: int, error: Exception) -> None:
        """Say in one line that a push failed."""
        message = str(error).replace("; run the same command again", "")  # the next push does it
        tqdm.write(f"warning: step {step} not pushed to {self._place}: {' '.join(message.split())}")


def _copy(path: Path, target: Path, link: bool) -> None:
    """Copy a file, or give it a second name where the file system has such links."""
    if link:
        try:
            os.link(path, target)
            return
        except OSError:
            pass
    shutil.copyfile(path, target)
