"""Small published folders to be made hostile, and a process with little memory and little time to load them in."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from tokenizer import build

ROOT = Path(__file__).resolve().parents[2]
CARD = (
    "---\nlicense: apache-2.0\nlibrary_name: transformers\ntags: [vanilla]\npipeline_tag: translation\n---\n# Name\n"
)
CHILD = """
import atexit, gc, resource, sys
gc.disable()  # as in train/processes/imports.py
atexit.register(gc.freeze)
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
sys.path.insert(0, {root!r})
"""


@pytest.fixture(scope="session")
def published(tmp_path_factory):
    """Save a tiny translator in one file, and in several."""
    root = tmp_path_factory.mktemp("published")
    model = VanillaForConditionalGeneration(VanillaConfig.tiny())
    model.save_pretrained(root / "whole")
    model.save_pretrained(root / "shards", max_shard_size="20KB")
    assert len(list((root / "shards").glob("*.safetensors"))) > 1
    return root


@pytest.fixture
def hostile(published, tmp_path):
    """Return a function that copies a folder and changes fields of one of its JSON files."""

    def make(kind: str = "whole", file: str = "config.json", **changes) -> Path:
        folder = tmp_path / f"{kind}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(published / kind, folder)
        values = json.loads((folder / file).read_text("utf-8")) | changes
        (folder / file).write_text(json.dumps(values), encoding="utf-8")
        return folder

    return make


@pytest.fixture
def run_child(tmp_path):
    """Return a function that runs lines of Python with 8 GiB of addresses, offline, and returns what they print."""

    def run(code: str, *words: str, timeout: int = 120, stdin=subprocess.DEVNULL) -> str:
        script = tmp_path / "child.py"
        script.write_text(CHILD.format(root=str(ROOT)) + code, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, script, *map(str, words)],
            cwd=tmp_path,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "TQDM_DISABLE": "1"},
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run


@pytest.fixture(scope="session")
def right(tmp_path_factory):
    """Return the folder of a tiny translator that passes."""
    folder = tmp_path_factory.mktemp("right") / "hub"
    tokenizer = build("char", ["to be or not to be"], 30, "seq2seq", min_frequency=1, show_progress=False)
    VanillaForConditionalGeneration(VanillaConfig.tiny(vocab_size=len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return folder


@pytest.fixture
def folder(right, tmp_path):
    """Return a copy of it, to be made hostile."""
    return shutil.copytree(right, tmp_path / "hub")


@pytest.fixture
def used(monkeypatch):
    """Return a list that shows whether a folder was used; nothing is."""
    visits = []
    monkeypatch.setattr(
        "train.hub.check.use.findings", lambda *words: iter(visits.append(words) or [("use", True, "")])
    )
    return visits
