# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""transformers.js in node, over folders of `convert --to js`: what its pipelines answer is what Python's answer.

`make js` installs it, in a folder of its own outside the tree; without it these tests skip.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from transformers import pipeline

import tokenizer as tokenizers
from modeling_vanilla import VanillaForMaskedLM, VanillaForSequenceClassification, VanillaModel
from modeling_vanilla.__main__ import main

HERE = Path(__file__).parent / "js"
MODULES = Path(os.environ.get("MODELING_VANILLA_JS", Path.home() / ".cache" / "modeling_vanilla" / "js"))
TEXTS = ["Two dogs run in Berlin.", "A man in a blue shirt is standing on a ladder.", "안녕하세요."]
LENGTH = {"max_new_tokens": 9}  # the pipelines of transformers.js put 256 in the place of what the folder says
TEMPLATES = {"encoder": "encoder", "encoder-decoder": "seq2seq", "decoder": "causal"}

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="no node"),
    pytest.mark.skipif(
        not (MODULES / "node_modules" / "@huggingface" / "transformers").exists(),
        reason=f"`make js` installs transformers.js in {MODULES}",
    ),
]
for name in ("onnx", "onnxscript"):
    pytest.importorskip(name)


@pytest.fixture
def folders(build, tmp_path):
    """Return a function that saves a model and its tokenizer, and converts both: the two folders."""

    def make(variant: str, model_class=None, **options) -> tuple[Path, Path]:
        words = tokenizers.build("bpe", TEXTS, 150, TEMPLATES[variant], min_frequency=1, show_progress=False)
        sizes = {"vocab_size": len(words), "max_position_embeddings": 60, "num_layers": 1, "jitter": 0.3}
        model = build(variant, model_class, **(sizes | options))
        if model.can_generate():
            model.generation_config.update(**LENGTH, do_sample=False, no_repeat_ngram_size=1)
        folder, target = tmp_path / "ours" / variant, tmp_path / "js" / variant
        for saved in (model, words):
            saved.save_pretrained(folder)
        assert main(["convert", str(folder), str(target), "--to", "js"]) == 0
        return folder, target

    return make


def answers(folder: Path, *jobs: tuple) -> list:
    """Run jobs (task, texts, options) over a folder in node."""
    listed = [{"folder": str(folder), "task": task, "texts": texts, "options": more} for task, texts, more in jobs]
    words = ["node", str(HERE / "run.mjs"), json.dumps({"modules": str(MODULES), "jobs": listed})]
    done = subprocess.run(words, capture_output=True, check=False, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_translation(folders):
    folder, target = folders("encoder-decoder")
    pipe = pipeline("translation", model=str(folder), device="cpu")
    expected = [pipe(text) for text in TEXTS]
    assert len({one[0]["translation_text"] for one in expected}) == 3, "texts that are alike prove nothing"
    found = answers(target, *(("translation", texts, LENGTH) for texts in (*TEXTS, TEXTS)))
    assert found == [*expected, [one for (one,) in expected]]


def test_generation(folders):
    folder, target = folders("decoder", norm_order="pre", positions="learned")
    pipe = pipeline("text-generation", model=str(folder), device="cpu")
    expected = [pipe(text, do_sample=False, **LENGTH) for text in TEXTS]
    found = answers(target, *(("text-generation", texts, LENGTH) for texts in (*TEXTS, TEXTS)))
    assert found == [*expected, expected]  # together, the shorter ones are padded on the left


@pytest.mark.slow
def test_features(folders):
    folder, target = folders("encoder", VanillaModel)
    pipe = pipeline("feature-extraction", model=str(folder), device="cpu")
    found = answers(target, *(("feature-extraction", text, {}) for text in TEXTS))
    for one, text in zip(found, TEXTS, strict=True):
        torch.testing.assert_close(torch.tensor(one), torch.tensor(pipe(text)), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_fill_mask(folders):
    folder, target = folders("encoder", VanillaForMaskedLM)
    pipe = pipeline("fill-mask", model=str(folder), device="cpu")
    (found,) = answers(target, ("fill-mask", "Two <mask> run in Berlin.", {"top_k": 3}))
    for one, other in zip(found, pipe("Two <mask> run in Berlin.", top_k=3), strict=True):
        assert (one["token"], one["score"]) == (other["token"], pytest.approx(other["score"], rel=1e-3))


@pytest.mark.slow
def test_classification(folders):
    folder, target = folders("encoder", VanillaForSequenceClassification, id2label={0: "good", 1: "bad", 2: "ugly"})
    pipe = pipeline("text-classification", model=str(folder), device="cpu")
    (found,) = answers(target, ("text-classification", TEXTS, {"top_k": 3}))
    for one, text in zip(found, TEXTS, strict=True):
        expected = {answer["label"]: answer["score"] for answer in pipe(text, top_k=None)}
        assert {answer["label"]: answer["score"] for answer in one} == pytest.approx(expected, rel=1e-3)
