"""results.json: every measured figure of a run, with what it takes to measure it again."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train import files
from train.errors import UserError
from train.measure import provenance
from train.tasks import FIGURES

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from train.measure.evaluate import Results
    from train.settings.recipe import Recipe


def build(
    results: "Results",
    *,
    recipe: "Recipe",
    model: "PreTrainedModel",
    folder: Path,
    split: str,
    data_hash: str,
    train: dict[str, Any] | None,
) -> dict[str, Any]:
    """Return the content of results.json for one evaluation.

    Args:
        results: what `evaluate.evaluate` returned.
        recipe: the resolved recipe.
        model: the model that was scored.
        folder: the model folder it lies in.
        split: the split it was scored on.
        data_hash: sha256 over the raw rows, from `splits.fingerprint`.
        train: how the model was trained (steps, seconds, tokens, FLOPs, processes, code), where that is known.
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
        "tolerance": {name: FIGURES[name].tolerance for name in results},
        "split": split,
        "settings": settings,
        "command": command(),
        "code": provenance.code(),
        "versions": provenance.versions(),
        "hardware": provenance.hardware(),
        "seed": recipe.loop.seed,
        "data_hash": data_hash,
        "recipe_hash": provenance.recipe_hash(recipe),
        "weights": provenance.weights(folder),
        "tokenizer": provenance.tokenizer(folder),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "train": train,
        "samples": details["samples"],
        **({"baselines": details["baselines"]} if "baselines" in details else {}),
    }


def passed_over(train: dict[str, Any], recipe: "Recipe") -> str | None:
    """Say which step was best on the validation data where the weights of the last one were taken, and how to take it.

    Args:
        train: how the model was trained, as `build` puts it into results.json; {} where that is not known.
        recipe: of the run.

    Returns:
        None where the best step was taken, or the weights are none of one step.
    """
    best, best_step, step = train.get("best"), train.get("best_step"), train.get("step")
    if recipe.loop.final != "last" or best is None or not best_step or best_step == step:
        return None
    figure = f"the validation {recipe.eval.best_metric} has not been better since step {best_step:,} ({best:.4f})"
    return f"{figure}, and the weights are those of the last step, {step:,}; loop.final: best takes those of the best"


def write(folder: Path, record: dict[str, Any], main_split: str) -> Path:
    """Write or update results.json in one step; figures of other splits than `main_split` go under "other_splits".

    The top level is that of the recipe's own split where that was measured, so that a later look at the training split
    does not replace the figure of the test split.
    """
    path = Path(folder) / files.RESULTS
    main = read(folder) or {}
    others = main.pop("other_splits", {})
    if main and main.get("split") != record["split"]:
        if main.get("split") == main_split:
            main, record = record, main
        others[main["split"]] = main
    others.pop(record["split"], None)
    if others:
        record = record | {"other_splits": others}
    files.write_json(path, record)
    return path


def read(folder: Path) -> dict[str, Any] | None:
    """Return the content of a folder's results.json, None where there is none.

    Raises:
        UserError: it cannot be read.
    """
    path = Path(folder) / files.RESULTS
    if not path.is_file():
        return None
    record = files.read_json(path)
    if not isinstance(record, dict):
        raise UserError(f"{path}: {type(record).__name__} found; it must hold one JSON object")
    if not isinstance(record.get("split", ""), str) or not isinstance(record.get("other_splits", {}), dict):
        raise UserError(f"{path}: split must be a name, and other_splits an object")
    return record


def by_split(record: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the evaluations that a results.json holds by split, the recipe's own first."""
    return {record.get("split", ""): record} | (record.get("other_splits") or {})


def command() -> str:
    """Return the command line that was typed, as it can be typed again."""
    program, arguments = Path(sys.argv[0]), sys.argv[1:]
    if program.name == "__main__.py":
        return shlex.join(["python", "-m", program.parent.name, *arguments])
    return shlex.join(["python", program.name, *arguments])


def table(record: dict[str, Any]) -> str:
    """Return the figures as a small table for people."""
    rows = [(name, f"{value:.4f}") for name, value in record["metrics"].items()]
    width = max([len(name) for name, _ in rows], default=0)
    lines = [f"{record['settings']['examples']} examples of split {record['split']!r}"]
    lines += [f"  {name:<{width}}  {value:>12}" for name, value in rows]
    for name, values in record.get("baselines", {}).items():
        figures = ", ".join(f"{figure} {value:.2f}" for figure, value in values.items())
        lines.append(f"  {name}: {figures}")
    lines += [f"  {name}: {signature}" for name, signature in record["settings"]["signatures"].items()]
    return "\n".join(lines)


def train_summary(run_dir: Path) -> dict[str, Any] | None:
    """Return how a run was trained, from the last training line of its metrics.jsonl; None where there is none."""
    for event in reversed(files.read_events(Path(run_dir) / files.METRICS)):
        if event.get("event") == "train":
            names = ("step", "epoch", "tokens", "seconds", "loss")
            return {"hardware": provenance.hardware()} | {name: event[name] for name in names if name in event}
    return None
