"""What a user sees of a run: log lines, the progress bar, metrics.jsonl and the tracker. Main process only."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from train import files
from train.cost import gpus
from train.settings.recipe import flat

if TYPE_CHECKING:
    from accelerate import Accelerator

    from train.run.run import Progress
    from train.run.watchdog import Alarm
    from train.settings.recipe import Recipe

SLOW_STEPS = 5
"""The first steps of a process, which are slower than the others, and left out of the time that remains."""


class Tracker:
    """Collect the figures of the steps and show them every `loop.log_every` of them."""

    def __init__(self, accelerator: "Accelerator", recipe: "Recipe", run_dir: Path, progress: "Progress"):
        self.accelerator = accelerator
        self.recipe = recipe
        self.path = Path(run_dir) / files.METRICS
        self.main = accelerator.is_main_process
        # disable=None: no bar where stderr is a file; the log lines say the same there.
        self.bar = tqdm(
            total=recipe.loop.max_steps,
            initial=progress.step,
            desc=recipe.name,
            unit="step",
            disable=None if self.main else True,
            dynamic_ncols=True,
        )
        if self.main:
            _forget_after(self.path, progress.step, progress.evaluated)
        if accelerator.log_with:
            accelerator.init_trackers("tracker", config=_tracked(recipe))
        self._peak = _peak(accelerator, recipe)
        self._first, self._start = progress.step + SLOW_STEPS, 0.0
        self._begin()

    def _begin(self) -> None:
        """Start an interval between two log lines."""
        self._targets, self._loss, self._real, self._cells, self._flops = (0, 0.0, 0, 0, 0)
        self._seconds, self._since = 0.0, time.perf_counter()

    def pause(self) -> None:
        """Stop the clock for an evaluation or a save: tokens per second are those of training."""
        self._seconds += time.perf_counter() - self._since

    def resume(self) -> None:
        """Start the clock again."""
        self._since = time.perf_counter()

    def say(self, line: str) -> None:
        """Print one line, above the progress bar where there is one."""
        if self.main:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()

    def step(self, progress: "Progress", report: Any) -> None:
        """Count one step; `report` is the loop's `StepReport`."""
        self._targets += report.targets
        self._loss += report.loss * report.targets
        self._real += report.real_tokens
        self._cells += report.padded_tokens
        self._flops += report.flops
        if progress.step == self._first:
            self._start = time.perf_counter()
        self.bar.update(1)
        if progress.step % self.recipe.loop.log_every == 0 or progress.step in (1, self.recipe.loop.max_steps):
            self._show(progress, report)

    def _show(self, progress: "Progress", report: Any) -> None:
        """Write the figures since the last log line to every place."""
        self.pause()
        seconds = max(self._seconds, 1e-9)
        loss, rate = self._loss / max(self._targets, 1), self._real / seconds
        padding, speed = 1.0 - self._real / max(self._cells, 1), self._flops / seconds
        share = None if self._peak is None else speed / self._peak
        arithmetic = f"TFLOP/s={speed / 1e12:.3g}" + (f" MFU={100 * share:.1f}%" if share is not None else "")
        left = self._left(progress)
        eta = "" if left is None else f" eta={_duration(left)}"
        self.say(
            f"step={progress.step} loss={loss:.4f} lr={report.lr:.3e} grad_norm={report.grad_norm:.3f} "
            f"tokens/s={rate:.0f} {arithmetic} padding={100 * padding:.1f}% epoch={progress.epoch}{eta}"
        )
        self.bar.set_postfix_str(
            f"loss={loss:.3f} lr={report.lr:.1e} {rate:.0f} tokens/s {arithmetic} padding={100 * padding:.0f}%{eta}"
        )
        figures = {"loss": loss, "lr": report.lr, "grad_norm": report.grad_norm, "tokens_per_second": rate}
        more = {"padding": padding, "epoch": progress.epoch, "tokens": progress.tokens, "seconds": progress.seconds}
        more |= {"flops_per_second": speed} | ({} if share is None else {"mfu": share})
        self.event("train", progress.step, figures | more | ({} if left is None else {"eta_seconds": left}))
        self._begin()

    def _left(self, progress: "Progress") -> float | None:
        """Return the seconds that the remaining steps will take, evaluations and saves included, None at the start."""
        done = progress.step - self._first
        if done <= 0:
            return None
        return (time.perf_counter() - self._start) / done * (self.recipe.loop.max_steps - progress.step)

    def warn(self, step: int, alarm: "Alarm") -> None:
        """Report something that looks wrong: a line of the log and an event of metrics.jsonl."""
        self.say(f"warning: {alarm.kind} at step {step}: {alarm.text}")
        self._write({"event": "warning", "step": step, "kind": alarm.kind, "text": alarm.text, "value": alarm.value})
        self.accelerator.log({f"warning/{alarm.kind}": alarm.value}, step=step)

    def event(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Add one line to metrics.jsonl and tell the tracker."""
        self._write({"event": kind, "step": step} | values)
        self.accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def _write(self, line: dict[str, Any]) -> None:
        """Add one line to metrics.jsonl."""
        if self.main:
            with files.named(self.path), open(self.path, "a", encoding="utf-8", opener=files.no_link) as file:
                file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Take the bar down and flush the tracker."""
        self.bar.close()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers = []


def _forget_after(path: Path, step: int, evaluated: int) -> None:
    """Drop the lines written after the checkpoint that the run goes on from: they will be written again.

    Args:
        path: metrics.jsonl.
        step: the checkpoint's.
        evaluated: step of the last evaluation that the run knows of; one that was cut short leaves lines too.
    """
    if not path.is_file():
        return
    kept: list[dict[str, Any]] = []
    for event in files.read_events(path):  # without a line that the kill cut short
        written_at = event.get("step")
        if not isinstance(written_at, int):
            continue
        if event.get("event") == "eval" and evaluated < step <= written_at:
            break  # it, and what it found
        if written_at <= step:
            kept.append(event)
    files.write_text(path, "".join(json.dumps(event) + "\n" for event in kept))


def _tracked(recipe: "Recipe") -> dict[str, Any]:
    """Return the values of a recipe by their full key; trackers take numbers and text only."""
    values = flat(recipe.to_dict())
    return {key: value if isinstance(value, int | float | str) else str(value) for key, value in values.items()}


def _peak(accelerator: "Accelerator", recipe: "Recipe") -> float | None:
    """Return the peak of all processes' GPUs in FLOP/s, None on a CPU and for a GPU that is not known."""
    on_gpu = accelerator.device.type == "cuda"
    gpu = gpus.of_device(torch.cuda.get_device_name(accelerator.device)) if on_gpu else None
    if gpu is None:
        return None
    peak, _ = gpus.peak(gpu, recipe.loop.precision, recipe.loop.matmul_precision)
    return peak * accelerator.num_processes


def _duration(seconds: float) -> str:
    """Return a length of time in the two units people would use, as one word."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f}s"
    if minutes < 24 * 60:
        return f"{minutes}min" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}min"
    return f"{minutes // 1440}d{minutes % 1440 // 60:02d}h"
