"""Looking during training: entropies against eager attention, alarms by their definition, and a run that is not changed by it."""

import json
import math

import pytest
import torch
import yaml

from train import files
from train.errors import UserError
from train.measure import evaluate
from train.pictures import curves, film
from train.run import folder, looking
from train.settings.reading import load_recipe

LOOK = ("--eval.look", "true", "--loop.eval_every", "3")


@pytest.fixture
def looked(write_recipe, fit):
    return fit(write_recipe(), *LOOK)


def events(run, kind="look"):
    return [event for event in files.read_events(run / files.METRICS) if event.get("event", "train") == kind]


def test_entropies_are_those_of_eager_attention(write_recipe, fit, monkeypatch):
    """Of the model as it was when it was looked at, row by row, without padding."""
    seen = {}

    def look(run):
        result = original(run)
        _, encoded = evaluate.encoded_split(run.splits, "validation", None, run.tokenizer, run.recipe)
        run.bare.eval()
        run.bare.set_attn_implementation("eager")
        sums = {}
        for number in range(len(encoded)):
            row = encoded.row(0, number)
            source, target = (torch.tensor(row[name]).long()[None] for name in ("input_ids", "labels"))
            start = torch.tensor([[run.bare.config.decoder_start_token_id]])
            inputs = {"input_ids": source, "decoder_input_ids": torch.cat([start, target[:, :-1]], 1)}
            with torch.no_grad():
                output = run.bare(**inputs, output_attentions=True)
            maps = {"encoder": output.encoder_attentions, "decoder": output.decoder_attentions}
            for kind, layers in (maps | {"cross": output.cross_attentions}).items():
                for layer, weights in enumerate(layers):
                    for head, rows in enumerate(weights[0]):
                        sums.setdefault(f"{kind}.{layer}.{head}", []).append(_entropy(rows, kind == "decoder"))
        seen.update({name: sum(values) / len(values) for name, values in sums.items()})
        run.bare.set_attn_implementation("sdpa")
        return result

    original = looking.look
    monkeypatch.setattr(looking, "look", look)
    run = fit(write_recipe(), *LOOK, "--loop.eval_every", "6")
    (line,) = events(run)
    figures = {name: value for name, value in line.items() if name not in ("event", "step")}
    assert figures.keys() == seen.keys()
    for name, value in figures.items():
        assert value == pytest.approx(seen[name], abs=1e-4), name


def _entropy(weights, is_causal):
    """Return the mean over rows of -sum(w ln w) / ln n, over the n columns that a row may see."""
    values = []
    for number, row in enumerate(weights):
        visible = number + 1 if is_causal else len(row)
        if visible > 1:
            values.append(-sum(w * math.log(w) for w in row.tolist() if w > 0) / math.log(visible))
    return sum(values) / len(values)


def test_each_evaluation_leaves_a_line_a_map_and_a_frame(looked):
    assert [event["step"] for event in events(looked)] == [3, 6]
    assert sorted(path.name for path in (looked / files.MAPS).iterdir()) == [
        "step-00000003.json",
        "step-00000006.json",
    ]
    seen = json.loads((looked / files.MAPS / "step-00000006.json").read_text("utf-8"))["maps"][0]
    weights = torch.tensor(seen["weights"])
    assert seen["kind"] == "cross"
    assert weights.shape == (1, len(seen["heads"]), len(seen["rows"]), len(seen["columns"]))
    torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-4, rtol=0)
    first = (looked.parent / "data" / "validation.tsv").read_text().splitlines()[0].split("\t")
    assert ["".join(seen[side][:-1]) for side in ("columns", "rows")] == first
    assert (looked / files.FILM).read_bytes()[:4] == b"\x89PNG"
    assert curves._entropies(looked / files.METRICS).keys() == events(looked)[0].keys() - {"event", "step"}


def test_looking_changes_nothing_of_a_run(write_recipe, fit, looked):
    plain = fit(write_recipe("plain"), "--loop.eval_every", "3")
    assert not (plain / files.MAPS).exists()
    assert not events(plain)
    weights = files.CHECKPOINTS, "step-00000006", "model.safetensors"
    assert files.sha256(looked.joinpath(*weights)) == files.sha256(plain.joinpath(*weights))
    assert [one["loss"] for one in events(looked, "train")] == [one["loss"] for one in events(plain, "train")]


