"""The faults again on the real command line: `python -m train fit` and torchrun, killed twenty times each."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[3]
FIT = [sys.executable, "-m", "train", "fit"]
TORCHRUN = [
    sys.executable,
    "-m",
    "torch.distributed.run",
    "--standalone",
    "--nproc_per_node",
    "2",
    "-m",
    "train",
    "fit",
]
# Enough steps for twenty kills to fall into training; a step takes about as long as a save.
STEPS = ("--loop.max_steps", "300", "--loop.eval_every", "100", "--loop.save_every", "3")


def launch(command, recipe, run, *words, log, **more):
    """Start a command in a session of its own, so that nothing else receives its signals; with `more` variables."""
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [*command, str(recipe), "--run_dir", str(run), *STEPS, *words],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def children(pid: int) -> list[int]:
    """Return the training processes that a launcher started, by rank."""
    found = []
    for name in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        variables = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        rank = next((int(entry[5:]) for entry in variables if entry.startswith(b"RANK=")), None)
        if rank is not None:
            found.append((rank, int(name)))
    return [pid for _, pid in sorted(found)]


def steps_done(run) -> int:
    """Return the newest step in metrics.jsonl."""
    try:
        return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError):
        return 0


def losses(run) -> list[tuple[int, float]]:
    """Return (step, loss) of every training step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if line["event"] == "train"]


def assert_same(run, whole) -> None:
    """Compare two finished runs, bitwise."""
    for name in ("final/model.safetensors", "checkpoints/step-00000300/optimizer.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert losses(run) == losses(whole)


def wait_for_step(process, run, step: int) -> None:
    """Wait until a run is past a step, or has ended."""
    end = time.monotonic() + 180
    while process.poll() is None and steps_done(run) <= step:
        assert time.monotonic() < end, "no step was taken"
        time.sleep(0.005)


def wait_for_save(process, run) -> None:
    """Wait until the newest half-written checkpoint is a new one, or the run has ended."""
    started = steps_done(run)
    wait_for_step(process, run, started)
    while process.poll() is None and not any((run / "checkpoints").glob(".staging-*")):
        time.sleep(0.001)


@pytest.mark.parametrize("command", [FIT, TORCHRUN], ids=["one process", "two processes"])
def test_killed_twenty_times_the_run_ends_bitwise_the_same(starter, tmp_path, command):
    draw, log = random.Random(20), tmp_path / "log.txt"
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert launch(command, starter.recipe, whole, log=log).wait(timeout=300) == 0, log.read_text()[-3000:]
    kills = 0
    while kills < 20:
        process = launch(command, starter.recipe, run, log=log)
        victims = [process.pid]
        if kills % 4 == 0:
            moment, before = time.monotonic() + draw.uniform(0, 8), steps_done(run)  # also one of the imports
            while (
                time.monotonic() < moment and steps_done(run) < before + 10
            ):  # a fast machine must not get to the end
                time.sleep(0.005)
        elif kills % 4 == 1:
            wait_for_save(process, run)
        else:
            wait_for_step(process, run, steps_done(run))
            time.sleep(draw.uniform(0, 0.2))
        if command is TORCHRUN and process.poll() is None and (ranks := children(process.pid)):
            # One rank, which the launcher notices, or everything at once, as when a machine loses its power.
            victims = [draw.choice(ranks)] if draw.random() < 0.5 else [process.pid, *ranks]
        assert process.poll() is None, f"it ended before kill {kills}: {log.read_text()[-3000:]}"
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        assert process.wait(timeout=120) != 0
        kills += 1
    assert steps_done(run) < 300
    assert launch(command, starter.recipe, run, log=log).wait(timeout=300) == 0, log.read_text()[-3000:]
    assert_same(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("target", ["one process", "one rank", "torchrun"])
def test_a_signal_saves_and_ends_all(starter, tmp_path, number, target):
    run, log = tmp_path / "run", tmp_path / "log.txt"
    process = launch(FIT if target == "one process" else TORCHRUN, starter.recipe, run, log=log)
    wait_for_step(process, run, 5)
    os.kill(children(process.pid)[1] if target == "one rank" else process.pid, number)
    code = process.wait(timeout=120)
    assert code == 128 + number if target == "one process" else code != 0  # torchrun has codes of its own
    text = log.read_text()
    stopped = [line for line in text.splitlines() if line.startswith("stopped at step ")]
    assert len(stopped) == 1, text[-3000:]
    step = int(stopped[0].split()[3].rstrip(","))
    assert (run / "checkpoints" / f"step-{step:08d}" / "manifest.json").is_file()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_torchrun_ends_when_a_rank_is_killed_or_stopped(starter, tmp_path, number):
    run, log = tmp_path / "run", tmp_path / "log.txt"
    process = launch(TORCHRUN, starter.recipe, run, "--loop.timeout", "5", log=log)
    wait_for_step(process, run, 5)
    started = time.monotonic()
    os.kill(children(process.pid)[1], number)
    assert process.wait(timeout=120) == 1
    assert time.monotonic() - started < 60  # the timeout, and the 30 s after which torchrun kills a stopped process
    text = log.read_text()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    assert all(line.startswith("error: rank 1 has not answered since step ") for line in errors)
    # A rank that was killed torchrun may see first; then it ends the other one and names the rank itself.
    assert len(errors) == 1 or (number == signal.SIGKILL and re.search(r"exitcode: -9\) local_rank: 1\b", text))


def test_torchrun_starts_a_killed_rank_again(starter, tmp_path):
    log, whole, run = tmp_path / "log.txt", tmp_path / "whole", tmp_path / "run"
    restarting = [*TORCHRUN[:3], "--max-restarts", "3", *TORCHRUN[3:]]
    assert launch(TORCHRUN, starter.recipe, whole, log=log).wait(timeout=300) == 0, log.read_text()[-3000:]
    process = launch(restarting, starter.recipe, run, log=log, TORCH_DISABLE_SHARE_RDZV_TCP_STORE="1")
    for step, rank in ((20, 1), (60, 0)):
        wait_for_step(process, run, step)
        os.kill(children(process.pid)[rank], signal.SIGKILL)
    assert process.wait(timeout=300) == 0, log.read_text()[-3000:]
    assert len(re.findall(r"^resumed at step ", log.read_text(), re.MULTILINE)) == 2
    assert_same(run, whole)
