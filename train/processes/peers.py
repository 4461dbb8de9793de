"""The ranks of a job watch each other: one that dies, hangs or fails is named, and none waits for it for ever.

Every rank notes in the job's key-value store that it lives and how many meeting points (collectives of the loop) it has
reached. The notes come from a thread, so that a rank whose main thread is stuck in a collective still gives them.
"""

import contextlib
import itertools
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.distributed as dist

from train.errors import DriftError, GenerationError, NonFiniteError, UserError
from train.processes import ranks
from train.processes.deadline import WAITS, Deadline, leave
from train.processes.ranks import PeerError
from train.processes.signals import Stopped

if TYPE_CHECKING:
    from accelerate import Accelerator

_EXPECTED = (UserError, NonFiniteError, DriftError, GenerationError, OSError)
_generations = itertools.count()


def patience(timeout: float) -> float:
    """Return the seconds after which the process group gives up: later than the notes, for its own error names no rank."""
    return timeout + min(30.0, max(5.0, timeout / 2))


class LostPeerError(RuntimeError):
    """Another rank died or hangs.

    Attributes:
        reports: whether this rank is the one that prints it.
    """

    def __init__(self, message: str, reports: bool) -> None:
        super().__init__(message)
        self.reports = reports


class RankError(RuntimeError):
    """This rank failed in an unexpected way; its traceback is in a file of the run folder."""


class Note(NamedTuple):
    """What a rank wrote last: a count that grows while the process lives, meeting points reached, steps done."""

    beats: int
    arrivals: int
    step: int


