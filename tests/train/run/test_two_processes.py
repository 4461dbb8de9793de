"""Two gloo processes against one: the same losses, the same weights, one decision to stop, one error."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from train.run import checkpoint

# One launch runs every scenario, since starting processes takes longer than training.
WORKER = """
import json, os, signal, sys
import torch
from train.run import loop
from train.settings import reading as recipe
from train.processes import signals as stop

path, rank = sys.argv[1], int(os.environ["RANK"])
assert os.environ["WORLD_SIZE"] == "2"
original, report = loop.train_step, {}


def fit(name, *words, before=None):
    def train_step(run, delivery, request):
        assert run.accelerator.num_processes == 2
        if before:
            before(run)
        return original(run, delivery, request)

    loop.train_step = train_step
    folder = os.path.join(os.path.dirname(path), name)
    try:
        loop.fit(recipe.load_recipe([path, "--run_dir", folder, *words]))
        report[name] = "done"
    except (stop.Stopped, loop.NonFiniteError) as error:
        report[name] = f"{type(error).__name__}: {error}"


def terminate(run):
    if run.accelerator.process_index == 1 and run.progress.step == 2:
        signal.raise_signal(signal.SIGTERM)


def poison(run):
    if run.progress.step == 3:
        # The rows of the other rank, from the plan of the data and not from what it was given.
        from train.data import batching, steps
        plan = steps.Places(run.train, run.recipe, 1, 2, 0, 0).plan(0)
        micro = batching.micro_batches(plan[3], 1, 2, run.recipe.loop.accumulate)
        report["rows of rank 1"] = [int(row) for rows in micro for row in rows]
    if run.accelerator.process_index == 1 and run.progress.step == 3:
        run.bare.lm_head.register_forward_hook(lambda module, inputs, output: output * float("nan"))


dry = ("--model.dropout", "0")
fit("dry", *dry)
fit("sparse", *dry, "--batch.max_rows", "3", "--loop.accumulate", "2", "--loop.max_steps", "21")
fit("whole")
fit("again", before=terminate)
report["stopped"] = report["again"]
fit("again")
fit("nan", "--loop.save_every", "2", before=poison)
fit("elastic", *dry, "--loop.max_steps", "4")
with open(f"{path}.rank{rank}.json", "w") as file:
    json.dump(report, file)
torch.distributed.destroy_process_group()
"""


def launch(ranks, recipe, tmp_path):
    """Run every scenario on two processes and return each rank's report."""
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    ranks(worker, recipe)
    return [json.loads(Path(f"{recipe}.rank{rank}.json").read_text()) for rank in range(2)]


def figures(run, name):
    """Return one figure of every training step."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines if line["event"] == "train"]


def assert_same(one, two, rel=2e-5):
    """Compare two runs step by step, and their final weights."""
    for name in ("loss", "grad_norm"):
        assert figures(one, name) == pytest.approx(figures(two, name), rel=rel)
    assert figures(one, "tokens") == figures(two, "tokens")
    weights = [load_file(run / "final" / "model.safetensors") for run in (one, two)]
    for name, value in weights[0].items():
        # A bias of the keys moves all scores of a query alike: its gradient is zero but for rounding, which Adam blows up.
        if name.endswith("k_proj.bias"):
            continue
        torch.testing.assert_close(value, weights[1][name], rtol=1e-4, atol=2e-5)


def test_two_processes(write_recipe, fit, ranks, tmp_path):
    # 61 rows, 3 a batch: every epoch ends with a batch of one row, so that one process has nothing to do.
    recipe = write_recipe(loop={"max_steps": 6}, optim={"lr": 0.003})
    first, second = launch(ranks, recipe, tmp_path)
    dry = ("--model.dropout", "0")

    # The same losses as one process, to rounding.
    assert checkpoint.read_state(checkpoint.newest(tmp_path / "dry")).processes == 2
    assert_same(tmp_path / "dry", fit(recipe, "--run_dir", str(tmp_path / "dry1"), *dry))
    one = fit(recipe, "--run_dir", str(tmp_path / "sparse1"), *dry, "--batch.max_rows", "3", "--loop.max_steps", "21")
    assert_same(tmp_path / "sparse", one, rel=1e-4)

    # A signal to one rank stops both after the same step; the same command goes on, bitwise.
    assert first["stopped"] == second["stopped"]
    assert first["stopped"].startswith("Stopped: stopped at step ")
    assert first["again"] == second["again"] == "done"
    whole, again = ((tmp_path / name / "final" / "model.safetensors").read_bytes() for name in ("whole", "again"))
    assert whole == again
    assert figures(tmp_path / "whole", "loss") == figures(tmp_path / "again", "loss")
    assert (tmp_path / "again" / "checkpoints" / "step-00000006").is_dir()

    # NaN on rank 1 stops both, names it, and the last good checkpoint stays.
    words = r"NonFiniteError: step=4 rank=1: the loss of rank 1 is nan; epoch 0, batch 3, rows of rank 1: \[(.*)\]; "
    named = [re.match(words, report["nan"]) for report in (first, second)]
    assert all(named)
    assert named[0][1] == named[1][1] == str(first["rows of rank 1"])[1:-1]  # every rank names rank 1's rows
    assert "rows of rank 0" not in first["nan"]
    assert checkpoint.newest(tmp_path / "nan").name == "step-00000002"

    # Elastic: begun on two processes, ended on one.
    assert_same(fit(recipe, "--run_dir", str(tmp_path / "elastic"), *dry, "--loop.max_steps", "6"), tmp_path / "dry")
