"""results.json: every measured figure of a run, with what it takes to measure it again."""

import dataclasses
import hashlib
import importlib.metadata
import json
import platform
import shlex
import sys
from pathlib import Path

import torch

from train import files

LIBRARIES = ("torch", "transformers", "accelerate", "tokenizers", "datasets", "evaluate", "sacrebleu")
FILE = "results.json"


def build(results, *, recipe, model, split: str, data_hash: str, train: dict | None) -> dict:
    """Return the content of results.json for one evaluation.

    Args:
        results: what `evaluate.evaluate` returned.
        recipe: the resolved recipe.
        model: the model that was scored.
        split: the split it was scored on.
        data_hash: sha256 over the raw rows, from `data.fingerprint`.
        train: how the model was trained (steps, seconds, tokens), where that is known.
    """
    details = results.details
    settings = {
        "beams": recipe.eval.beams,
        # A greedy search ranks nothing, so it has no penalty.
        "length_penalty": recipe.eval.length_penalty if recipe.eval.beams > 1 else None,
        "length_penalty_form": details.get("length_penalty") if recipe.eval.beams > 1 else None,
        "max_extra_tokens": recipe.eval.max_extra_tokens,
        "signatures": details["signatures"],
        "examples": details["examples"],
    }
    return {
        "metrics": dict(results),
        "split": split,
        "settings": settings,
        "command": command(),
        "versions": versions(),
        "seed": recipe.loop.seed,
        "data_hash": data_hash,
        "recipe_hash": recipe_hash(recipe),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train": train,
        "samples": details["samples"],
    }


def write(folder: Path, content: dict, main_split: str) -> Path:
    """Write or update results.json in one step; figures of other splits than `main_split` go under "other_splits".

    The top level always speaks of the recipe's own split where that was measured, so that a later look at the training
    split does not replace the figure of the test split.
    """
    path = Path(folder) / FILE
    old = read(folder) or {}
    others = old.pop("other_splits", {})
    if old and old.get("split") != content["split"]:
        if old.get("split") == main_split:
            old, content = content, old
        others[old["split"]] = old
    others.pop(content["split"], None)
    if others:
        content = content | {"other_splits": others}
    files.write_json(path, content)
    return path


def read(folder: Path) -> dict | None:
    """Return the content of a folder's results.json, None where there is none."""
    path = Path(folder) / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def command() -> str:
    """Return the command line that was typed, as it can be typed again."""
    program, arguments = Path(sys.argv[0]), sys.argv[1:]
    if program.name == "__main__.py":
        return shlex.join(["python", "-m", program.parent.name, *arguments])
    return shlex.join(["python", program.name, *arguments])


def versions() -> dict[str, str]:
    """Return the versions of Python and of every library a figure depends on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def recipe_hash(recipe) -> str:
    """Return the sha256 of the resolved recipe, wherever its run folder lies."""
    content = dataclasses.asdict(recipe) | {"run_dir": None}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode("utf-8")).hexdigest()


def hardware() -> str:
    """Return in words what this process computes on."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def table(content: dict) -> str:
    """Return the figures as a small table for people."""
    rows = [(name, f"{value:.4f}") for name, value in content["metrics"].items()]
    width = max([len(name) for name, _ in rows], default=0)
    lines = [f"{content['settings']['examples']} examples of split {content['split']!r}"]
    lines += [f"  {name:<{width}}  {value:>12}" for name, value in rows]
    lines += [f"  {name}: {signature}" for name, signature in content["settings"]["signatures"].items()]
    return "\n".join(lines)


def train_summary(run_dir: Path) -> dict | None:
    """Return how a run was trained, from the last training line of its metrics.jsonl; None where there is none."""
    path = Path(run_dir) / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    for line in reversed(lines):
        event = json.loads(line)
        if event.get("event") == "train":
            names = ("step", "epoch", "tokens", "seconds", "loss")
            return {"hardware": hardware()} | {name: event[name] for name in names if name in event}
    return None