class Watch:
    """The notes of this rank and of the others.

    Args:
        rank: number of this process.
        world: number of processes.
        store: key-value store that all of them reach.
        timeout: seconds to wait for another rank.
    """

    def __init__(self, rank: int, world: int, store: dist.Store, timeout: float) -> None:
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # the store outlives a restart by torchrun
        self.rank, self.world, self.timeout = rank, world, timeout
        self.store = dist.PrefixStore(f"alive/{attempt}/{next(_generations)}", store)
        self.interval = min(1.0, timeout / 5)
        # The thread alone writes the beats, the main thread alone the others.
        self.beats, self.arrivals, self.step, self.arrived = 0, 0, 0, time.monotonic()
        self.seen: dict[int, tuple[int, float]] = {}  # rank -> its beats, and when they last grew
        self.closed = threading.Event()
        # A call to a store whose holder is frozen never returns, in this thread or another.
        self.deadline = Deadline(timeout + 2 * self.interval, lambda: str(self._store_gone(f"timeout {timeout:g} s")))
        self.thread = threading.Thread(target=self._run, name=WAITS, daemon=True)
        self.thread.start()

    def arrive(self, step: int | None) -> None:
        """Note that the main thread has reached the next meeting point."""
        self.arrived = time.monotonic()
        self.arrivals += 1
        self.step = self.step if step is None else step
        self.deadline.extend()

    def close(self) -> None:
        """End the notes; the thread stays where a call to the store does not return, see `deadline.is_stuck`."""
        self.closed.set()
        self.thread.join(timeout=2 * self.interval)
        self.deadline.close()

    def fail(self, text: str) -> None:
        """Tell the others that this rank fails by itself, and why."""
        with contextlib.suppress(RuntimeError):  # the store may be gone already
            self.store.set(f"failed/{self.rank}", text)

    def failures(self) -> list[int]:
        """List the other ranks that failed by themselves."""
        others = [rank for rank in range(self.world) if rank != self.rank]
        return [rank for rank in others if self.store.check([f"failed/{rank}"])]

    def read(self) -> dict[int, Note]:
        """Return the last note of every rank, this one included."""
        keys = {rank: f"note/{rank}" for rank in range(self.world)}
        # A get of a key that is not there would wait for it.
        return {
            rank: Note(*map(int, self.store.get(key).split())) if self.store.check([key]) else Note(0, 0, 0)
            for rank, key in keys.items()
        }

    def silent(self, patience: float) -> dict[int, int]:
        """Return {rank: its last step} of those whose process gives no notes, or else of those that hang behind us.

        Args:
            patience: seconds without a note that make a rank silent.
        """
        now, notes = time.monotonic(), self.read()
        for rank, note in notes.items():
            if self.seen.get(rank, (-1, 0.0))[0] != note.beats:
                self.seen[rank] = (note.beats, now)
        gone = [rank for rank in notes if rank != self.rank and now - self.seen[rank][1] > patience]
        behind = [rank for rank in notes if notes[rank].arrivals < self.arrivals]
        return {rank: notes[rank].step for rank in gone or behind}

    def message(self, silent: dict[int, int], why: str) -> LostPeerError:
        """Return the error that names the silent ranks."""
        living = [rank for rank in range(self.world) if rank not in silent]
        step = min(silent.values())
        names = ", ".join(map(str, silent))
        subject = f"rank {names} has" if len(silent) == 1 else f"ranks {names} have"
        return LostPeerError(f"{subject} not answered since step {step} ({why})", reports=self.rank == living[0])

    def explain(self, error: Exception, folder: Path) -> Exception:
        """Return what a failure of this rank's main thread means: another rank's end, or an error of its own."""
        if not _is_connection_error(error):
            return self._reported(error, folder)
        end = time.monotonic() + 4 * self.interval
        gone: dict[int, int] = {}
        try:
            while time.monotonic() < end:
                if self.failures():
                    return PeerError("another rank failed and says why")
                gone = self.silent(2.5 * self.interval)
                time.sleep(self.interval / 4)
        except RuntimeError:
            return self._store_gone("its connection is closed")
        if gone:
            lost = self.message(gone, "its connection is closed")
        else:
            problem = f"step {self.step}: the ranks no longer reach each other, though all of them live: {error}"
            lost = LostPeerError(problem, reports=True)
        self.fail(str(lost))  # so that this rank's own end is not taken for the cause
        return lost

    def _store_gone(self, why: str) -> LostPeerError:
        """Return the error of a job whose key-value store is gone, and with it all notes."""
        holder = "rank 0, or the launcher that holds the job's store,"
        return LostPeerError(f"{holder} has not answered since step {self.step} ({why})", reports=True)

    def _reported(self, error: Exception, folder: Path) -> Exception:
        """Tell the others of an error of this rank; keep the traceback of an unexpected one."""
        self.fail(str(error))
        if not isinstance(error, _EXPECTED):
            path = folder / f"traceback-rank{self.rank}.txt"
            try:
                path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
            except OSError:
                return error
            error = RankError(f"step {self.step}: {type(error).__name__}: {error} (traceback in {path})")
        first = self.rank - int(os.environ.get("LOCAL_RANK", "0"))  # of this machine; it reports what all ranks meet
        end = time.monotonic() + 1.0
        while first != self.rank and first not in self.failures():
            if time.monotonic() > end:
                print(f"error: rank {self.rank}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
                break
            time.sleep(0.05)
        return error

    def _run(self) -> None:
        """Give notes until the end; where this rank waits too long, name the one it waits for and end the process.

        The main thread cannot do it: it is inside a collective, and no exception reaches it there.
        """
        while not self.closed.wait(self.interval):
            waited = time.monotonic() - self.arrived
            try:
                self.beats += 1
                self.store.set(f"note/{self.rank}", f"{self.beats} {self.arrivals} {self.step}")
                if waited < 2 * self.interval:
                    continue
                silent = self.silent(self.timeout)
                self.deadline.extend()  # the store has answered
                if silent and waited > self.timeout:
                    self._leave(self.message(silent, f"timeout {self.timeout:g} s"))
                if waited > 10 * self.interval and self.failures():
                    self._leave(None)
            except RuntimeError:  # the store went with the process that held it
                if waited > self.timeout:
                    self._leave(self._store_gone("its connection is closed"))

    def _leave(self, error: LostPeerError | None) -> None:
        """End this process from outside its main thread; what is on disk is whole at any moment."""
        if error is not None and not error.reports:
            time.sleep(3 * self.interval)  # an earlier end of this one would be taken for the cause
        leave(f"error: {error}" if error is not None and error.reports else None)


def _is_connection_error(error: Exception) -> bool:
    """Tell an error of the connection between ranks from one of this rank; gloo has no class of its own for it."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "nccl", "connection closed"))
    )


def refuse_drift(accelerator: "Accelerator", model: torch.nn.Module, step: int) -> None:
    """Compare the weights of all ranks, bit by bit, before a checkpoint is made of one rank's; every rank calls it.

    Each takes the same step on the same sum of gradients, so they differ only where a device or a collective has erred.

    Raises:
        DriftError: on the main process; names the ranks that differ from the majority, or from rank 0.
        PeerError: on the others.
    """
    if accelerator.num_processes == 1:
        return
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    weights = [parameter.detach() for parameter in model.parameters()]
    mine = torch.stack([weight.view(integers[weight.element_size()]).sum(dtype=torch.int64) for weight in weights])
    ranks.arrive()
    everyones = [tuple(row) for row in accelerator.gather(mine[None]).tolist()]
    usual = max(everyones, key=everyones.count)
    others = [str(rank) for rank, sums in enumerate(everyones) if sums != usual]
    if others and not accelerator.is_main_process:
        raise PeerError("the main process says which ranks differ")
    if others:
        raise DriftError(
            f"step={step}: the weights of rank {', '.join(others)} are no longer those of the other ranks, which no "
            "arithmetic explains; the checkpoints on disk are from before; run the same command to go on from there"
        )


@contextlib.contextmanager
def starting(timeout: float) -> Iterator[None]:
    """Name the reason where the processes do not find each other at the start of a job.

    Raises:
        LostPeerError: on every rank that did start.
        UserError: torchrun started the processes again, but kept the addresses of the dead ones; they would wait for those.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt != "0" and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        raise UserError(
            f"restart {attempt} by torchrun: its key-value store still holds the addresses of the processes before; a job "
            "that restarts by itself must have TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment, and --standalone "
            "or --rdzv-backend c10d"
        )
    problem = f"the ranks did not all start within {patience(timeout):g} s"
    # The process group's own limit comes first, but does not hold where the holder of the store is frozen.
    with contextlib.closing(Deadline(patience(timeout) + min(5.0, timeout), lambda: problem)):
        try:
            yield
        except dist.DistError as error:
            reason = " ".join(str(error).split())[:200]
            raise LostPeerError(f"{problem}: {reason}", reports=True) from error


def destroy_group(timeout: float) -> None:
    """Take the process group down, where there is one, at the end of a job."""
    if dist.is_initialized():
        line = f"the end of the job: another rank did not answer (timeout {timeout:g} s)"
        with contextlib.closing(Deadline(timeout, lambda: line)):
            dist.destroy_process_group()


@contextlib.contextmanager
def watching(accelerator: "Accelerator", timeout: float, folder: Path) -> Iterator[None]:
    """Watch the other ranks while the block runs; one process alone has none to watch.

    Args:
        accelerator: accelerate's view of the processes.
        timeout: seconds to wait for another rank.
        folder: of the run, for a traceback.

    Raises:
        LostPeerError: the block failed because another rank died.
        RankError: it failed on this rank in an unexpected way.
        PeerError: it failed because another rank failed, which says why.
    """
    if accelerator.num_processes == 1 or not dist.is_initialized():
        yield
        return
    store = dist.distributed_c10d._get_default_store()
    watch = Watch(accelerator.process_index, accelerator.num_processes, store, timeout)
    try:
        with ranks.on_arrival(watch.arrive):
            yield
    except (Stopped, PeerError):
        raise
    except Exception as error:
        raise watch.explain(error, folder) from error
    finally:
        watch.close()
