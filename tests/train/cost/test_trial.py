"""A step that is timed on this machine is one of a run: its rows, its numbers, its kernel; a whole step follows by its operations."""

import json
import types

import pytest
import torch

from train.__main__ import main
from train.cost import formulas, here, plan, trial
from train.settings import reading

TEXT = "".join(f"a line of some {'more ' * (number % 5)}words\n" for number in range(40))


@pytest.fixture
def timed(monkeypatch):
    """Return a list that fills with what is timed: model, batch, precision of products. A pass takes 2 s, an update 0.5."""
    seen = []

    def watched(recipe, model, batch):
        seen.append((model, batch, torch.get_float32_matmul_precision()))
        return 2.0, 0.5

    monkeypatch.setattr(trial, "_timed", watched)
    monkeypatch.setattr(here, "measured", lambda bf16: 1e15)
    return seen


def planned(path, *words: str) -> dict:
    """Return the plan of a recipe on this CPU."""
    options = types.SimpleNamespace(mfu=0.35, price=None, processes=1, length=None, cpu=True)
    return plan.make(reading.load_recipe([str(path), *words]), {}, options)


def test_a_step_takes_longer_than_its_micro_batch_by_its_operations(write_recipe, timed):
    path = write_recipe(
        rows=61, model={"preset": "tiny", "attn_implementation": "eager"}, loop={"max_steps": 6, "accumulate": 3}
    )
    found = planned(path, "--loop.gradient_checkpointing", "true", "--loop.matmul_precision", "medium")
    ((model, batch, precision),) = timed
    assert model.training and model.model.encoder.gradient_checkpointing and precision == "medium"
    assert model.config._attn_implementation == "eager" and {each.device.type for each in model.parameters()} == {
        "cpu"
    }
    assert torch.get_float32_matmul_precision() == "highest"  # as before

    rows, sides = len(batch.inputs["input_ids"]), (batch.inputs["input_ids"].shape[1], batch.inputs["labels"].shape[1])
    load = formulas.load_of("translation", rows, sides, mask_probability=0.15)
    part = formulas.training_flops(formulas.forward_flops(model.config, "translation", load), True)
    whole = found["flops"]["executed_per_run"] / 6
    assert 2 < whole / part < 4.5  # a third of the rows, the longest first
    assert found["cpu"]["seconds_per_step"] == pytest.approx(2 * whole / part + 0.5)
    assert found["cpu"]["hours"] == pytest.approx(6 * found["cpu"]["seconds_per_step"] / 3600)


def test_a_slow_machine_is_given_fewer_rows(write_recipe, timed, monkeypatch):
    path = write_recipe(batch={"max_tokens": 640})
    planned(path)
    monkeypatch.setattr(here, "measured", lambda bf16: 1e6)
    planned(path)
    assert [len(batch.inputs["input_ids"]) for _, batch, _ in timed] == [61, 1]


def test_nothing_is_timed_that_does_not_fit(write_recipe, timed, monkeypatch):
    monkeypatch.setattr(here, "memory_of_machine", lambda: 1e3)
    found = planned(write_recipe())
    cpu = found["cpu"]
    assert not timed and (cpu["fits"], cpu["timed"], cpu["share_of_peak"]) == (False, False, pytest.approx(0.35))
    assert cpu["hours"] == pytest.approx(found["flops"]["executed_per_run"] / (1e15 * 0.35) / 3600)


@pytest.mark.parametrize("task", ["translation", "causal", "masked"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_timed_runs(write_recipe, tmp_path, capsys, task, precision):
    """The pass itself: what `fit` would run for one step, so it ends where the loss is a number."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    text = {
        "root": str(tmp_path),
        "train": "text.txt",
        "validation": "text.txt",
        "source_column": None,
        "target_column": None,
    }
    path = write_recipe(task=task, **({} if task == "translation" else {"data": text}))
    assert main(["plan", str(path), "--gpu", "cpu", "--loop.precision", precision]) == 0
    out = capsys.readouterr().out
    assert "were reached by a step on rows of the data" in out and "assumption, --mfu" not in out
    assert main(["plan", str(path), "--json", "--loop.skip_logits", str(task != "masked").lower()]) == 0
    cpu = json.loads(capsys.readouterr().out)["cpu"]
    assert cpu["timed"] and cpu["seconds_per_step"] * cpu["share_of_peak"] > 0
