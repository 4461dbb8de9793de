"""Real processes without the wait for their imports: one process imports, and forks off a process for every start."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from dates_recipe import dates_recipe

ROOT = Path(__file__).resolve().parents[2]
DATES = dates_recipe("dates", loop={"max_steps": 24, "eval_every": 8, "accumulate": 2})

# Imports take ten times as long as the small runs of these tests, so one process imports and forks off a real process
# for every start; it does nothing else, and a signal to a child is a signal to a process that the test started. What a
# child does then is what Python does with these words, but for what is read from the environment on import.
STARTER = """
import json, os, resource, runpy, sys
from train import __main__
from train.processes import imports
with imports.stay():
    from accelerate import Accelerator
    from train.pictures import curves
    from train.run import finish, loop
    from train.data import dates as generators
    from train.settings import reading as recipe
recipe.parser()
generators.dates(train=1, validation=1, test=1)  # fills a cache
for line in sys.stdin:
    job = json.loads(line)
    if "poll" in job:
        done, status = os.waitpid(job["poll"], os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if done else None), flush=True)
        continue
    pid = os.fork()
    if pid:
        print(pid, flush=True)
        continue
    os.environ.update(job["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "output"), (2, "errors")):
        os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    if job["limit"]:
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it: the write fails, the process lives
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    exec(job["code"])
    if job["script"]:
        sys.argv = job["words"]
        sys.path[0] = os.path.dirname(sys.argv[0])
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
    sys.exit(__main__.main(job["words"]))
"""


class Job:
    """One training process."""

    def __init__(self, starter: "Starter", pid: int, output: Path):
        self.starter, self.pid, self.output = starter, pid, output
        self.code = None

    def send(self, number: int) -> None:
        """Send a signal; it is no error that the process has just ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self):
        """Return the exit code, negative for a signal, None while the process runs."""
        if self.code is None:
            self.code = self.starter.ask({"poll": self.pid})
        return self.code

    def wait(self, timeout: float = 60.0) -> int:
        """Wait for the exit code."""
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(f"still running after {timeout} s: {self.text}")
            time.sleep(0.01)
        return self.code

    @property
    def text(self) -> str:
        """Return what the process wrote."""
        return self.output.read_text(encoding="utf-8") if self.output.exists() else ""


class Starter:
    """Start `train fit` on the small dates recipe, as one process or as the ranks of a job."""

    def __init__(self, folder: Path):
        self.folder, self.count, self.jobs = folder, 0, []
        self.recipe = folder / "dates.yaml"
        self.recipe.write_text(DATES, encoding="utf-8")
        environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        environment["PYTHONFAULTHANDLER"] = "1"  # one that dies in native code shows the stacks of its threads
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", STARTER],
            cwd=ROOT,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, message: dict):
        """Send one line to the process that forks, and return its answer."""
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def launch(self, words: list[str], world: int, environment: dict[str, str], **more) -> list[Job]:
        """Start the ranks of one job and return them; what a message may hold besides is a rank's own."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
        is_job = world > 1 or "script" in more  # a command on its own has no launcher
        jobs = []
        for rank in range(world):
            self.count += 1
            output = self.folder / f"output-{self.count}.txt"
            message = {
                "words": words,
                "environment": environment | (shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if is_job else {}),
                "output": str(output),
                "errors": str(output),
                "limit": 0,
                "code": "",
                "script": False,
            }
            jobs.append(Job(self, self.ask(message | more), output))
        self.jobs += jobs
        return jobs

    def start(self, run_dir: Path, *words: str, world: int = 1, recipe: Path | None = None, **more) -> list[Job]:
        """Start the ranks of one training run and return them.

        Args:
            run_dir: folder of the run.
            words: more of the command line.
            world: how many processes.
            recipe: another one than the dates.
            more: `limit`, the most bytes of a file; `code`, which runs first.
        """
        words = ["fit", str(recipe or self.recipe), "--run_dir", str(run_dir), *words]
        return self.launch(words, world, {}, **more)

    def fit(self, run_dir: Path, *words: str, world: int = 1, recipe: Path | None = None) -> Path:
        """Train to the end."""
        for job in self.start(run_dir, *words, world=world, recipe=recipe):
            assert job.wait(240) == 0, job.text
        return run_dir

    def ranks(self, script: Path | str, *words, processes: int = 2) -> str:
        """Run a script on several processes, and return what they print; one that fails ends the others, as with torchrun."""
        errors = self.folder / f"errors-{self.count}.txt"
        words = [str(script), *map(str, words)]
        jobs = self.launch(words, processes, dict(os.environ), script=True, errors=str(errors))
        end = time.monotonic() + 300
        while any(job.poll() is None for job in jobs) and not any(job.poll() for job in jobs):
            assert time.monotonic() < end, errors.read_text("utf-8")[-10000:]
            time.sleep(0.01)
        codes = [job.poll() for job in jobs]
        self.end(jobs)
        assert set(codes) == {0}, errors.read_text("utf-8")[-10000:]
        return "".join(job.text for job in jobs)

    def end(self, jobs: list[Job]) -> None:
        """End what still runs."""
        for job in jobs:
            if job.poll() is None:
                os.kill(job.pid, signal.SIGKILL)
                job.wait()

    def close(self) -> None:
        """End everything that still runs."""
        self.end(self.jobs)
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
