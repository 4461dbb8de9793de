"""The moving average of the weights: its definition, an exact resume, and that it leaves the training alone."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from modeling_vanilla import VanillaForConditionalGeneration
from train.errors import UserError
from train.processes import signals
from train.run import averages, checkpoint, loop
from train.settings.reading import load_recipe

OPTIONS = ("--loop.ema", "0.8", "--loop.save_every", "2", "--loop.keep_last", "10", "--loop.eval_every", "2")


def weights(run):
    return (run / "final" / "model.safetensors").read_bytes()


def test_update_is_the_definition_and_lending_gives_back_every_bit():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 4)).bfloat16()
    model[1].bias.requires_grad_(False)
    average = averages.MovingAverage(model, 0.9)
    assert set(average.values) == {"0.weight", "0.bias", "1.weight"}
    expected = {name: value.double() for name, value in average.values.items()}
    for step in (1, 2, 3, 200):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight))
        average.update(step)
        decay = 0.9 if step == 200 else (1 + step) / (10 + step)
        own = dict(model.named_parameters())
        expected = {n: decay * v + (1 - decay) * own[n].detach().double() for n, v in expected.items()}
    for name, value in average.values.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    before = [weight.detach().clone() for weight in model.parameters()]
    with pytest.raises(KeyError), average.in_place():
        assert torch.equal(model[0].weight, average.values["0.weight"].bfloat16())
        assert not torch.equal(model[0].weight, before[0])
        raise KeyError
    assert all(torch.equal(one, two) for one, two in zip(before, model.parameters(), strict=True))


def test_a_stopped_run_has_bitwise_the_same_average(write_recipe, fit, monkeypatch):
    options = (*OPTIONS, "--loop.final", "ema", "--loop.max_steps", "7")
    whole, again = fit(write_recipe("whole"), *options), write_recipe("again")
    original = loop.train_step
    monkeypatch.setattr(
        loop, "train_step", lambda run, delivery, request: original(run, delivery, 15 if run.progress.step == 2 else 0)
    )
    with pytest.raises(signals.Stopped):
        fit(again, *options)
    monkeypatch.setattr(loop, "train_step", original)
    run = fit(again, *options)
    assert weights(run) == weights(whole)
    last = [checkpoint.newest(path) / averages.FILE for path in (run, whole)]
    assert last[0].read_bytes() == last[1].read_bytes()
    # The final folder is the average, not the weights, and the summary says so.
    assert weights(run) != (checkpoint.newest(run) / "model.safetensors").read_bytes()
    saved = load_file(last[0])
    final = VanillaForConditionalGeneration.from_pretrained(run / "final")
    for name, weight in final.named_parameters():
        assert torch.equal(weight, saved[name])
    assert json.loads((run / "results.json").read_text())["train"]["weights"].startswith("moving average")


def test_the_average_of_a_run_is_that_of_its_checkpoints(write_recipe, fit):
    run = fit(write_recipe(), "--loop.ema", "0.5", "--loop.save_every", "1", "--loop.keep_last", "10")
    folders = sorted((run / "checkpoints").iterdir())
    first = load_file(folders[0] / averages.FILE)
    for folder in folders[1:]:
        step, own = int(folder.name[-8:]), load_file(folder / "model.safetensors")
        decay = min(0.5, (1 + step) / (10 + step))
        for name in first:
            first[name] = decay * first[name] + (1 - decay) * own[name]
        for name, value in load_file(folder / averages.FILE).items():
            torch.testing.assert_close(value, first[name], rtol=1e-5, atol=1e-7)


def test_it_is_evaluated_and_changes_nothing_else(write_recipe, fit):
    run, plain = fit(write_recipe("run"), *OPTIONS), fit(write_recipe("plain"), *OPTIONS[2:])
    assert weights(run) == weights(plain)
    lines = [list(map(json.loads, (path / "metrics.jsonl").read_text().splitlines())) for path in (run, plain)]
    one, two = ([line for line in of if line["event"] == "eval"] for of in lines)
    assert [line["loss"] for line in one] == [line["loss"] for line in two]
    assert all(math.isfinite(line["ema_loss"]) and line["ema_loss"] != line["loss"] for line in one)
    assert "ema_loss" not in two[0]
    assert not (checkpoint.newest(plain) / averages.FILE).exists()


def test_mistakes_are_named(write_recipe, fit):
    for words, message in (
        (("--loop.ema", "1.0"), r"loop\.ema: 1\.0 must be above 0 and below 1"),
        (("--loop.final", "ema"), r"loop\.ema: null must be set"),
    ):
        with pytest.raises(UserError, match=message):
            load_recipe([str(write_recipe()), *words])
    recipe = write_recipe()
    fit(recipe, "--loop.max_steps", "1")
    with pytest.raises(UserError, match=r"loop\.ema: this folder's run has null, the recipe 0\.9"):
        fit(recipe, "--loop.max_steps", "2", "--loop.ema", "0.9")


def test_two_processes_have_the_average_of_one(write_recipe, fit, torchrun, tmp_path):
    recipe = write_recipe()
    options = [*OPTIONS, "--loop.final", "ema", "--model.dropout", "0", "--optim.lr", "0.003"]
    one = fit(recipe, *options)
    torchrun("-m", "train", "fit", recipe, "--run_dir", tmp_path / "two", *options)
    assert checkpoint.read_state(checkpoint.newest(tmp_path / "two")).processes == 2
    two = load_file(tmp_path / "two" / "final" / "model.safetensors")
    for name, value in load_file(one / "final" / "model.safetensors").items():
        if not name.endswith("k_proj.bias"):  # has no gradient but rounding, which Adam blows up
            torch.testing.assert_close(two[name], value, rtol=1e-4, atol=2e-5)
    lines = [
        list(map(json.loads, (run / "metrics.jsonl").read_text().splitlines())) for run in (one, tmp_path / "two")
    ]
    averaged = [[line["ema_loss"] for line in of if line["event"] == "eval"] for of in lines]
    assert averaged[1] == pytest.approx(averaged[0], rel=2e-5)
