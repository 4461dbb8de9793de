"""FSDP2 on two gloo processes against one process, and against DDP: losses, weights, checkpoints that go both ways."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.__main__ import main
from train.run import checkpoint

# One launch runs every scenario, since starting processes takes longer than training.
WORKER = """
import json, os, signal, sys
import torch
from accelerate.state import AcceleratorState
from torch.distributed.tensor import DTensor
from train.run import loop
from train.settings import reading as recipe
from train.processes import signals as stop

path, rank = sys.argv[1], int(os.environ["RANK"])
assert os.environ["WORLD_SIZE"] == "2"
original, report = loop.train_step, {}


def fit(name, *words, sharded=True, before=None):
    def train_step(run, delivery, request):
        assert run.accelerator.num_processes == 2
        parameters = list(run.bare.parameters())
        assert all(isinstance(parameter, DTensor) for parameter in parameters) == sharded
        if sharded:
            report["share"] = sum(p.to_local().numel() for p in parameters) / sum(p.numel() for p in parameters)
        if before:
            before(run)
        done = original(run, delivery, request)
        if sharded:
            moments = run.optimizer.optimizer.state[parameters[0]]
            assert isinstance(moments["exp_avg"], DTensor)
        return done

    loop.train_step = train_step
    AcceleratorState._reset_state()  # it holds the precision; the processes stay
    folder = os.path.join(os.path.dirname(path), name)
    words = ["--loop.shard", "true", *words] if sharded and name != "flag" else words
    try:
        loop.fit(recipe.load_recipe([path, "--run_dir", folder, *words]))
        report[name] = "done"
    except (stop.Stopped, loop.NonFiniteError) as error:
        report[name] = f"{type(error).__name__}: {error}"


def terminate(run):
    if run.accelerator.process_index == 1 and run.progress.step == 2:
        signal.raise_signal(signal.SIGTERM)


def poison(run):
    if run.accelerator.process_index == 1 and run.progress.step == 3:
        run.bare.lm_head.register_forward_hook(lambda module, inputs, output: output * float("nan"))


dry = ("--model.dropout", "0")
fit("sharded", *dry)
fit("ddp", *dry, sharded=False)
fit("split", *dry, "--loop.accumulate", "2", "--batch.max_rows", "3", "--model.tie_word_embeddings", "false")
fit("spared", *dry, "--loop.gradient_checkpointing", "true")
fit("half", *dry, "--loop.precision", "bf16")
fit("whole")
fit("again", before=terminate)
report["stopped"] = report["again"]
fit("again")
fit("nan", "--loop.save_every", "2", before=poison)
fit("to_one", *dry, "--loop.max_steps", "4")
fit("from_one", *dry, "--loop.max_steps", "6")
os.environ["ACCELERATE_USE_FSDP"] = "true"
fit("flag", *dry)
with open(f"{path}.rank{rank}.json", "w") as file:
    json.dump(report, file)
torch.distributed.destroy_process_group()
"""
DRY = ("--model.dropout", "0")


def launch(ranks, recipe, tmp_path):
    """Run every scenario on two processes and return each rank's report."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    ranks(worker, recipe)
    return [json.loads(Path(f"{recipe}.rank{rank}.json").read_text()) for rank in range(2)]


