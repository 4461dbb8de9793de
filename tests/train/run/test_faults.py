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
from faults import (
    DISTURBED,
    SIGNALLED,
    STOPS,
    checkpoints,
    half_written,
    losses,
    steps_done,
    wait_for,
    wait_for_save,
    wait_for_step,
    weights,
)

LAST = "step-00000024"


def assert_same(run, whole) -> None:
    """Compare a disturbed run with an undisturbed one: weights and optimiser bitwise, and every loss."""
    assert weights(run) == weights(whole)
    names = [f"checkpoints/{LAST}/{name}.safetensors" for name in ("model", "optimizer", "rng-00000")]
    assert [(run / name).read_bytes() for name in names] == [(whole / name).read_bytes() for name in names]
    assert losses(run) == losses(whole)


@pytest.fixture(scope="session")
def whole(starter, tmp_path_factory):
    """Return the runs that nobody disturbed, by number of processes."""
    folder = tmp_path_factory.mktemp("whole")
    return {world: starter.fit(folder / str(world), world=world) for world in (1, 2)}


@pytest.mark.parametrize(("world", "kills"), [(1, 4), (2, 2)])
def test_killed_at_any_moment_the_run_ends_bitwise_the_same(starter, whole, tmp_path, world, kills):
    run, draw, killed = tmp_path / "run", random.Random(world), 0
    for attempt in range(kills):
        before, left = steps_done(run), half_written(run)
        jobs = starter.start(run, world=world)
        if attempt % 2:
            wait_for_save(run, jobs[0], left)
        else:
            wait_for_step(run, jobs[0], before)
            time.sleep(draw.uniform(0, 0.15))
        victim = draw.choice(jobs)
        victim.send(signal.SIGKILL)
        codes = [job.wait() for job in jobs]
        assert victim.code in (0, -signal.SIGKILL)
        killed += victim.code == -signal.SIGKILL
        assert victim.code == 0 or 0 not in codes  # nobody calls a run that lost a rank done
    assert killed >= kills - 1
    assert_same(starter.fit(run, world=world), whole[world])


SLEEPS = "import time; time.sleep(600)"
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
RAISES = "raise KeyError('a bug')"
LEAVES = "import os; os._exit(0)"
FLIPS = "next(run.bare.parameters()).data.view(-1)[3] += 1e-6"


