"""Faults, on real processes: kills, damage, a full disk, signals, a second run, a rank that dies or hangs.

The oracle of nearly every test is a run of the same recipe that nobody disturbed: its final weights, byte for byte.
"""

import json
import random
import shutil
import signal
import subprocess
import time

import pytest

LAST = "step-00000024"


def weights(run) -> bytes:
    """Return the bytes of a run's final weights."""
    return (run / "final" / "model.safetensors").read_bytes()


def losses(run) -> list[tuple[int, float]]:
    """Return (step, loss) of every training step that metrics.jsonl holds."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if line["event"] == "train"]


def assert_same(run, whole) -> None:
    """Compare a disturbed run with an undisturbed one: weights and optimiser bitwise, and every loss."""
    assert weights(run) == weights(whole)
    names = [f"checkpoints/{LAST}/{name}.safetensors" for name in ("model", "optimizer", "rng-00000")]
    assert [(run / name).read_bytes() for name in names] == [(whole / name).read_bytes() for name in names]
    assert losses(run) == losses(whole)


def wait_for(condition, timeout: float = 60.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


def steps_done(run) -> int:
    """Return the newest step in metrics.jsonl."""
    try:
        return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError):
        return 0


def checkpoints(run) -> list[str]:
    """List the complete checkpoints, oldest first."""
    return sorted(path.name for path in (run / "checkpoints").glob("step-*"))


@pytest.fixture(scope="session")
def whole(starter, tmp_path_factory):
    """Return the runs that nobody disturbed, by number of processes."""
    folder = tmp_path_factory.mktemp("whole")
    return {world: starter.fit(folder / str(world), world=world) for world in (1, 2)}


@pytest.mark.parametrize("world", [1, 2])
def test_killed_at_any_moment_the_run_ends_bitwise_the_same(starter, whole, tmp_path, world):
    run, draw, killed = tmp_path / "run", random.Random(world), 0
    for attempt in range(4):
        before = steps_done(run)
        jobs = starter.start(run, world=world)
        if attempt % 2:  # in the middle of a save
            wait_for(lambda: any((run / "checkpoints").glob(".staging-*")) or jobs[0].poll() is not None)
        else:
            wait_for(lambda: steps_done(run) > before or jobs[0].poll() is not None)  # noqa: B023
            time.sleep(draw.uniform(0, 0.15))
        victim = draw.choice(jobs)
        victim.send(signal.SIGKILL)
        codes = [job.wait() for job in jobs]
        assert victim.code in (0, -signal.SIGKILL)
        killed += victim.code == -signal.SIGKILL
        assert victim.code == 0 or 0 not in codes  # nobody calls a run that lost a rank done
    assert killed >= 3
    assert_same(starter.fit(run, world=world), whole[world])
