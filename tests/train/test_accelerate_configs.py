"""The shipped launch files: accelerate reads them, knows every key, and starts as many processes as they say."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands import launch
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.utils import DistributedType

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "train" / "accelerate").glob("*.yaml"))
KINDS = {
    "cpu-two-processes": (DistributedType.MULTI_GPU, 2, 1),
    "fsdp2": (DistributedType.FSDP, 8, 1),
    "multi-gpu": (DistributedType.MULTI_GPU, 8, 1),
    "multi-machine": (DistributedType.MULTI_GPU, 16, 2),
    "one-gpu": (DistributedType.NO, 1, 1),
}


def test_every_file_is_checked():
    assert [path.stem for path in FILES] == sorted(KINDS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_accelerate_reads_it_and_knows_every_key(path):
    config = load_config_from_file(str(path))  # unknown keys raise
    assert isinstance(config, ClusterConfig)
    assert (config.distributed_type, config.num_processes, config.num_machines) == KINDS[path.stem]
    # The loader takes any key inside fsdp_config; the launcher's own options say which ones mean something.
    options = {action.dest for action in launch.launch_command_parser()._actions}
    assert set(config.fsdp_config) <= options
    assert set(yaml.safe_load(path.read_text())) <= {field.name for field in dataclasses.fields(ClusterConfig)}
    assert f"train/accelerate/{path.name}" in path.read_text()


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.stem != "cpu-two-processes"], ids=lambda path: path.stem
)
def test_the_launcher_accepts_it(path):
    words = ["--config_file", str(path), "--machine_rank", "1", "--main_process_ip", "127.0.0.1", "-m", "train", "fit"]
    given, _, _ = launch._validate_launch_command(launch.launch_command_parser().parse_args(words))
    kind, processes, machines = KINDS[path.stem]
    assert (given.num_processes, given.num_machines) == (processes, machines)
    assert (given.use_fsdp, given.multi_gpu) == (kind == DistributedType.FSDP, kind == DistributedType.MULTI_GPU)
    assert given.machine_rank == 1


@pytest.mark.parametrize(("name", "processes"), [("one-gpu", 1), ("cpu-two-processes", 2)])
def test_it_starts_as_many_processes_as_it_says(name, processes, write_recipe):
    recipe = write_recipe(loop={"max_steps": 2})
    kept = {key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    config = ROOT / "train" / "accelerate" / f"{name}.yaml"
    command = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--config_file",
        str(config),
        "--main_process_port",
        "0",
    ]
    done = subprocess.run(
        [*command, "-m", "train", "fit", str(recipe)],
        cwd=ROOT,
        env=kept | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"{processes} process(es) on cpu" in done.stdout