@pytest.mark.parametrize(
    ("action", "timeout", "why"),
    [
        pytest.param(STOPS, "3", "timeout 3 s", id="stopped"),
        pytest.param(SLEEPS, "3", "timeout 3 s", id="asleep", marks=pytest.mark.slow),
        # Long enough that the closed connection is seen first.
        pytest.param(DIES, "20", "connection is closed", id="killed", marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_hangs_or_dies_ends_the_job_and_is_named(starter, whole, tmp_path, action, timeout, why):
    first, second = starter.start(
        tmp_path / "run", "--loop.timeout", timeout, world=2, code=DISTURBED.format(action=action)
    )
    started = time.monotonic()
    assert first.wait(timeout=60) == 1
    assert time.monotonic() - started < 45
    second.send(signal.SIGKILL)
    second.wait()
    errors = [line for line in first.text.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert errors[0].startswith("error: rank 1 has not answered since step ")
    assert why in errors[0]
    assert "Traceback" not in first.text
    assert checkpoints(tmp_path / "run")[-1] == "step-00000006"
    if action == DIES:
        assert_same(starter.fit(tmp_path / "run", world=2), whole[2])  # the timeout is no part of the run's identity


@pytest.mark.slow
def test_a_rank_that_leaves_early_is_named_and_costs_nothing(starter, whole, tmp_path):
    first, second = starter.start(
        tmp_path / "run", "--loop.timeout", "20", world=2, code=DISTURBED.format(action=LEAVES)
    )
    assert first.wait() == 1
    assert second.wait() == 0
    errors = [line for line in first.text.splitlines() if line.startswith("error")]
    assert [line.split(" since ")[0] for line in errors] == ["error: rank 1 has not answered"]
    assert_same(starter.fit(tmp_path / "run", world=2), whole[2])


def test_weights_that_differ_between_ranks_are_never_saved(starter, whole, tmp_path):
    jobs = starter.start(tmp_path / "run", world=2, code=DISTURBED.format(action=FLIPS))
    assert [job.wait() for job in jobs] == [1, 1]
    errors = [line for job in jobs for line in job.text.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    # Of two nobody knows which is right.
    assert errors[0].startswith("error: step=8: the weights of rank 1 are no longer those of the other ranks")
    assert checkpoints(tmp_path / "run")[-1] == "step-00000006"
    assert_same(starter.fit(tmp_path / "run", world=2), whole[2])


def test_an_error_of_one_rank_ends_all_with_one_line(starter, tmp_path):
    jobs = starter.start(tmp_path / "run", world=2, code=DISTURBED.format(action=RAISES))
    assert [job.wait() for job in jobs] == [1, 1]
    text = "".join(job.text for job in jobs)
    errors = [line for line in text.splitlines() if line.startswith("error")]
    assert errors == [
        f"error: rank 1: step 6: KeyError: 'a bug' (traceback in {tmp_path / 'run' / 'traceback-rank1.txt'})"
    ]
    assert "Traceback" not in text
    assert "in train_step" in (tmp_path / "run" / "traceback-rank1.txt").read_text()


def truncate(path) -> None:
    """Cut the end off."""
    path.write_bytes(path.read_bytes()[:-3])


def empty(path) -> None:
    """Leave nothing of the content."""
    path.write_bytes(b"")


def delete(path) -> None:
    """Take the file away."""
    path.unlink()


def flip(path) -> None:
    """Change one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


HARMS = (truncate, empty, delete, flip)


@pytest.fixture(scope="session")
def half(starter, tmp_path_factory):
    """Return a run stopped at step 11, with the checkpoints of steps 8, 10 and 11."""
    run = tmp_path_factory.mktemp("half") / "run"
    (job,) = starter.start(run, code=SIGNALLED.format(rank=0, name="SIGTERM"))
    assert job.wait() == 128 + signal.SIGTERM
    assert checkpoints(run)[-2:] == ["step-00000010", "step-00000011"]
    return run


def damage(starter, half, whole, folder, name: str, harm) -> None:
    """Damage one file of the newest checkpoint, go on, and compare the end."""
    run = folder / f"{name}-{harm.__name__}"
    shutil.copytree(half, run)
    harm(run / "checkpoints" / "step-00000011" / name)
    (job,) = starter.start(run)
    assert job.wait() == 0, job.text
    warnings = [line for line in job.text.splitlines() if "damaged checkpoint skipped" in line]
    assert len(warnings) == 1
    assert "step-00000011" in warnings[0]
    assert name == "manifest.json" or f": {name} " in warnings[0]  # a flipped digest is taken for its file's fault
    assert "resumed at step 10," in job.text
    assert_same(run, whole[1])


@pytest.mark.parametrize(
    ("name", "harm"),
    [("optimizer.safetensors", flip), ("rng-00000.safetensors", delete), ("state.json", truncate)],
)
def test_a_damaged_file_costs_one_checkpoint(starter, half, whole, tmp_path, name, harm):
    damage(starter, half, whole, tmp_path, name, harm)


@pytest.mark.slow
@pytest.mark.parametrize("harm", HARMS)
def test_every_file_of_the_newest_checkpoint_damaged(starter, half, whole, tmp_path, harm):
    names = sorted(path.name for path in (half / "checkpoints" / "step-00000011").iterdir())
    assert len(names) >= 6
    for name in names:
        damage(starter, half, whole, tmp_path, name, harm)


def assert_full_disk(job, run, before) -> None:
    """Check the end of a run whose disk took no more: one line, the old checkpoints as they were."""
    assert job.wait() == 1, job.text
    errors = [line for line in job.text.splitlines() if line.startswith("error")]
    assert len(errors) == 1
    assert "step-00000012: checkpoint not written" in errors[0]
    assert "Traceback" not in job.text
    assert checkpoints(run) == before
    assert steps_done(run) < 24  # seen by the step after the write, not at the end
    assert not list((run / "checkpoints").glob(".staging-*"))


def test_a_full_disk_ends_the_run_and_costs_nothing(starter, half, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(half, run)
    size = (run / "checkpoints" / "step-00000011" / "optimizer.safetensors").stat().st_size
    (job,) = starter.start(run, limit=size - 1000)
    assert_full_disk(job, run, checkpoints(half))
    assert_same(starter.fit(run), whole[1])


@pytest.mark.slow
def test_a_full_disk_ends_all_ranks(starter, half, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(half, run)
    size = (run / "checkpoints" / "step-00000011" / "optimizer.safetensors").stat().st_size
    first, second = starter.start(run, world=2, limit=size - 1000)
    assert_full_disk(first, run, checkpoints(half))
    assert second.wait(timeout=30) == 1
    assert "error" not in second.text


@pytest.mark.slow
def test_a_full_file_system_ends_the_run_and_costs_nothing(starter, half, whole, tmp_path):
    used = sum(path.stat().st_size // 4096 + 1 for path in half.rglob("*")) * 4 + 60  # in pages, folders too
    mount = ["mount", "-t", "tmpfs", "-o", f"size={used}k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system here")
    try:
        run = tmp_path / "run"
        shutil.copytree(half, run)
        (job,) = starter.start(run)
        assert_full_disk(job, run, checkpoints(half))
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path)], check=True)
        assert_same(starter.fit(run), whole[1])
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_signal_to_one_rank_stops_both_which_save(starter, whole, tmp_path):
    run = tmp_path / "run"
    jobs = starter.start(run, world=2, code=SIGNALLED.format(rank=1, name="SIGTERM"))
    assert [job.wait() for job in jobs] == [128 + signal.SIGTERM] * 2
    assert checkpoints(run)[-1] == "step-00000011"
    jobs = starter.start(run, world=2, code=SIGNALLED.format(rank=0, name="SIGINT").replace("== 9", "== 11"))
    assert [job.wait() for job in jobs] == [128 + signal.SIGINT] * 2
    assert [sum("stopped at step" in line for line in job.text.splitlines()) for job in jobs] == [1, 0]
    assert_same(starter.fit(run, world=2), whole[2])


def test_a_second_run_in_the_same_folder_refuses(starter, whole, tmp_path):
    run = tmp_path / "run"
    (first,) = starter.start(run)
    wait_for(lambda: steps_done(run) > 0)
    first.send(signal.SIGSTOP)  # it holds the folder as long as it lives
    before = sorted(str(path) for path in run.rglob("*"))
    (second,) = starter.start(run)
    assert second.wait() == 2
    assert f"another process (pid {first.pid}) is training in this folder" in second.text
    assert sorted(str(path) for path in run.rglob("*")) == before
    first.send(signal.SIGCONT)
    assert first.wait() == 0
    assert_same(run, whole[1])


@pytest.mark.slow
def test_begun_on_two_gone_on_with_on_one_and_back(starter, whole, tmp_path):
    # Without dropout, whose numbers belong to a rank: then the same batches give the same losses but for rounding.
    dry = ("--model.dropout", "0", "--loop.eval_every", "100")
    reference = starter.fit(tmp_path / "reference", *dry)
    run = tmp_path / "run"
    for world, stop in ((2, 7), (1, 15), (2, None)):
        code = SIGNALLED.format(rank=0, name="SIGTERM").replace("== 9", f"== {stop}")
        jobs = starter.start(run, *dry, world=world, code=code)
        assert [job.wait() for job in jobs] == [143 if stop else 0] * world, jobs[0].text
    assert [step for step, _ in losses(run)] == [step for step, _ in losses(reference)] == list(range(1, 25))
    assert [loss for _, loss in losses(run)] == pytest.approx([loss for _, loss in losses(reference)], rel=1e-4)
    tokens = [
        [line["tokens"] for line in map(json.loads, lines) if "tokens" in line]
        for lines in ((folder / "metrics.jsonl").read_text().splitlines() for folder in (run, reference))
    ]
    assert tokens[0] == tokens[1]