def test_two_starts_of_a_run_may_differ_in_it(write_recipe, looked):
    folder.refuse_other(looked, load_recipe([str(write_recipe()), "--loop.eval_every=3", "--run_dir", str(looked)]))


@pytest.mark.parametrize("task", ["causal", "masked", "classification"])
def test_every_other_task(task, tmp_path, fit):
    lines = [f"{letter * 3} and {letter}" for letter in "abcdefgh"]
    rows = "".join(f"{line}\t{number % 2}\n" for number, line in enumerate(lines))
    for split in ("train", "validation"):
        (tmp_path / f"{split}.tsv").write_text(rows, "utf-8")
    recipe = {
        "name": "r",
        "task": task,
        "run_dir": str(tmp_path / "run"),
        "model": {"preset": "tiny"},
        "tokenizer": {"kind": "char", "min_frequency": 1},
        "data": {"root": str(tmp_path), "train": "train.tsv", "validation": "validation.tsv", "text_column": 0},
        "batch": {"max_tokens": 64},
        "optim": {"lr": 0.01, "warmup_steps": 1},
        "loop": {"max_steps": 2, "eval_every": 2, "tracker": "none"},
        "eval": {"split": "validation", "look": True},
    }
    if task == "classification":
        recipe["data"]["label_column"] = 1
    else:
        recipe["batch"]["block_size"] = 12
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe), "utf-8")
    run = fit(tmp_path / "r.yaml")
    (line,) = events(run)
    kind = "decoder" if task == "causal" else "encoder"
    assert f"{kind}.0.0" in line
    seen = json.loads(next((run / files.MAPS).iterdir()).read_text("utf-8"))["maps"][0]
    assert seen["kind"] == kind
    assert (seen["rows"][-1] == looking.END) == (task == "causal")


def test_a_layer_is_named_in_the_second_evaluation(tmp_path):
    """One head between the limits, and it is no longer all heads of the layer."""
    path = tmp_path / files.METRICS
    blurred = {"cross.0.0": 0.995, "cross.0.1": 1.0, "cross.1.0": 0.5, "cross.1.1": 1.0, "decoder.0.0": 0.001}
    assert looking.alarms(blurred, path) == []
    path.write_text(json.dumps({"event": "look", "step": 1} | blurred) + "\n", "utf-8")
    found = looking.alarms(blurred, path)
    assert [(alarm.kind, alarm.value) for alarm in found] == [("blurred_layer", 0.995), ("pointed_layer", 0.001)]
    assert "cross layer 0" in found[0].text
    assert looking.alarms(blurred | {"cross.0.1": 0.99, "decoder.0.0": 0.01}, path) == []
    assert looking.alarms(blurred | {"decoder.0.0": 0.999}, path) == found[:1], (
        "from one limit to the other is no running"
    )


def test_a_warning_reaches_the_log(write_recipe, fit, monkeypatch, capsys):
    monkeypatch.setattr(looking, "BLUR", 0.0)
    run = fit(write_recipe(), *LOOK)
    kinds = [(event["step"], event["kind"]) for event in events(run, "warning") if event["kind"] == "blurred_layer"]
    assert kinds
    assert {step for step, _ in kinds} == {6}
    assert "blurred_layer at step 6: all heads of" in capsys.readouterr().out


def test_maps_of_lost_steps_go(looked):
    view = json.loads((looked / files.MAPS / "step-00000006.json").read_text("utf-8"))
    assert view["architecture"] == "VanillaForConditionalGeneration"
    from modeling_vanilla.look.view import View

    looking.keep(View("a", "b", "c", None, []), looked, 4)
    assert sorted(path.stem for path in (looked / files.MAPS).iterdir()) == ["step-00000003", "step-00000004"]
    with pytest.raises(UserError, match=r"step-00000004.json: must be a view"):
        film.of_run(looked)


def test_a_picture_that_fails_does_not_fail_a_run(write_recipe, fit, monkeypatch, capsys):
    def broken(run_dir):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(film, "of_run", broken)
    run = fit(write_recipe(), *LOOK)
    assert (run / files.FINISHED).is_file()
    assert "film.png: not drawn: no fonts" in capsys.readouterr().err
