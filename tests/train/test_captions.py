"""Captions: what the model reads and writes, where it looks, and a short run to its end."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, VisionEncoderDecoderModel

from modeling_vanilla.losses import IGNORE
from train import captions
from train.data.shapes import LANGUAGES, mask, picture, scenes

MADE = scenes(6, held_out=False, seed=0)


@pytest.fixture(scope="module")
def tokenizer():
    """Return the tokenizer of some captions."""
    return captions.tokenizer_of([one.caption(lang) for one in scenes(300, False, 0) for lang in LANGUAGES])


def test_a_word_is_a_token(tokenizer):
    for scene in MADE:
        for language in LANGUAGES:
            text = scene.caption(language)
            ids = tokenizer(text)["input_ids"]
            assert len(ids) == len(text.split()) + 1
            assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len({captions.start_of(tokenizer, language) for language in LANGUAGES} | {tokenizer.unk_token_id}) == 3


def test_what_is_read_is_what_is_written_one_place_later(tokenizer):
    rows = captions.Captions(MADE, tokenizer, seed=0)
    assert len(rows) == 12
    batch = captions.collate([rows[index] for index in range(12)])
    assert batch["pixel_values"].shape == (12, 3, 32, 32)
    assert -1 <= batch["pixel_values"].min() < -0.5 < 0.5 < batch["pixel_values"].max() <= 1
    read, write = batch["decoder_input_ids"], batch["labels"]
    assert read[:, 0].tolist() == [captions.start_of(tokenizer, language) for language in LANGUAGES] * 6
    for row in range(12):
        length = int(write[row].ne(IGNORE).sum())
        assert read[row, 1:length].tolist() == write[row, : length - 1].tolist()
        assert write[row, length - 1] == tokenizer.eos_token_id
        text = tokenizer.decode(write[row, :length], skip_special_tokens=True)
        assert text == MADE[row // 2].caption(LANGUAGES[row % 2])


def test_it_looks_where_eager_attention_looks(tokenizer):
    model = captions.model_of(tokenizer).eval()
    image, text = picture(MADE[0], 1), MADE[0].caption("ko")
    weights = captions.looked(model, tokenizer, image, text, "ko")
    assert weights.shape == (2, len(text.split()), 65)
    read = torch.tensor([[captions.start_of(tokenizer, "ko"), *tokenizer(text)["input_ids"][:-1]]])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        out = model(captions.pixels([image]), decoder_input_ids=read, output_attentions=True)
    expected = torch.stack([layer[0].mean(0)[:-1] for layer in out.cross_attentions]).numpy()
    np.testing.assert_allclose(weights, expected, atol=1e-5)


def test_the_patches_of_a_shape(tokenizer):
    covered = captions.patches_of(MADE[0])
    for shape, patches in zip((MADE[0].first, MADE[0].second), covered, strict=True):
        for patch in range(64):
            row, column = divmod(patch, 8)
            share = mask(shape)[4 * row : 4 * row + 4, 4 * column : 4 * column + 4].mean()
            assert patches[patch] == (share >= 0.1)
    model = captions.model_of(tokenizer)
    shares = captions.on_the_shape(model, tokenizer, MADE, [picture(scene, 0) for scene in MADE])
    assert [*shares] == ["layer 0", "layer 1", "chance"]
    assert shares["layer 1"] == pytest.approx(shares["chance"], rel=0.5), "an untrained model looks everywhere"


def test_a_short_run_to_its_end(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(captions, "TESTED", 4)
    assert captions.main(["--run_dir", str(tmp_path), "--pictures", "40", "--steps", "3"]) == 0
    figures = json.loads((tmp_path / "results.json").read_text())
    assert set(figures["exact match, held-out triples"]) == {*LANGUAGES}
    assert str(tmp_path / "captions.png") in capsys.readouterr().out
    assert (tmp_path / "captions.png").read_bytes().startswith(b"\x89PNG")
    model = VisionEncoderDecoderModel.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    for language in LANGUAGES:
        assert isinstance(captions.written(model, tokenizer, [picture(MADE[0], 0)], language)[0], str)


def test_a_wrong_number_is_an_error(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        captions.main(["--run_dir", str(tmp_path / "new"), "--steps", "0"])
    assert left.value.code == 2
    assert "--steps: 0 must be at least 1" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
