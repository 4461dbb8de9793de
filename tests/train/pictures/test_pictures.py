"""Pictures: the right numbers in the right places, and letters instead of boxes."""

import json
import math

import numpy as np
import pytest
import torch
import yaml

import tokenizer as tokenizers
from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration
from modeling_vanilla.look import fonts
from train.__main__ import main
from train.errors import UserError
from train.pictures import attention, curves, png


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figure that is about to be written."""
    kept = []
    save = png.save
    monkeypatch.setattr(png, "save", lambda figure, path: (kept.append(figure), save(figure, path))[1])
    return kept


@pytest.fixture
def model_and_tokenizer():
    tokenizer = tokenizers.build(
        "char", ["Friday, May 1, 2026", "2026년 5월 1일 금요일"], 99, "seq2seq", min_frequency=1, show_progress=False
    )
    torch.manual_seed(1)
    config = VanillaConfig(
        vocab_size=len(tokenizer), d_model=24, d_ff=29, num_heads=4, num_layers=2, max_position_embeddings=64
    )
    model = VanillaForConditionalGeneration(config)
    model.generation_config.max_new_tokens = 7
    return model, tokenizer


def test_the_picture_is_the_last_layer_of_a_forward_over_what_was_written(model_and_tokenizer, drawn, tmp_path):
    model, tokenizer = model_and_tokenizer
    model.train()
    attention.draw(model, tokenizer, "May 1, 2026", tmp_path / "a.png")
    assert model.training
    model.eval()
    inputs = tokenizer("May 1, 2026", return_tensors="pt")
    written = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**inputs, decoder_input_ids=written[:, :-1], output_attentions=True)
    panels = [axes for axes in drawn[0].axes if axes.images and axes.get_title()]
    weights = output.cross_attentions[-1][0]
    for axes, expected in zip(panels, [*weights, weights.mean(0)], strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
    # Row t is named after the token that place t wrote.
    rows = [label.get_text() for label in panels[0].get_yticklabels()]
    assert rows == [fonts.label(piece) for piece in tokenizer.convert_ids_to_tokens(written[0, 1:].tolist())]


def test_a_text_longer_than_the_model_is_one_line_with_the_limit(model_and_tokenizer, tmp_path, capsys):
    for part in model_and_tokenizer:
        part.save_pretrained(tmp_path / "model")
    capsys.readouterr()
    words = ["--output", str(tmp_path / "x.png")]
    assert main(["attention", str(tmp_path / "model"), "May" * 21, *words]) == 0  # 63 letters and the end
    capsys.readouterr()
    assert main(["attention", str(tmp_path / "model"), "May" * 22, *words]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: TEXT: 67 tokens; the model reads at most 64 (max_position_embeddings)"


def test_a_special_token_that_was_typed_is_text(model_and_tokenizer, drawn, tmp_path):
    attention.draw(*model_and_tokenizer, "May</s>", tmp_path / "a.png")
    columns = [label.get_text() for label in drawn[0].axes[0].get_xticklabels()]
    assert columns.count("</s>") == 1


def test_a_model_folder_is_drawn(tmp_path, model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    assert attention.of_model(tmp_path / "model", "May 1, 2026", tmp_path / "x" / "a.png").is_file()
    assert main(["attention", str(tmp_path / "model"), "May 1, 2026"]) == 0
    assert (tmp_path / "model" / "attention.png").is_file()  # beside the model, and for a run in its folder
    causal = VanillaForCausalLM(VanillaConfig.tiny(variant="decoder"))
    causal.save_pretrained(tmp_path / "causal")
    with pytest.raises(
        UserError,
        match=r"variant 'decoder'; only an encoder-decoder looks at a source; python -m modeling_vanilla look",
    ):
        attention.of_model(tmp_path / "causal", "text", tmp_path / "b.png")


def test_loss_curve_draws_every_event(tmp_path, drawn):
    events = [{"event": "train", "step": step, "loss": 5.0 / step} for step in (1, 2, 3)]
    events += [{"event": "eval", "step": 2, "loss": 3.5}, {"event": "eval", "step": 3, "exact_match": 1.0}]
    events.append({"event": "train", "step": 4, "loss": float("nan")})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert curves.draw(tmp_path / "metrics.jsonl", tmp_path / "loss.png").stat().st_size > 5000
    lines = {line.get_label(): line.get_xydata().tolist() for line in drawn[0].axes[0].lines}
    assert list(lines.values()) == [[[1, 5.0], [2, 2.5], [3, 5.0 / 3]], [[2, 3.5]]]
    assert [name.split()[0] for name in lines] == ["training", "validation"]
    assert [axes.get_ylabel() for axes in drawn[0].axes] == ["loss (nats per label)", "exact match (0-1)"]
    with pytest.raises(UserError, match="no such file"):
        curves.draw(tmp_path / "none.jsonl", tmp_path / "loss.png")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="no loss"):
        curves.draw(tmp_path / "empty.jsonl", tmp_path / "loss.png")


@pytest.mark.parametrize("peak", [3e-3, 1e-3])
def test_the_learning_rate_between_two_lines_of_the_log_is_that_of_the_recipe(peak, tmp_path, drawn):
    """Warm-up to 3e-3 in 20 steps, then a cosine; the log has steps 1, 50 and 60. Where the log is of another one, it counts."""
    optim = {"lr": peak, "schedule": "cosine", "warmup_steps": 20}
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(
            {"name": "r", "task": "causal", "data": {"train": "x"}, "optim": optim, "loop": {"max_steps": 120}}
        )
    )
    rates = {1: 3e-3 / 20, 50: 3e-3 * (1 + math.cos(math.pi * 0.3)) / 2, 60: 3e-3 * (1 + math.cos(math.pi * 0.4)) / 2}
    events = [{"event": "train", "step": step, "loss": 1.0, "lr": rate} for step, rate in rates.items()]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    curves.draw(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    (line,) = drawn[-1].axes[1].lines
    steps, values = line.get_xdata(), line.get_ydata()
    if peak == 3e-3:
        assert list(steps) == list(range(1, 61)) and steps[np.argmax(values)] == 20
        assert max(values) == pytest.approx(3e-3)
    else:
        assert list(steps) == list(rates)


@pytest.mark.parametrize("width", [-5, 0, "wide", 10**400])
def test_a_config_without_a_width_costs_no_curve(width, tmp_path, drawn):
    recipe = {"name": "r", "task": "causal", "data": {"train": "x"}, "optim": {"warmup_steps": 5}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "config.json").write_text(json.dumps({"d_model": width}))
    event = {"event": "train", "step": 7, "loss": 1.0, "lr": 0.5}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(event) + "\n")
    curves.draw(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert drawn[-1].axes[1].lines[0].get_xydata().tolist() == [[7, 0.5]]


@pytest.fixture
def metrics(tmp_path):
    """Write the metrics of a run whose folder has a Korean and German name."""
    run = tmp_path / "날짜 Übersetzung"
    run.mkdir()
    train = [
        {"event": "train", "step": s, "loss": 9.0 / s, "lr": 1e-3 * s, "grad_norm": 10.0**-s} for s in range(1, 6)
    ]
    figures = {"loss": 2.0, "ema_loss": 1.5, "accuracy": 0.5, "ema_accuracy": 0.75}
    others = [{"event": "eval", "step": 4, **figures}, {"event": "eval", "step": 5, "loss": 2.5, "accuracy": 1.0}]
    (run / "recipe.yaml").write_text("task: classification\n")
    others.append({"event": "warning", "step": 3, "kind": "loss_spike", "text": "it leapt", "value": 7.0})
    (run / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in train + others) + '{"event": "tr')
    return run


def test_curves_have_a_panel_for_each_figure_and_a_mark_for_each_warning(drawn, metrics):
    assert curves.of_run(metrics) == metrics / "curves.png"
    losses, accuracy, rate, norm = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in losses.lines}
    assert [name.split()[0] for name in lines] == ["training", "validation", "validation,", "warning"]
    values = list(lines.values())
    assert values[0] == [[s, 9.0 / s] for s in range(1, 6)]
    assert values[1:3] == [[[4, 2.0], [5, 2.5]], [[4, 1.5]]]
    assert [line.get_xydata().tolist() for line in accuracy.lines] == [[[4, 0.5], [5, 1.0]], [[4, 0.75]]]
    assert [x for x, _ in values[3]] == [3, 3]
    assert "loss spike" in losses.texts[0].get_text()
    assert (losses.get_yscale(), rate.get_yscale(), norm.get_yscale()) == ("log", "linear", "log")
    assert rate.lines[0].get_xydata().tolist() == [[s, 1e-3 * s] for s in range(1, 6)]
    assert [axes.get_ylabel() for axes in drawn[0].axes] == [
        "loss (nats per text)",
        "accuracy (0-1)",
        "learning rate",
        "gradient norm",
    ]
    assert drawn[0].get_suptitle() == "날짜 Übersetzung"
    assert norm.get_xlabel() == "step"


def test_curves_of_no_run_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"not the folder of a run, it has no metrics\.jsonl"):
        curves.of_run(tmp_path)


@pytest.mark.parametrize("name", ["x.pdf", "x", "x.jpg"])
def test_another_kind_of_picture_is_refused_in_one_line(name, tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "config.json").write_text("{}")
    for words in (["curves", str(tmp_path)], ["attention", str(tmp_path), "a"]):
        assert main([*words, "--output", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err.endswith(
            f"{name}: must end in .png, the only kind of picture that is written\n"
        )
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "training"),
        ({"dropout": 0.0, "label_smoothing": 0.0}, "training"),
        ({"dropout": 0.0, "attention_dropout": 0.1, "label_smoothing": 0.0}, "training (with dropout)"),
        ({"dropout": 0.1, "label_smoothing": 0.1}, "training (with dropout, label smoothing)"),
    ],
)
def test_the_legend_names_what_the_run_has(config, words, tmp_path, drawn):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    if config:
        (tmp_path / "final").mkdir()
        (tmp_path / "final" / "config.json").write_text(json.dumps(config))
    curves.of_run(tmp_path)
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == [words]


@pytest.mark.parametrize("ends", [False, True])
def test_a_translation_without_an_end_is_reported(ends, model_and_tokenizer, tmp_path, caplog):
    model, tokenizer = model_and_tokenizer
    model.generation_config.max_new_tokens = 2
    if ends:
        model.generation_config.forced_eos_token_id = tokenizer.eos_token_id
    attention.draw(model, tokenizer, "a", tmp_path / "a.png")
    assert ("stopped after 2 tokens without an end" in caplog.text) is not ends