def figures(run, name, event="train"):
    """Return one figure of every training step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if line["event"] == event]


def assert_same(one, two, abs_=1e-5):
    """Compare two runs step by step, their evaluation and their final weights."""
    for name in ("loss", "grad_norm"):
        assert figures(one, name) == pytest.approx(figures(two, name), abs=abs_, rel=abs_)
    assert figures(one, "tokens") == figures(two, "tokens")
    # The last one: a run that ended early, and then went on, has one more.
    assert figures(one, "loss", "eval")[-1] == pytest.approx(figures(two, "loss", "eval")[-1], abs=10 * abs_)
    weights = [load_file(run / "final" / "model.safetensors") for run in (one, two)]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        # A bias of the keys moves all scores of a query alike: its gradient is zero but for rounding, which Adam blows up.
        if not name.endswith("k_proj.bias"):
            torch.testing.assert_close(value, weights[1][name], rtol=10 * abs_, atol=2 * abs_)


def layout(run):
    """Return names, shapes and types of all that a checkpoint holds."""
    folder = checkpoint.newest(run)
    tensors = {path.name: load_file(path) for path in folder.glob("*.safetensors")}
    return {file: {name: (t.shape, t.dtype) for name, t in content.items()} for file, content in tensors.items()}


def test_two_sharded_processes(write_recipe, fit, ranks, tmp_path):
    sections = {
        "loop": {"max_steps": 6, "eval_every": 3, "save_every": 3},
        # The norm is clipped at every step, so that a wrong norm would show in the weights.
        "optim": {"lr": 0.003, "clip_norm": 0.1},
        "eval": {"metrics": ["loss", "bleu"], "beams": 2, "max_extra_tokens": 2, "limit": 4},
    }
    recipe = write_recipe(**sections)
    fit(recipe, *DRY, "--run_dir", str(tmp_path / "from_one"), "--loop.max_steps", "4")
    first, second = launch(ranks, recipe, tmp_path)

    def one(name, *words):
        return fit(recipe, *DRY, "--run_dir", str(tmp_path / name), *words)

    # Each process holds half, give or take a row of each matrix.
    assert first["share"] + second["share"] == pytest.approx(1.0)
    assert abs(first["share"] - second["share"]) < 0.1

    # One process, and DDP, get the same losses.
    whole = one("one")
    assert min(figures(whole, "grad_norm")) > 0.1
    for name in ("sharded", "ddp", "spared", "flag"):
        assert_same(tmp_path / name, whole)
    results = [json.loads((run / "results.json").read_text()) for run in (tmp_path / "sharded", whole)]
    assert results[0]["metrics"] == pytest.approx(results[1]["metrics"], rel=1e-3)
    assert [row["prediction"] for row in results[0]["samples"]] == [row["prediction"] for row in results[1]["samples"]]
    words = ("--loop.accumulate", "1", "--batch.max_rows", "3", "--model.tie_word_embeddings", "false")
    assert_same(tmp_path / "split", one("split1", *words))
    assert figures(tmp_path / "half", "loss") == pytest.approx(figures(whole, "loss"), rel=0.02)
    assert figures(tmp_path / "half", "loss") != figures(tmp_path / "sharded", "loss")

    # The checkpoint is the one that an unsharded run writes, and is read by one.
    assert layout(tmp_path / "sharded") == layout(tmp_path / "ddp")
    assert checkpoint.read_state(checkpoint.newest(tmp_path / "sharded")).processes == 2
    assert_same(one("to_one"), whole)
    assert_same(tmp_path / "from_one", whole)

    # A signal stops both after the same step; the same command goes on, bitwise, with dropout.
    assert first["stopped"] == second["stopped"]
    assert first["stopped"].startswith("Stopped: stopped at step ")
    assert first["again"] == second["again"] == "done"
    files = [tmp_path / name / "final" / "model.safetensors" for name in ("whole", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()

    # NaN on rank 1 stops both, and the last good checkpoint stays.
    for report in (first, second):
        assert report["nan"].startswith("NonFiniteError: step=4 rank=1: the loss of rank 1 is nan")
    assert checkpoint.newest(tmp_path / "nan").name == "step-00000002"


def test_one_process_has_nothing_to_share(write_recipe, fit, tmp_path):
    recipe = write_recipe(loop={"max_steps": 2})
    runs = [fit(recipe, "--run_dir", str(tmp_path / flag), "--loop.shard", flag) for flag in ("true", "false")]
    weights = [(run / "final" / "model.safetensors").read_bytes() for run in runs]
    assert weights[0] == weights[1]


def test_a_run_may_go_on_unsharded(write_recipe, fit, capsys):
    recipe = write_recipe(loop={"max_steps": 2, "shard": True})
    fit(recipe)
    fit(recipe, "--loop.shard", "false", "--loop.max_steps", "3")
    assert "resumed at step 2" in capsys.readouterr().out


def test_it_must_be_true_or_false(write_recipe, capsys):
    assert main(["fit", str(write_recipe(loop={"shard": "layers"}))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "loop.shard" in line
