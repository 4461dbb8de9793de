"""The loop: exact resume, the same losses on any shape of job, refusals, early stopping, NaN, signals."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from train.errors import UserError
from train.processes import signals
from train.run import checkpoint, loop, tracking


def weights(run):
    """Return the bytes of a run's final weights."""
    return (run / "final" / "model.safetensors").read_bytes()


def events(run, kind="train"):
    """Return the lines of metrics.jsonl of one kind."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == kind]


def stop_at(monkeypatch, step, number=signal.SIGTERM):
    """Send this process a signal while the given step is under way."""
    original = loop.train_step

    def train_step(run, delivery, request):
        if run.progress.step + 1 == step:
            os.kill(os.getpid(), number)
        return original(run, delivery, request)

    monkeypatch.setattr(loop, "train_step", train_step)


@pytest.mark.parametrize(
    ("workers", "stopped"), [("0", 3), ("1", 3), ("0", 9)], ids=["plain", "loader processes", "next epoch"]
)
def test_a_stopped_run_ends_bitwise_like_an_uninterrupted_one(write_recipe, fit, monkeypatch, workers, stopped):
    options = ("--loop.accumulate", "2", "--loop.max_steps", "13", "--loop.num_workers", workers)
    options += ("--loop.final", "average", "--loop.save_every", "5", "--loop.eval_every", "4")
    whole = fit(write_recipe("whole"), *options)
    again = write_recipe("again")
    with monkeypatch.context() as patch:
        stop_at(patch, stopped)
        with pytest.raises(signals.Stopped) as caught:
            fit(again, *options)
    assert caught.value.signal == signal.SIGTERM
    run = whole.parent / "again"
    # The request is seen by the next step's collective, so the run ends one step later, in the middle of an epoch.
    newest = checkpoint.newest(run)
    saved = checkpoint.read_state(newest)
    assert saved.progress.step == stopped + 1
    assert not saved.scheduled or (stopped + 1) % 5 == 0
    assert saved.progress.position > 0
    fit(again, *options)
    assert weights(run) == weights(whole)
    assert [line["loss"] for line in events(run)] == [line["loss"] for line in events(whole)]
    assert events(run, "eval") == events(whole, "eval")
    optimizer = [path / "checkpoints" / "step-00000013" / "optimizer.safetensors" for path in (run, whole)]
    assert optimizer[0].read_bytes() == optimizer[1].read_bytes()


def test_a_killed_run_repeats_what_it_lost(write_recipe, fit, monkeypatch):
    options = ("--loop.save_every", "2")
    whole = fit(write_recipe("whole"), *options)
    again = write_recipe("again")

    class KilledError(BaseException):
        """What kill -9 looks like from inside: nothing runs after it."""

    original = loop.train_step

    def train_step(run, delivery, request):
        if run.progress.step == 5:
            raise KilledError
        return original(run, delivery, request)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", train_step)
        with pytest.raises(KilledError):
            fit(again, *options)
    run = whole.parent / "again"
    assert checkpoint.newest(run).name == "step-00000004"
    fit(again, *options)
    assert weights(run) == weights(whole)
    assert [line["step"] for line in events(run)] == [1, 2, 3, 4, 5, 6]


def test_a_damaged_checkpoint_costs_its_own_steps_only(write_recipe, fit, capsys):
    whole = fit(write_recipe("whole"), "--loop.max_steps", "9", "--loop.save_every", "3")
    again = write_recipe("again")
    run = fit(again, "--loop.max_steps", "6", "--loop.save_every", "3", "--loop.keep_last", "2")
    with open(run / "checkpoints" / "step-00000006" / "optimizer.safetensors", "r+b") as file:
        file.truncate(100)
    fit(again, "--loop.max_steps", "9", "--loop.save_every", "3", "--loop.keep_last", "2")
    assert "step-00000006: damaged checkpoint skipped: optimizer.safetensors has 100 bytes" in capsys.readouterr().err
    assert weights(run) == weights(whole)
    names = sorted(folder.name for folder in (run / "checkpoints").iterdir())
    assert names == ["damaged-step-00000006", "step-00000006", "step-00000009"]


def test_dropout_and_order_matter_so_that_the_tests_above_can_fail(write_recipe, fit):
    runs = [fit(write_recipe(f"seed{seed}"), "--loop.seed", str(seed), "--loop.max_steps", "2") for seed in (0, 1)]
    assert events(runs[0])[1]["loss"] != events(runs[1])[1]["loss"]
    dry = fit(write_recipe("dry"), "--model.dropout", "0", "--loop.max_steps", "2")
    assert events(dry)[0]["loss"] != events(runs[0])[0]["loss"]


def test_accumulation_does_not_change_the_losses(write_recipe, fit):
    losses = []
    for accumulate in (1, 2, 4):
        run = fit(write_recipe(f"by{accumulate}"), "--loop.accumulate", str(accumulate), "--model.dropout", "0")
        losses.append([line["loss"] for line in events(run)])
        norms = [line["grad_norm"] for line in events(run)]
        losses[-1] += norms
    assert losses[1] == pytest.approx(losses[0], rel=2e-5)
    assert losses[2] == pytest.approx(losses[0], rel=2e-5)


def test_a_loss_without_logits_trains_alike(write_recipe, fit):
    plain, skipped = fit(write_recipe("plain")), fit(write_recipe("skipped"), "--loop.skip_logits", "true")
    for mine, theirs in zip(events(skipped), events(plain), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    with pytest.raises(UserError, match="loop.skip_logits: true must be false for the task masked"):
        fit(write_recipe("other", task="masked"), "--loop.skip_logits", "true")


def test_the_run_may_grow_and_a_finished_one_says_so(write_recipe, fit, capsys):
    whole = fit(write_recipe("whole"), "--loop.max_steps", "5")
    again = write_recipe("again")
    fit(again, "--loop.max_steps", "3")
    before = (whole.parent / "again" / "results.json").stat().st_mtime_ns
    capsys.readouterr()
    fit(again, "--loop.max_steps", "3")
    assert "this run is finished" in capsys.readouterr().out
    run = whole.parent / "again"
    assert (run / "results.json").stat().st_mtime_ns == before
    fit(again, "--loop.max_steps", "5")
    assert weights(run) == weights(whole)
    with pytest.raises(UserError, match=r"loop\.max_steps: 4: must be at least 5, the step reached in "):
        fit(again, "--loop.max_steps", "4")


def test_another_recipe_is_refused_by_its_first_differing_field(write_recipe, fit):
    recipe = write_recipe()
    run = fit(recipe, "--loop.max_steps", "1")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"recipe\.yaml: optim\.lr: this folder's run has 0\.01, the recipe 0\.02"):
        fit(recipe, "--loop.max_steps", "2", "--optim.lr", "0.02")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_other_data_is_refused(write_recipe, fit):
    recipe = write_recipe()
    run = fit(recipe, "--loop.max_steps", "1")
    with open(run.parent / "data" / "train.tsv", "a", encoding="utf-8") as file:
        file.write("abc\tcba\n")
    with pytest.raises(UserError, match="trained with another data"):
        fit(recipe, "--loop.max_steps", "2")


def test_a_folder_of_something_else_is_left_alone(write_recipe, fit, tmp_path):
    recipe = write_recipe()
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds no run but other files \(thesis\.txt\)"):
        fit(recipe)
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("--model.vocab_size", "9"), r"model\.vocab_size: 9: .* 14 tokens"),
        (("--model.d_model", "25"), "d_model=25"),
        (("--eval.split", "test"), r"eval\.split: needs split 'test'"),
        (("--model.max_position_embeddings", "5"), "tokens"),
    ],
)
def test_a_mistake_leaves_no_folder_behind(write_recipe, fit, tmp_path, overrides, words):
    recipe = write_recipe()
    with pytest.raises(UserError, match=words):
        fit(recipe, "--run_dir", str(tmp_path / "new" / "deep"), *overrides)
    assert not (tmp_path / "new").exists()


def test_early_stopping_ends_the_run_and_final_is_the_best(write_recipe, fit, capsys):
    # A learning rate of nothing: the first evaluation stays the best, the second and third are no better.
    options = ("--loop.early_stopping", "2", "--loop.final", "best", "--loop.eval_every", "1")
    run = fit(write_recipe(), *options, "--optim.lr", "1e-30", "--loop.max_steps", "50")
    assert [line["step"] for line in events(run, "eval")] == [1, 2, 3]
    assert weights(run) == (run / "best" / "model.safetensors").read_bytes()
    assert json.loads((run / "results.json").read_text())["train"]["best_step"] == 1
    fit(write_recipe(), *options, "--optim.lr", "1e-30", "--loop.max_steps", "50")  # finished: does nothing
    assert [line["step"] for line in events(run, "eval")] == [1, 2, 3]
    assert "has not been better" not in capsys.readouterr().out


def test_a_last_step_that_is_not_the_best_is_named_with_the_way_to_the_best(write_recipe, fit, capsys):
    run = fit(write_recipe(), "--loop.eval_every=1", "--optim.lr=1e-30", "--loop.max_steps=3")
    train = json.loads((run / "results.json").read_text())["train"]
    assert (train["best_metric"], train["best_step"]) == ("loss", 1)
    assert train["best"] == events(run, "eval")[0]["loss"]
    (said,) = [line for line in capsys.readouterr().out.splitlines() if "has not been better since" in line]
    assert f"warning: the validation loss has not been better since step 1 ({train['best']:.4f})" in said
    assert f"last step, 3; loop.final: best takes those of the best, which are in {run / 'best'} too" in said


def test_final_average_is_the_mean_of_the_checkpoints(write_recipe, fit):
    options = ("--loop.final", "average", "--loop.average_last", "3", "--loop.save_every", "2")
    run = fit(write_recipe(), *options, "--loop.keep_last", "1")
    folders = sorted((run / "checkpoints").iterdir())
    assert [folder.name[-1] for folder in folders] == ["2", "4", "6"]  # kept, since the average needs them
    parts = [load_file(folder / "model.safetensors") for folder in folders]
    for name, value in load_file(run / "final" / "model.safetensors").items():
        torch.testing.assert_close(value, sum(part[name] for part in parts) / 3, rtol=1e-6, atol=1e-8)


def test_nan_stops_the_run_and_the_last_finite_checkpoint_stays(write_recipe, fit, monkeypatch):
    original = loop.train_step

    def train_step(run, delivery, request):
        if run.progress.step == 4:
            with torch.no_grad():
                run.bare.lm_head.weight[7, 0] = float("nan")
        return original(run, delivery, request)

    monkeypatch.setattr(loop, "train_step", train_step)
    recipe = write_recipe()
    words = r"step=5 rank=0: the loss of rank 0 is nan; .* rows of rank 0: \[\d"
    with pytest.raises(loop.NonFiniteError, match=words):
        fit(recipe, "--loop.save_every", "2")
    run = recipe.parent / "tiny"
    assert checkpoint.newest(run).name == "step-00000004"
    monkeypatch.undo()


def test_the_log_line_holds_what_it_promises(write_recipe, fit, capsys):
    run = fit(write_recipe(), "--loop.max_steps", "3", "--loop.log_every", "2")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step=")]
    assert [line.split()[0] for line in lines] == ["step=1", "step=2", "step=3"]
    for word in ("loss=", "lr=", "grad_norm=", "tokens/s=", "padding="):
        assert word in lines[0]
    assert {"loss", "lr", "grad_norm", "tokens_per_second", "padding", "epoch"} <= events(run)[0].keys()


def test_lines_of_lost_steps_and_half_lines_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"event": "train", "step": 1}\n{"event": "train", "step": 2}\n{"event": "tra')
    tracking._forget_after(path, 1, 0)
    assert path.read_text() == '{"event": "train", "step": 1}\n'


def test_matmul_precision_holds_inside_the_run_only(write_recipe, fit, monkeypatch):
    seen = []
    original = loop.train_step

    def train_step(*arguments):
        seen.append(torch.get_float32_matmul_precision())
        return original(*arguments)

    monkeypatch.setattr(loop, "train_step", train_step)
    before = torch.get_float32_matmul_precision()
    fit(write_recipe(), "--loop.matmul_precision", "medium", "--loop.max_steps", "1")
    assert seen == ["medium"]
    assert torch.get_float32_matmul_precision() == before


def test_training_learns(write_recipe, fit):
    run = fit(write_recipe(), "--loop.max_steps", "60", "--model.dropout", "0", "--loop.log_every", "20")
    losses = [line["loss"] for line in events(run)]
    assert losses[-1] < losses[0] - 0.8
    results = json.loads((run / "results.json").read_text())
    assert results["metrics"]["loss"] == events(run, "eval")[-1]["loss"]


def test_final_folder_loads_with_the_auto_classes(write_recipe, fit):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    run = fit(write_recipe(), "--loop.max_steps", "1")
    model = AutoModelForSeq2SeqLM.from_pretrained(run / "final")
    tokenizer = AutoTokenizer.from_pretrained(run / "final")
    inputs = tokenizer("abc", return_tensors="pt")
    inputs.pop("token_type_ids", None)
    assert model.generation_config.num_beams == 4
    assert model.generate(**inputs, max_new_tokens=3).shape[0] == 1


@pytest.mark.parametrize("task", ["causal", "masked", "classification"])
def test_every_other_task_trains_and_can_be_gone_on_from(write_recipe, fit, task):
    columns = {"source_column": None, "target_column": None, "text_column": "text"}
    if task == "classification":
        columns["label_column"] = "label"
    own = {"train": "rows.tsv", "validation": "rows.tsv"}
    options = {"batch": {"max_tokens": 64} | ({} if task == "classification" else {"block_size": 9})}
    recipe = write_recipe("first", task=task, data=columns | own, model={"label_smoothing": 0.0}, **options)
    rows = "".join(f"{'abc' * (i % 3 + 1)}\t{'even' if i % 2 else 'odd'}\n" for i in range(24))
    (recipe.parent / "data" / "rows.tsv").write_text("text\tlabel\n" + rows, encoding="utf-8")
    run = fit(recipe)
    assert json.loads((run / "results.json").read_text())["metrics"]["loss"] == events(run, "eval")[-1]["loss"]
    start = {"preset": None, "dropout": None, "init_from": str(run / "final")}
    further = fit(
        write_recipe("second", task=task, data=columns | own, model={"label_smoothing": 0.0} | start, **options),
        "--optim.lr=1e-30",
    )
    # Steps of nothing leave the weights as they came, up to Adam's 6e-30.
    one, two = (load_file(folder / "final" / "model.safetensors") for folder in (run, further))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-20)
    assert (further / "tokenizer" / "tokenizer.json").read_bytes() == (
        run / "tokenizer" / "tokenizer.json"
    ).read_bytes()
