# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""llama.cpp over the file of `convert --to gguf`: the same ids, and the same probabilities of all next tokens.

`make llama` installs llama.cpp built for node, in a folder outside the tree; without it this test skips.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from modeling_vanilla.__main__ import main

HERE = Path(__file__).parent / "js" / "llama"
MODULES = Path(os.environ.get("MODELING_VANILLA_JS", Path.home() / ".cache" / "modeling_vanilla" / "js")) / "llama"
GPT2 = {"norm_order": "pre", "positions": "learned", "scale_embeddings": False, "activation": "gelu_new"}
TEXTS = ["the dog's river is cold, 12 birds", "안녕하세요", "two  dogs run\n in a house"]

pytest.importorskip("gguf")
pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="no node"),
    pytest.mark.skipif(
        not (MODULES / "node_modules" / "node-llama-cpp").exists(), reason=f"`make llama` installs it in {MODULES}"
    ),
]


def round_activations(model) -> None:
    """Let GELU read and give fp16, as llama.cpp does, which looks it up in a table of 65,536 values."""

    def to_half(value: torch.Tensor) -> torch.Tensor:
        return value.half().float()

    for layer in model.get_decoder().layers:
        layer.feed_forward.activation.register_forward_pre_hook(lambda module, inputs: (to_half(inputs[0]),))
        layer.feed_forward.activation.register_forward_hook(lambda module, inputs, output: to_half(output))


@torch.no_grad()
def test_probabilities_are_the_models(tiny, causal_tokenizer, tmp_path):
    model = tiny("decoder", len(causal_tokenizer), jitter=0.1, **GPT2)
    for one in (model, causal_tokenizer):
        one.save_pretrained(tmp_path / "ours")
    assert main(["convert", str(tmp_path / "ours"), str(tmp_path / "new"), "--to", "gguf"]) == 0
    paths = {"modules": MODULES, "file": tmp_path / "new" / "model.gguf", "output": tmp_path / "answers.json"}
    job = {"texts": TEXTS} | {name: str(path) for name, path in paths.items()}
    done = subprocess.run(
        ["node", str(HERE / "run.mjs"), json.dumps(job)], capture_output=True, check=False, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    exact = [model(**causal_tokenizer(text, return_tensors="pt")).logits.log_softmax(-1)[0] for text in TEXTS]
    round_activations(model)
    for text, whole, answer in zip(TEXTS, exact, json.loads(paths["output"].read_text()), strict=True):
        inputs = causal_tokenizer(text, return_tensors="pt")
        assert answer["ids"] == inputs["input_ids"][0].tolist()
        found = torch.tensor(answer["logs"])  # (T, V)
        torch.testing.assert_close(found, model(**inputs).logits.log_softmax(-1)[0], atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(found, whole, atol=1e-2, rtol=0)
