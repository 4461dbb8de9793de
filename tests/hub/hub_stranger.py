# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A stranger: a process that cannot import this project, with an empty cache, and the stand-in for the Hub as its Hub."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

LANGUAGE_AUTO = {
    "encoder-decoder": "AutoModelForSeq2SeqLM",
    "encoder": "AutoModelForMaskedLM",
    "decoder": "AutoModelForCausalLM",
}
TEMPLATES = {"encoder-decoder": "seq2seq", "encoder": "encoder", "decoder": "causal"}
TEXTS = ["ab ba", "abba", "b a"]  # of few letters: the small models have 31 ids


def numbers(model, inputs):
    """Return what a model computes; both sides run this function."""
    if type(model).__name__.endswith("MultipleChoice"):
        inputs = {"input_ids": inputs["input_ids"][None]}
    with torch.no_grad():
        found = {"head": model.eval()(**inputs)[0]}
        if model.can_generate():
            found["ids"] = model.generate(inputs["input_ids"], num_beams=2, do_sample=False)
    return found


START = f'''
import json, pathlib, sys

class Blocker:
    """Refuses the project; the copies of its files have other names (transformers_modules...)."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("modeling_vanilla", "tokenizer", "train"):
            raise ModuleNotFoundError(f"{{name}} is blocked")

sys.meta_path.insert(0, Blocker())
sys.path.insert(0, {str(Path(transformers.__file__).parents[1])!r})  # -I ignores PYTHONPATH
import torch, transformers
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

transformers.logging.set_verbosity_error()
texts = {TEXTS!r}
job = json.loads(pathlib.Path("job.json").read_text())

{inspect.getsource(numbers)}

def load(auto, name, **options):
    model = getattr(transformers, auto).from_pretrained(name, trust_remote_code=True, **options)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    return model
'''


def run(folder: Path, hub, token: str | None, script: str, **job) -> dict[str, torch.Tensor]:
    """Run a script as a stranger in a folder, and return what it wrote to found.safetensors."""
    folder.mkdir(exist_ok=True)
    (folder / "stranger.py").write_text(START + script, encoding="utf-8")
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "stranger.py"],
        cwd=folder,
        env=hub.environment(folder / "home", token=token, TOKENIZERS_PARALLELISM="false"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
    path = folder / "found.safetensors"
    return load_file(path) if path.exists() else {}
