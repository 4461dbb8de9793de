"""What accelerate takes from the environment: every variable has a rule, and the rules hold."""

import ast
import logging
import os
import subprocess
import sys
from pathlib import Path

import accelerate
import pytest
import torch
from accelerate.commands import launch
from accelerate.commands.config.default import write_basic_config
from accelerate.utils import launch as launching
from safetensors.torch import load_file

from train.errors import UserError
from train.processes import environment
from train.processes.environment import Rule

ROOT = Path(__file__).resolve().parents[3]
READERS = {"parse_flag_from_env", "parse_choice_from_env", "get_int_from_env", "getenv"}
# Values to try; `true` for the others.
WISHES = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_GRADIENT_CLIPPING": "0.5"}


def is_environment(node: ast.AST) -> bool:
    """Tell `os.environ` and the copies that the launcher fills for the processes it starts."""
    return ast.unparse(node) in ("os.environ", "current_env", "environment")


def constants(node: ast.AST, names: dict[str, set[str]]) -> set[str] | None:
    """Return every text that an expression can be, None where that cannot be told."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.List | ast.Tuple):
        parts = [constants(part, names) for part in node.elts]
        return None if None in parts else set().union(*parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = constants(node.left, names), constants(node.right, names)
        return {a + b for a in left for b in right} if left and right else None
    if isinstance(node, ast.JoinedStr):  # f"{prefix}{arg.upper()}": the prefix tells enough
        first = node.values[0]
        return constants(first.value if isinstance(first, ast.FormattedValue) else first, names)
    return None


def keys(node: ast.AST) -> list[ast.AST]:
    """Return the expressions that name a variable in one node: read, tested or written."""
    if isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        of_environment = isinstance(node.func, ast.Attribute) and is_environment(node.func.value)
        if called in READERS or (of_environment and called in ("get", "pop", "setdefault")):
            return [node.args[0]]
    if isinstance(node, ast.Subscript) and is_environment(node.value):
        return [node.slice]
    if isinstance(node, ast.Compare) and any(map(is_environment, node.comparators)):
        return [node.left]
    return []


def variables(source: str) -> tuple[set[str], list[str]]:
    """Return the variables that a module of accelerate names, and the expressions that could not be resolved."""
    tree, found, unresolved = ast.parse(source), set(), []
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    outside = [node for node in tree.body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    for function in [*functions, ast.Module(outside, [])]:
        names: dict[str, set[str]] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = constants(node.value, {})
                if value:
                    names.setdefault(node.targets[0].id, set()).update(value)
        for node in ast.walk(function):
            for key in keys(node):
                value = constants(key, names)
                found |= value or set()
                if value is None:
                    unresolved.append((getattr(function, "name", "<module>"), ast.unparse(key)))
    return found, unresolved


def test_the_scanner_sees_every_way_of_reading():
    source = """import os
def f(self):
    prefix = "ACCELERATE_A_"
    os.environ.get(prefix + "B", 1); os.environ["ACCELERATE_C"]; "ACCELERATE_D" in os.environ
    get_int_from_env(["E", "F"], 0); os.getenv("G"); current_env[f"{prefix}{x}"] = 1
    parse_flag_from_env(self.name)
