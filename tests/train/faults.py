"""What the tests of faults share: looking at a run under way, and code that disturbs one from inside."""

import json
import time

# Rank 1 does something at the start of its seventh step; the other one knows nothing of it.
DISTURBED = """
original = loop.train_step
def train_step(run, delivery, request):
    if run.accelerator.process_index == 1 and run.progress.step == 6:
        {action}
    return original(run, delivery, request)
loop.train_step = train_step
"""
STOPS = "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"
# A process gets a signal while its tenth step is under way; the next step tells the others, and all save after it.
SIGNALLED = """
import os, signal
original = loop.train_step
def train_step(run, delivery, request):
    if run.progress.step == 9 and run.accelerator.process_index == {rank}:
        os.kill(os.getpid(), signal.{name})
    return original(run, delivery, request)
loop.train_step = train_step
"""


def weights(run) -> bytes:
    """Return the bytes of a run's final weights."""
    return (run / "final" / "model.safetensors").read_bytes()


def losses(run) -> list[tuple[int, float]]:
    """Return (step, loss) of every training step that metrics.jsonl holds."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if line["event"] == "train"]


def wait_for(condition, timeout: float = 60.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def steps_done(run) -> int:
    """Return the newest step in metrics.jsonl."""
    try:
        return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError):
        return 0


def half_written(run) -> set[int]:
    """Return the inodes of half-written checkpoints."""
    return {path.stat().st_ino for path in (run / "checkpoints").glob(".staging-*") if path.exists()}


def wait_for_save(run, job, left: set[int]) -> None:
    """Wait until a checkpoint is half written that is none of those left before, or the job has ended."""
    wait_for(lambda: half_written(run) - left or job.poll() is not None)


def wait_for_step(run, job, step: int) -> None:
    """Wait until the run is past a step, or the job has ended."""
    wait_for(lambda: steps_done(run) > step or job.poll() is not None)


def checkpoints(run) -> list[str]:
    """List the complete checkpoints, oldest first."""
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))
