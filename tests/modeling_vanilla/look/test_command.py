# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla look` on folders of ours and of others, and on what it refuses."""

import json
from pathlib import Path

import pytest
import torch

import tokenizer as tokenizers
from modeling_vanilla.__main__ import main


@pytest.fixture(scope="module")
def characters():
    """Return a tokenizer of characters."""
    return tokenizers.build("char", ["May 1, 2026 년"], 61, "seq2seq", min_frequency=1, show_progress=False)


@pytest.fixture
def folder_of(model_of, characters, tmp_path):
    """Return a function that saves a model and a tokenizer to a folder."""

    def save(name: str) -> Path:
        model = model_of(name)
        if model.can_generate():
            model.generation_config.max_new_tokens = 4
        for part in (model, characters):
            part.save_pretrained(tmp_path / "model")
        return tmp_path / "model"

    return save


def look(*words, capsys) -> tuple[int, str, str]:
    """Run the command; return its exit code, its output, and the last line of its errors."""
    capsys.readouterr()
    code = main(["look", *map(str, words)])
    shown = capsys.readouterr()
    return code, shown.out, (shown.err.splitlines() or [""])[-1]


@pytest.mark.parametrize("name", ["BERT", "GPT-2", "BART", "encoder-decoder", "encoder", "decoder"])
def test_any_model_becomes_numbers_and_a_picture(folder_of, name, tmp_path, capsys):
    folder = folder_of(name)
    to = tmp_path / "out" / "a.json"
    assert look(folder, "May 1", "--to", to, capsys=capsys)[:2] == (0, f"{to}\n")
    view = json.loads(to.read_text())
    two = name in ("BART", "encoder-decoder")
    assert [seen["kind"] for seen in view["maps"]] == (
        ["encoder", "decoder", "cross"] if two else ["encoder" if name in ("BERT", "encoder") else "decoder"]
    )
    assert (len(view["exact"]), len(view["numbers"]), view["model"]) == (4, 1, str(folder))
    assert bool(view["steps"]) == (name not in ("BERT", "encoder"))
    svg = to.with_suffix(".svg")
    assert look(folder, "May 1", "--to", svg, capsys=capsys)[0] == 0
    assert svg.read_text().count("<image") == 5  # the last layer's four heads and their mean


def test_what_is_chosen_is_what_is_written(folder_of, tmp_path, capsys):
    folder, to = folder_of("encoder-decoder"), tmp_path / "a.json"
    words = ["--target", "2026", "--layers", "0,2", "--heads", "3,1", "--kind", "cross,decoder"]
    words += ["--exact", "2.1,decoder.0.3", "--numbers", "decoder.2.3"]
    assert look(folder, "May 1", "--to", to, *words, capsys=capsys)[0] == 0
    view = json.loads(to.read_text())
    assert [(seen["kind"], seen["layers"], seen["heads"]) for seen in view["maps"]] == [
        ("decoder", [0, 2], [3, 1]),
        ("cross", [0, 2], [3, 1]),
    ]
    assert view["maps"][1]["rows"] == [*"2026", "</s>"]
    assert view["exact"] == [["cross", 2, 1], ["decoder", 0, 3]]
    assert [(one["kind"], one["layer"], one["head"]) for one in view["numbers"]] == [("decoder", 2, 3)]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["May", "--to", "a.jpg"], "a.jpg: must end in .html, .png, .svg, .pdf, .json"),
        (["May"], "--to: missing; a page, a picture, --report or --search is what there is to be had"),
        (["", "--to", "a.svg"], "TEXT: has no tokens"),
        (["May" * 22, "--to", "a.svg"], "TEXT: 67 tokens; the model reads at most 64 (max_position_embeddings)"),
        (
            ["May", "--to", "a.svg", "--layers", "3"],
            "layer 3 does not exist; VanillaForConditionalGeneration has 0 to 2",
        ),
        (["May", "--to", "a.svg", "--layers", "-1"], "--layers: '-1' must be whole numbers from 0, such as 0,3"),
        (["May", "--to", "a.svg", "--layers", "all"], "--layers: 'all' must be whole numbers from 0, such as 0,3"),
        (["May", "--to", "a.svg", "--heads", "1.5"], "--heads: '1.5' must be whole numbers from 0, such as 0,3"),
        (["May", "--to", "a.svg", "--heads", "٣"], "--heads: '٣' must be whole numbers from 0, such as 0,3"),
        (["May", "--to", "a.svg", "--kind", "self"], "--kind: 'self' does not exist; one of encoder, decoder, cross"),
        (
            ["May", "--to", "a.svg", "--exact", "3"],
            "--exact: '3' must be layer.head or kind.layer.head, such as 0.3 or cross.0.3",
        ),
        (
            ["May", "--to", "a.svg", "--numbers", "0.4"],
            "numbers: no head cross.0.4 among those that are looked at",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(folder_of, words, line, tmp_path, capsys, monkeypatch):
    folder = folder_of("encoder-decoder")
    monkeypatch.chdir(tmp_path)
    code, out, error = look(folder, *words, capsys=capsys)
    assert (code, out, error) == (2, "", f"modeling_vanilla: {line}")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_models_that_cannot_be_looked_at_are_refused(folder_of, tmp_path, capsys):
    to = ("--to", tmp_path / "a.svg")
    error = look(tmp_path / "none", "May", *to, capsys=capsys)[2]
    assert "none: neither a folder nor a model that the Hub gives out" in error
    folder = folder_of("BERT")
    code, _, error = look(folder, "May", *to, "--kind", "cross", capsys=capsys)
    assert (code, error) == (2, "modeling_vanilla: kind 'cross': BertModel has none; it has encoder")
    code, _, error = look(folder, "May", *to, "--target", "1", capsys=capsys)
    assert (code, error) == (2, "modeling_vanilla: target: BertModel is an encoder, which writes nothing")
    for file in folder.glob("token*"):
        file.unlink()
    code, _, error = look(folder, "May", *to, capsys=capsys)
    assert (code, error) == (2, f"modeling_vanilla: {folder}: no tokenizer (it holds no files of one)")
    assert not (tmp_path / "a.svg").exists()


def test_attention_in_the_command_is_that_of_eager(folder_of, model_of, characters, tmp_path, capsys):
    folder, to = folder_of("GPT-2"), tmp_path / "a.json"
    look(folder, "May 1", "--target", "2026", "--to", to, capsys=capsys)
    (seen,) = json.loads(to.read_text())["maps"]
    model = model_of("GPT-2")
    model.set_attn_implementation("eager")
    ids = torch.tensor([characters.convert_tokens_to_ids(seen["reads"])])
    with torch.no_grad():
        expected = torch.cat(model(ids, output_attentions=True).attentions)
    torch.testing.assert_close(torch.tensor(seen["weights"]), expected, atol=5e-6, rtol=0)
