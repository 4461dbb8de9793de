"""Receipts: what identifies a run, so that somebody else can say whether theirs is the same one.

Every hash is a sha256 that `sha256sum` or `hash_of_file` gives again, and that the Hub shows for a file of weights.
"""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

import modeling_vanilla
from train import files
from train.cost import gpus
from train.settings.reading import load_recipe
from train.settings.sections import PUSH_REVISION

if TYPE_CHECKING:
    from train.settings.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ("modeling_vanilla", "tokenizer", "train")  # a recipe or data of the user's own, beside them, changes no code
LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "evaluate", "sacrebleu")
# What a tokenizer is made of; its settings beside these files name folders, and change with the library.
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "merges.txt", "*.spm", "*.model")


def versions() -> dict[str, str]:
    """Return the versions of Python and of every library a figure depends on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def code() -> dict[str, Any]:
    """Return which code runs: its version and, in a clone, the commit and whether files differ from it."""
    found: dict[str, Any] = {"version": modeling_vanilla.__version__}
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:
        return found  # no clone, or a copy that lies in somebody else's
    return found | {"commit": _git("rev-parse", "HEAD"), "changed": bool(_git("status", "--porcelain", "--", *SOURCE))}


def _git(*words: str) -> str | None:
    """Return what a git command says of this project's folder, None where there is no git or no repository."""
    try:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def weights(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of weights in a model folder."""
    return {path.name: files.sha256(path) for path in sorted(folder.glob("*.safetensors"))}


def tokenizer(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that a folder's tokenizer is made of."""
    found = sorted({path for pattern in VOCABULARIES for path in folder.glob(pattern)})
    return {path.name: files.sha256(path) for path in found}


def public(recipe: "Recipe") -> "Recipe":
    """Return the recipe without the paths of the machine it ran on: nobody else has them, and they name people."""
    data, own, model = recipe.data, recipe.tokenizer, recipe.model
    places = {name: _name(getattr(data, name)) for name in ("train", "validation", "test", "hub")}
    root = "." if Path(data.root).is_absolute() else data.root
    return dataclasses.replace(
        recipe,
        run_dir=None,
        data=dataclasses.replace(data, root=root, **places),
        tokenizer=dataclasses.replace(own, path=_name(own.path)),
        model=dataclasses.replace(model, init_from=_name(model.init_from)),
        # Whoever trains it again must not push to where this run did.
        loop=dataclasses.replace(recipe.loop, push_to=None, push_every=None, push_revision=PUSH_REVISION),
    )


def _name(path: Any) -> Any:
    """Return the last part of an absolute path, of each in a list, and anything else as it is."""
    if isinstance(path, list):
        return [_name(one) for one in path]
    return Path(path).name if path and Path(path).is_absolute() else path


def public_content(path: Path) -> dict[str, Any]:
    """Return what `public` leaves of a recipe in a file, with the file's own keys only: a later version may know more.

    Raises:
        UserError: it is no recipe.
    """
    full = public(load_recipe([str(path)])).to_dict()
    return _own_keys(full, yaml.safe_load(path.read_text(encoding="utf-8"))) | {"run_dir": None}


def _own_keys(full: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a recipe, or of a section, that a file writes down."""
    return {
        name: _own_keys(value, own[name]) if isinstance(value, dict) and isinstance(own[name], dict) else value
        for name, value in full.items()
        if name in own
    }


def recipe_hash(recipe: "Recipe") -> str:
    """Return the sha256 of the resolved recipe, wherever its run and its data lie."""
    return _hash(public(recipe).to_dict())


def hash_of_file(path: Path) -> str:
    """Return the hash of a resolved recipe in a file, of its own keys.

    Raises:
        UserError: it is no recipe.
    """
    return _hash(public_content(path))


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode("utf-8")).hexdigest()


def hardware() -> str:
    """Return in words what this process computes on."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def cost(flops: int, seconds: float, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the arithmetic of a training, counted in two ways.

    Args:
        flops: of the model over the real tokens, see `train.cost.flops`.
        seconds: spent training.
        history: the parts of the run's way, see `train.run.history`; one GPU a process.

    Returns:
        `flops`, and on known GPUs `flops_by_time`: seconds x GPUs x their peak in fp32, the paper's way (sec. 6.1, footnote).
    """
    ends = [part["seconds"] for part in history[1:]] + [seconds]
    found = [gpus.of_device(part.get("hardware", "")) for part in history]
    if not found or None in found:
        return {"flops": flops}
    parts = zip(history, ends, found, strict=True)
    return {
        "flops": flops,
        "flops_by_time": sum(
            (end - part["seconds"]) * part["processes"] * gpu.fp32 * 1e12 for part, end, gpu in parts
        ),
    }
