# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""vLLM itself, on a CPU, in an environment of its own: `make test-vllm` makes it (3 GB) and runs this file.

The package is installed there, so that its entry point is what makes the models known: nothing allows remote code.
"""

import json
import subprocess
from pathlib import Path

import pytest
import torch

import tokenizer as tokenizers
from modeling_vanilla import VanillaForSequenceClassification, VanillaModel

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
SIZES = {
    "d_model": 128,
    "num_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 64,
}  # heads as vLLM's kernels take them

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="`make test-vllm` makes the environment, 3 GB, and runs this"),
]


@pytest.fixture
def prompts(tokens) -> list[torch.Tensor]:
    return [tokens(1, length, seed=length) for length in (3, 9, 5)]


@pytest.fixture
def words():
    return tokenizers.build("char", ["abc"], 20, "encoder", show_progress=False)


def vllm(job: str, folder: Path, prompts: list[torch.Tensor]) -> torch.Tensor:
    """Run a job in the other environment, and return its rows."""
    ids = json.dumps([prompt[0].tolist() for prompt in prompts])
    done = subprocess.run(
        [str(PYTHON), str(ROOT / "tests" / "clients" / "vllm_run.py"), job, str(folder), ids],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,  # not the clone: what is installed is what is imported
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    [rows] = [line for line in done.stdout.splitlines() if line.startswith("[[")]  # vLLM writes to stdout as well
    return torch.tensor(json.loads(rows))


@pytest.mark.parametrize("options", [{}, {"norm_order": "pre", "positions": "learned"}], ids=["paper", "gpt"])
def test_greedy_tokens(build, prompts, tmp_path, options):
    model = build("decoder", jitter=0.2, eos_token_id=None, **SIZES, **options)
    expected = [model.generate(p, max_new_tokens=8, do_sample=False)[0, p.shape[1] :].tolist() for p in prompts]
    model.save_pretrained(tmp_path)
    assert vllm("generate", tmp_path, prompts).int().tolist() == expected


@torch.no_grad()
def test_embeddings(build, prompts, words, tmp_path):
    model = build("encoder", VanillaModel, jitter=0.2, **SIZES)
    expected = torch.cat([model(p).last_hidden_state[:, 0] for p in prompts])
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    expected = torch.nn.functional.normalize(expected, dim=-1)
    torch.testing.assert_close(vllm("embed", tmp_path, prompts), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_classes(build, prompts, words, tmp_path):
    model = build("encoder", VanillaForSequenceClassification, jitter=0.2, num_labels=3, **SIZES)
    expected = torch.cat([model(p).logits.softmax(-1) for p in prompts])
    model.save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    torch.testing.assert_close(vllm("classify", tmp_path, prompts), expected, atol=1e-4, rtol=0)