"""
    found, unresolved = variables(source)
    assert found == {"ACCELERATE_A_B", "ACCELERATE_C", "ACCELERATE_D", "E", "F", "G", "ACCELERATE_A_"}
    assert ("f", "self.name") in unresolved


def test_every_variable_of_the_installed_accelerate_has_a_rule():
    package = Path(accelerate.__file__).parent
    found, unknown = set(), []
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name.startswith(("test_utils/", "commands/")):  # tests of its own, and what runs before our process
            continue
        more, unresolved = variables(path.read_text(encoding="utf-8"))
        found |= more
        unknown += [(name, function, key) for function, key in unresolved]
    assert {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ACCELERATE_DYNAMO_BACKEND", "FSDP_VERSION", "RANK"} <= found
    # Helpers whose caller names the variable, context managers that put back what they found, and a search for a prefix.
    helpers = ("utils/environment.py", "utils/launch.py", "launchers.py")
    assert [entry for entry in unknown if entry[0] not in helpers] == []
    # What accelerate writes for Amazon's cloud, and the path of Python, are no settings of a training.
    settings = {name for name in found if name not in (*environment.PREFIXES, "PYTHONPATH") and name[:4] != "AWS_"}
    assert {"ACCELERATE_FP8_MARGIN", "MEGATRON_LM_TP_DEGREE", "PARALLELISM_CONFIG_CP_SIZE"} <= settings
    assert {name for name in settings if not any(row.fits(name) for row in environment.TABLE)} == set()


def of_rule(rule: Rule) -> list[str]:
    """Return the first variable of each row of a rule that some value of would go against."""
    rows = [
        setting for setting in environment.TABLE if setting.rule is rule and environment.ANY not in setting.harmless
    ]
    return [setting.names.split()[0].replace("*", "X") for setting in rows]


@pytest.mark.parametrize("name", of_rule(Rule.REFUSED))
def test_what_would_train_something_else_is_refused_by_name(name, monkeypatch):
    monkeypatch.setenv(name, WISHES.get(name, "true"))
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    before = dict(os.environ)
    with pytest.raises(
        UserError, match=rf"^{name}: '{WISHES.get(name, 'true')}' in the environment must be unset: \w"
    ):
        environment.settle()
    assert dict(os.environ) == before
    monkeypatch.setenv(name, "1" if "STEPS" in name else "no")
    environment.settle()
    assert name not in os.environ


@pytest.mark.parametrize("name", [*of_rule(Rule.RECIPE), "ACCELERATE_SOMETHING_NEW", "FSDP_SOMETHING_NEW"])
def test_what_the_recipe_decides_is_taken_out_and_told(name, monkeypatch, caplog):
    monkeypatch.setenv(name, "bf16")
    with caplog.at_level(logging.WARNING):
        environment.settle()
    assert name not in os.environ
    told = [record.getMessage() for record in caplog.records]
    assert ([f"{name}=bf16"] == [line.split(" ")[0] for line in told]) == (name != "FSDP_SOMETHING_NEW")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("ACCELERATE_USE_CPU", "true", "maybe"),
        ("ACCELERATE_TORCH_DEVICE", "cpu", "gpu number one"),
        ("WORLD_SIZE", "1", "two"),
    ],
)
def test_what_describes_the_machine_is_kept_or_named(name, good, bad, monkeypatch):
    monkeypatch.setenv(name, good)
    environment.settle()
    assert os.environ[name] == good
    monkeypatch.setenv(name, bad)
    with pytest.raises(UserError, match=f"^{name}: '{bad}' in the environment: "):
        environment.settle()


def test_no_setting_of_the_environment_changes_a_run(write_recipe, fit, monkeypatch):
    path = write_recipe(loop={"max_steps": 3})
    expected = load_file(fit(path, "--run_dir", str(path.parent / "plain")) / "final" / "model.safetensors")
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled without loop.compile"))
    for name, value in {
        "ACCELERATE_DYNAMO_BACKEND": "eager",
        "ACCELERATE_MIXED_PRECISION": "bf16",
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "FSDP_OFFLOAD_PARAMS": "true",
    }.items():
        monkeypatch.setenv(name, value)
    found = load_file(fit(path, "--run_dir", str(path.parent / "set")) / "final" / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", ["ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "ACCELERATE_USE_DEEPSPEED"])
def test_a_refused_setting_ends_a_run_in_one_line(name, starter, tmp_path):
    value = WISHES.get(name, "true")
    (job,) = starter.start(tmp_path / "run", code=f"os.environ[{name!r}] = {value!r}")
    assert job.wait() == 2
    assert job.text.startswith(f"error: {name}: {value!r} in the environment must be unset: ")
    assert job.text.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_evaluate_obeys_the_same_rules(tmp_path, translation, monkeypatch):
    from train.commands.evaluate_folder import evaluate_folder

    recipe, splits, model, tokenizer = translation
    for saved in (model, tokenizer):
        saved.save_pretrained(tmp_path / "model")
    monkeypatch.setenv("ACCELERATE_USE_MEGATRON_LM", "true")
    with pytest.raises(UserError, match="^ACCELERATE_USE_MEGATRON_LM: "):
        evaluate_folder(tmp_path / "model", recipe, "validation", splits=splits)


def launched(config: Path, *words: str) -> dict[str, str]:
    """Return what `accelerate launch` adds to the environment of a process."""
    words = ["--config_file", str(config), *words, "-m", "train", "fit"]
    given, *_ = launch._validate_launch_command(launch.launch_command_parser().parse_args(words))
    several = given.multi_gpu or given.use_fsdp
    full = launching.prepare_multi_gpu_env(given) if several else launching.prepare_simple_launcher_cmd_env(given)[1]
    return {name: value for name, value in full.items() if os.environ.get(name) != value}


@pytest.mark.parametrize("name", ["cpu-two-processes", "fsdp2", "multi-gpu", "one-gpu", "default", "default-bf16"])
def test_what_the_launcher_hands_on_is_never_refused(name, tmp_path, monkeypatch, caplog):
    config = ROOT / "train" / "accelerate" / f"{name}.yaml"
    if name.startswith("default"):
        config = tmp_path / "default_config.yaml"
        write_basic_config(mixed_precision="bf16" if name.endswith("bf16") else "no", save_location=str(config))
    handed = launched(config, "--main_process_port", "0")
    assert "ACCELERATE_MIXED_PRECISION" in handed
    for variable, value in handed.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)  # `shard.take_over_flag` makes it the recipe's loop.shard
    with caplog.at_level(logging.WARNING, "train"):
        environment.settle()
    told = ["ACCELERATE_MIXED_PRECISION=bf16"] if name == "default-bf16" else []
    assert [record.getMessage().split(" ")[0] for record in caplog.records if record.name.startswith("train")] == told
    left = [variable for variable in os.environ if variable.startswith(environment.PREFIXES)]
    assert set(left) <= {"ACCELERATE_USE_CPU", "ACCELERATE_DEBUG_MODE", "ACCELERATE_CPU_AFFINITY"}


def test_processes_that_do_not_see_each_other_do_not_start(write_recipe, tmp_path, monkeypatch):
    """A launcher on a CPU, without ACCELERATE_USE_CPU: each process would train alone, in the same folder."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "train"]
    done = subprocess.run(
        [*command, "fit", write_recipe(loop={"max_steps": 2})],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    message = "error: WORLD_SIZE: the launcher started 2 processes, of which each sees 1; on a CPU, set ACCELERATE_USE_CPU=true"
    assert done.returncode != 0
    assert message in done.stderr
    assert not (tmp_path / "tiny").exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    environment.refuse_alone(2)
    with pytest.raises(UserError, match="of which each sees 1"):
        environment.refuse_alone(1)
