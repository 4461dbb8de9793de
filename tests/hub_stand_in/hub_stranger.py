# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A stranger: a process that cannot import this project, with an empty cache, with the stand-in for the Hub or none."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

from train.hub.check.stranger import OURS, Refuse

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


# What every stranger starts with.
ALONE = f"""
import sys

OURS = {OURS!r}

{inspect.getsource(Refuse)}

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(Path(transformers.__file__).parents[1])!r})  # -I ignores PYTHONPATH
"""
START = f"""
import json, pathlib
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
"""


def run(folder: Path, hub, token: str | None, script: str, **job) -> dict[str, torch.Tensor]:
    """Run a script as a stranger in a folder, and return what it wrote to found.safetensors."""
    folder.mkdir(exist_ok=True)
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    _start(folder, START + script, hub.environment(folder / "home", token=token, TOKENIZERS_PARALLELISM="false"))
    path = folder / "found.safetensors"
    return load_file(path) if path.exists() else {}


def read(folder: Path, script: str, *words) -> None:
    """Run a script as a stranger without a network, in a folder of its own below one."""
    (folder / "elsewhere").mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    own = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf"), "HF_MODULES_CACHE": str(folder / "modules")}
    _start(folder / "elsewhere", script, kept | own, *words)


def _start(folder: Path, script: str, environment: dict[str, str], *words) -> None:
    """Run a script in a process that ignores whatever Python was told, and see that it ends well."""
    (folder / "stranger.py").write_text(ALONE + script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "stranger.py", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,  # transformers asks about code of a repository: no answer is a no
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-6000:]
