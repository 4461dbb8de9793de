"""What a user sees of a run: log lines, the progress bar, metrics.jsonl and the tracker. Main process only."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from train import files

if TYPE_CHECKING:
    from accelerate import Accelerator

    from train.recipe import Recipe
    from train.state import Progress

METRICS = "metrics.jsonl"


class Tracker:
    """Collect the figures of the steps and show them every `loop.log_every` of them."""

    def __init__(self, accelerator: "Accelerator", recipe: "Recipe", run_dir: Path, progress: "Progress"):
        self.accelerator = accelerator
        self.recipe = recipe
        self.path = Path(run_dir) / METRICS
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
            _forget_after(self.path, progress.step)
        if accelerator.log_with:
            accelerator.init_trackers("tracker", config=_flat(recipe.to_dict()))
        self._first, self._estimated = progress.step, False
        self._begin()

    def _begin(self) -> None:
        """Start an interval between two log lines."""
        self._steps, self._targets, self._loss, self._real, self._cells = (0, 0, 0.0, 0, 0)
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
        self._steps += 1
        self._targets += report.targets
        self._loss += report.loss * report.targets
        self._real += report.real_tokens
        self._cells += report.padded_tokens
        self.bar.update(1)
        if progress.step % self.recipe.loop.log_every == 0 or progress.step in (1, self.recipe.loop.max_steps):
            self._show(progress, report)

    def _show(self, progress: "Progress", report: Any) -> None:
        """Write the figures since the last log line to every place."""
        self.pause()
        seconds = max(self._seconds, 1e-9)
        loss, rate = self._loss / max(self._targets, 1), self._real / seconds
        padding = 1.0 - self._real / max(self._cells, 1)
        self.say(
            f"step={progress.step} loss={loss:.4f} lr={report.lr:.3e} grad_norm={report.grad_norm:.3f} "
            f"tokens/s={rate:.0f} padding={100 * padding:.1f}% epoch={progress.epoch}"
        )
        self.bar.set_postfix_str(
            f"loss={loss:.3f} lr={report.lr:.1e} {rate:.0f} tokens/s padding={100 * padding:.0f}%"
        )
        self._estimate(progress, seconds / max(self._steps, 1))
        figures = {"loss": loss, "lr": report.lr, "grad_norm": report.grad_norm, "tokens_per_second": rate}
        more = {"padding": padding, "epoch": progress.epoch, "tokens": progress.tokens, "seconds": progress.seconds}
        self.event("train", progress.step, figures | more)
        self._begin()

    def _estimate(self, progress: "Progress", seconds_per_step: float) -> None:
        """Say once how long the rest will take; the first steps of a process are slower than the others."""
        if self._estimated or progress.step - self._first < 5:
            return
        self._estimated = True
        left = self.recipe.loop.max_steps - progress.step
        self.say(
            f"estimate: {seconds_per_step:.3g} s a step, {_duration(left * seconds_per_step)} "
            f"for the remaining {left} steps, evaluations not counted"
        )

    def event(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Add one line to metrics.jsonl and tell the tracker."""
        if self.main:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps({"event": kind, "step": step} | values) + "\n")
        self.accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)

    def close(self) -> None:
        """Take the bar down and flush the tracker."""
        self.bar.close()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        self.accelerator.trackers = []


def _forget_after(path: Path, step: int) -> None:
    """Drop the lines written after the checkpoint that the run goes on from: they will be written again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # a line cut short by the kill
    files.write_text(path, "".join(kept))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return `{"optim.lr": 0.1, ...}`; trackers take numbers and text only."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, int | float | str) else str(value)
    return flat


def _duration(seconds: float) -> str:
    """Return a length of time in the two units people would use."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
