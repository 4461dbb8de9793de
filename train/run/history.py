"""On what a run was trained: each part of its way that had other processes, another machine or other code."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from train.measure import provenance

if TYPE_CHECKING:
    from train.run.checkpoint import State
    from train.run.run import Run

_BEGINNING = ("step", "seconds")


def begin(run: "Run", saved: "State | None") -> list[dict[str, Any]]:
    """Return the parts of a run's way, with the one that begins now where it differs from the one before.

    Args:
        run: at the step where it goes on.
        saved: of the checkpoint that it goes on from; None = it begins.
    """
    loop, progress = run.recipe.loop, run.progress
    now = {
        "step": progress.step,
        "seconds": progress.seconds,
        "processes": run.accelerator.num_processes,
        "accumulate": loop.accumulate,
        "max_steps": loop.max_steps,
        "hardware": provenance.hardware(),
        "code": provenance.code(),
        "versions": provenance.versions(),
    }
    # All that is known of the way to a checkpoint of a version that did not write it down.
    before = [] if saved is None else saved.history or [{"step": 0, "seconds": 0.0, "processes": saved.processes}]
    before = trained(before, progress.step)
    return before if before and _without_beginning(before[-1]) == _without_beginning(now) else [*before, now]


def trained(parts: list[dict[str, Any]], step: int) -> list[dict[str, Any]]:
    """Return the parts in which a step was taken, up to a step."""
    return [part for part in parts if part["step"] < step]


def of_results(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a run's way that a results.json names; one part where it knows of no other."""
    train = summary.get("train") or {}
    parts = train.get("history")
    if isinstance(parts, list) and parts and all(isinstance(part, dict) for part in parts):
        return parts
    whole = {name: train[name] for name in ("hardware", "processes") if name in train}
    return [whole | {name: train.get(name) or summary.get(name) or {} for name in ("code", "versions")}]


def in_words(parts: list[dict[str, Any]], describe: Callable[[dict[str, Any]], str | None]) -> str | None:
    """Describe the parts: once where all are alike, else each with the step from which it holds."""
    lines = [(part.get("step", 0), describe(part)) for part in parts]
    changes = [line for number, line in enumerate(lines) if not number or line[1] != lines[number - 1][1]]
    if len(changes) == 1:
        return changes[0][1]
    return "; ".join(f"from step {step}: {text or 'unknown'}" for step, text in changes)


def _without_beginning(part: dict[str, Any]) -> dict[str, Any]:
    """Return what makes a part of the way another one."""
    return {name: value for name, value in part.items() if name not in _BEGINNING}
