"""A tiny translation task (reverse the letters) and a clean accelerate for every test that trains in this process."""

import gzip
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from dates_recipe import dates_recipe

ROOT = Path(__file__).resolve().parents[2]


def _pairs(count: int, seed: int) -> str:
    """Return lines of two columns: letters, and the same letters backwards."""
    draw = random.Random(seed)
    words = ["".join(draw.choices("abcdefg", k=draw.randint(2, 9))) for _ in range(count)]
    return "".join(f"{word}\t{word[::-1]}\n" for word in words)


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Leave the cache of token ids of whoever runs the tests alone."""
    monkeypatch.setenv("MODELING_VANILLA_CACHE", "")


@pytest.fixture
def write_recipe(tmp_path):
    """Return a function that writes data and a recipe: sections are merged into a tiny default."""

    def write(name: str = "tiny", rows: int = 61, **sections) -> Path:
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        for split, count in (("train", rows), ("validation", 7)):
            (data / f"{split}.tsv").write_text(_pairs(count, seed=count), encoding="utf-8")
        content = {
            "name": name,
            "task": "translation",
            "run_dir": str(tmp_path / name),
            "model": {"preset": "tiny", "dropout": 0.1},
            "tokenizer": {"kind": "char", "min_frequency": 1},
            "data": {
                "root": str(data),
                "train": "train.tsv",
                "validation": "validation.tsv",
                "source_column": 0,
                "target_column": 1,
            },
            "batch": {"max_tokens": 64},
            "optim": {"lr": 0.01, "warmup_steps": 1, "clip_norm": 1.0},
            "loop": {"max_steps": 6, "eval_every": 100, "save_every": 100, "log_every": 1, "tracker": "none"},
            "eval": {"split": "validation", "metrics": ["loss"]},
        }
        for section, values in sections.items():
            content[section] = content[section] | values if isinstance(values, dict) else values
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    return write


@pytest.fixture
def fit(monkeypatch):
    """Return `loop.fit` on a recipe's path and overrides, with accelerate's global state cleared before each call."""
    from accelerate.state import AcceleratorState, GradientState

    from train.hub import push
    from train.run import loop
    from train.settings import reading

    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def run(path, *overrides: str) -> Path:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        return loop.fit(reading.load_recipe([str(path), *overrides]), push)

    yield run
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


@pytest.fixture
def translation(tmp_path):
    """Return a recipe of thirteen dates, its data, its model and its tokenizer."""
    from evaluation import model_and_tokenizer, translation_recipe

    from modeling_vanilla import VanillaForConditionalGeneration
    from train.data.splits import load_splits

    recipe = translation_recipe(tmp_path)
    splits = load_splits(recipe)
    return recipe, splits, *model_and_tokenizer(VanillaForConditionalGeneration, recipe, splits)


@pytest.fixture
def recipe(tmp_path):
    """Make a recipe over files of a temporary folder, which are text or bytes; a name that ends in gz is packed."""
    from train.settings.recipe import Recipe
    from train.settings.sections import DataSection

    def function(task: str, files: dict | None = None, **data) -> Recipe:
        for name, content in (files or {}).items():
            content = content if isinstance(content, bytes) else content.encode()
            (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return Recipe(name="test", task=task, data=DataSection(**{"root": str(tmp_path)} | data))

    return function


DATES = dates_recipe("dates", loop={"max_steps": 24, "eval_every": 8, "accumulate": 2})

# Imports take ten times as long as the small runs of these tests, so one process imports and forks off a real process
# for every start; it does nothing else, and a signal to a child is a signal to a training process.
STARTER = """
import json, os, resource, sys
from accelerate import Accelerator
from train import __main__
from train.run import finish, loop
from train.data import dates as generators
from train.settings import reading as recipe
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
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number, descriptor in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
        os.dup2(descriptor, number)
    if job["limit"]:
        import signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it: the write fails, the process lives
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    exec(job["code"])
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

    def start(self, run_dir: Path, *words: str, world: int = 1, limit: int = 0, code: str = "") -> list[Job]:
        """Start the ranks of one job and return them."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        jobs = []
        for rank in range(world):
            self.count += 1
            output = self.folder / f"output-{self.count}.txt"
            shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world)}
            environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} if world > 1 else {}
            message = {
                "environment": environment,
                "output": str(output),
                "limit": limit,
                "code": code,
                "words": ["fit", str(self.recipe), "--run_dir", str(run_dir), *words],
            }
            jobs.append(Job(self, self.ask(message), output))
        self.jobs += jobs
        return jobs

    def fit(self, run_dir: Path, *words: str, world: int = 1) -> Path:
        """Train to the end."""
        for job in self.start(run_dir, *words, world=world):
            assert job.wait() == 0, job.text
        return run_dir

    def close(self) -> None:
        """End everything that still runs."""
        for job in self.jobs:
            if job.poll() is None:
                os.kill(job.pid, signal.SIGKILL)
                job.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="session")
def starter(tmp_path_factory):
    """Return the starter of real training processes."""
    result = Starter(tmp_path_factory.mktemp("starter"))
    yield result
    result.close()
