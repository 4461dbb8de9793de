"""The watchdog reports what looks wrong in a run, in the log and in metrics.jsonl. It never changes or stops a run.

The rules, each with its numbers below. "Above the floor" means less the entropy of the smoothed target, the lowest loss
that label smoothing leaves; ln V is the loss of a uniform guess (V classes, for a classifier).

first_loss  The loss of step 1 of a new model lies outside 0.5 to 2 times ln V: wrong labels, or a wrong initialisation.
leak        A new model's training loss is below 2 % of ln V above the floor within the first 100 steps, in the first pass
            over the data, where no row has been seen before: it reads its answers. Also, tested itself on validation
            rows (`train.run.probes`): the logits of a place change with a token after it.
plateau     The smoothed loss has not fallen by 0.1 % within the last tenth of the run (at least 200 steps), while it is
            still more than 2 % of ln V above the floor.
loss_spike  The loss is 6 standard deviations and 10 % of ln V above its running mean, two steps in a row: a single step may
            be one odd batch.
no_labels   Not one label in a step, over all processes: nothing was learned from it.
norm_spike  The logarithm of the gradient norm is 6 standard deviations above its running mean, and the norm three times
            what is usual. The norm of a mean over fewer labels is larger by the root of their ratio, as noise is: in a step
            with less than the usual labels (the last rows of a pool sorted by length) that much is expected.
clipping    Every one of the last 200 steps after the warm-up was clipped: the clip, not the gradient, sets their length.
dead_head   What an attention head adds is below 1e-4 of its layer's input (root mean squares), or its scores differ by
            less than 1e-3 between the keys (standard deviation): it takes a plain mean of all.

Means and deviations are exponential ones with a weight of 1/50 for the newest value (Finch 2009, "Incremental calculation
of weighted mean and variance", sec. 9); an outlier enters them as if it lay 6 deviations out, so that one does not hide the
next. A kind is reported at most once in 100 steps, plateau and clipping again when they were over. All of it works on the
figures that a step reports anyway, so it costs no transfer from the device; its state is plain numbers in the checkpoint.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from modeling_vanilla.pipeline_question_answering import WINDOW
from train.tasks import TASKS

if TYPE_CHECKING:
    from train.run.run import Progress
    from train.settings.recipe import Recipe

MEMORY = 50
"""Steps that the running means look back on, and steps before they are trusted."""
SIGMAS = 6.0
SPIKE_OF_UNIFORM, SPIKE_OF_NORM = 0.1, 3.0
LEAK_SHARE, LEAK_STEPS = 0.02, 100
PLATEAU_SHARE, PLATEAU_GAIN, PLATEAU_STEPS = 0.1, 1e-3, 200
CLIPPED_STEPS = 200
SILENCE = 100


class Alarm(NamedTuple):
    """Something that looks wrong.

    Attributes:
        kind: name of the rule.
        text: what was seen, in words.
        value: the figure that broke the rule.
    """

    kind: str
    text: str
    value: float


class Running:
    """The mean and deviation of a series, weighted towards its end; a view of a dict of plain numbers."""

    def __init__(self, state: dict[str, float]):
        self.state = state
        for name in ("count", "mean", "variance"):
            state.setdefault(name, 0.0)

    def add(self, value: float) -> tuple[float, float]:
        """Return (sigmas above the mean, the mean) of what came before, then take the value in."""
        count, mean, variance = (self.state[name] for name in ("count", "mean", "variance"))
        trusted = count >= MEMORY
        sigma = math.sqrt(variance)
        score = (value - mean) / max(sigma, 1e-12) if trusted else 0.0
        taken = min(max(value, mean - SIGMAS * sigma), mean + SIGMAS * sigma) if trusted else value
        weight = max(1.0 / (count + 1.0), 1.0 / MEMORY)  # a plain mean at first
        step = weight * (taken - mean)
        self.state |= {
            "count": count + 1.0,
            "mean": mean + step,
            "variance": (1.0 - weight) * (variance + step * (taken - mean)),
        }
        return score, mean


class Watchdog:
    """Look at the figures of every step.

    Args:
        recipe: of the run.
        uniform: loss of a uniform guess, ln V.
        smoothing: label smoothing of the model that is trained.
        state: plain numbers, kept in the checkpoint; filled here.
    """

    def __init__(self, recipe: "Recipe", uniform: float, smoothing: float, state: dict[str, Any]):
        self.recipe, self.uniform, self.state = recipe, uniform, state
        self.floor = smoothed_entropy(smoothing, uniform)
        self.window = max(PLATEAU_STEPS, math.ceil(PLATEAU_SHARE * recipe.loop.max_steps))
        self.loss = Running(state.setdefault("loss", {}))
        self.norm = Running(state.setdefault("norm", {}))
        self.targets = Running(state.setdefault("targets", {}))
        self.reported: dict[str, int] = state.setdefault("spoke", {})
        for name, value in {"clipped": 0, "high": 0, "best": None, "best_step": 0}.items():
            state.setdefault(name, value)

    def step(
        self, step: int, loss: float, grad_norm: float, first_epoch: bool = True, targets: int = 1
    ) -> list[Alarm]:
        """Return what looks wrong after a step.

        Args:
            step: its number, from 1.
            loss: nats per target, label smoothing included.
            grad_norm: before clipping.
            first_epoch: no row of the step was seen before.
            targets: labels in the loss.
        """
        if not targets:  # its loss of 0 is no figure of the model
            text = "no row of the step has a label: nothing was learned"
            return [] if self._silent("no_labels", step) else [Alarm("no_labels", text, 0.0)]
        alarms = [
            self._first(step, loss),
            self._leak(step, loss) if first_epoch else None,
            self._spike(step, loss),
            self._norm_spike(step, grad_norm, targets),
            self._plateau(step),
            self._clipping(step, grad_norm),
        ]
        return [alarm for alarm in alarms if alarm is not None]

    def _silent(self, kind: str, step: int) -> bool:
        """Tell whether a kind was reported just now; if not, it counts as reported now."""
        silent = kind in self.reported and step - self.reported[kind] < SILENCE
        if not silent:
            self.reported[kind] = step
        return silent

    def _first(self, step: int, loss: float) -> Alarm | None:
        ratio = loss / self.uniform
        if step != 1 or self.recipe.model.init_from is not None or 0.5 < ratio < 2:
            return None
        text = f"the first loss is {loss:.3f}, {ratio:.2f} of a uniform guess (ln V = {self.uniform:.3f})"
        return Alarm("first_loss", text, loss)

    def _leak(self, step: int, loss: float) -> Alarm | None:
        above = loss - self.floor
        if step > LEAK_STEPS or self.recipe.model.init_from is not None or above >= LEAK_SHARE * self.uniform:
            return None
        if self._silent("leak", step):
            return None
        text = f"the loss is {loss:.4f} after {step} steps, too good to be learned: look for labels among the inputs"
        return Alarm("leak", text, loss)

    def _spike(self, step: int, loss: float) -> Alarm | None:
        sigmas, mean = self.loss.add(loss)
        far = sigmas > SIGMAS and loss - mean > SPIKE_OF_UNIFORM * self.uniform
        self.state["high"] = self.state["high"] + 1 if far else 0
        if self.state["high"] < 2 or self._silent("loss_spike", step):
            return None
        return Alarm("loss_spike", f"the loss is {loss:.3f}, {sigmas:.0f} sigma above its mean {mean:.3f}", loss)

    def _norm_spike(self, step: int, norm: float, targets: int) -> Alarm | None:
        _, usual_targets = self.targets.add(math.log(targets))
        expected = max(0.0, usual_targets - math.log(targets)) / 2
        sigmas, mean = self.norm.add(math.log(max(norm, 1e-30)) - expected)
        usual = math.exp(mean + expected)
        if sigmas <= SIGMAS or norm <= SPIKE_OF_NORM * usual or self._silent("norm_spike", step):
            return None
        return Alarm("norm_spike", f"the gradient norm is {norm:.3g}, usual is {usual:.3g} ({sigmas:.0f} sigma)", norm)

    def _plateau(self, step: int) -> Alarm | None:
        state, mean = self.state, self.loss.state["mean"]
        above = mean - self.floor
        if self.loss.state["count"] < MEMORY:
            return None
        if state["best"] is None or above < state["best"] * (1.0 - PLATEAU_GAIN):
            state["best"], state["best_step"] = above, step
            self.reported.pop("plateau", None)
        stuck = step - state["best_step"] >= self.window and above > LEAK_SHARE * self.uniform
        if not stuck or "plateau" in self.reported:
            return None
        self.reported["plateau"] = step
        text = f"the smoothed loss, {mean:.3f}, has not improved since step {state['best_step']}"
        return Alarm("plateau", text, mean)

    def _clipping(self, step: int, norm: float) -> Alarm | None:
        optim = self.recipe.optim
        if optim.clip_norm is None or step <= optim.warmup_steps:
            return None
        self.state["clipped"] = self.state["clipped"] + 1 if norm > optim.clip_norm else 0
        if self.state["clipped"] != CLIPPED_STEPS:
            return None
        text = f"each of the last {CLIPPED_STEPS} steps was clipped; the norm is {norm:.3g}, optim.clip_norm"
        return Alarm("clipping", f"{text} {optim.clip_norm:g}: the clip sets their length", norm)


def smoothed_entropy(smoothing: float, uniform: float) -> float:
    """Return the lowest cross-entropy that a target smoothed over e^uniform classes allows (Szegedy et al. 2016, sec. 7).

    The target has 1 - s + s/V at the true class and s/V at the others.
    """
    if not smoothing:
        return 0.0
    size = math.exp(uniform)
    true, other = 1.0 - smoothing + smoothing / size, smoothing / size
    return -(true * math.log(true) + (size - 1.0) * other * math.log(other))


def of_run(recipe: "Recipe", config: Any, progress: "Progress") -> Watchdog:
    """Return the watchdog of a run, where its checkpoint left it."""
    task = TASKS[recipe.task]
    has_logits = task.label_column is None and not task.has_spans  # one for each token of the vocabulary
    choices = config.vocab_size if has_logits else config.num_labels
    if task.has_spans:  # the tokens of a window, which may be shorter
        choices = min(recipe.data.window or WINDOW, config.max_position_embeddings)
    uniform = math.log(choices)
    smoothing = config.label_smoothing if has_logits else 0.0
    return Watchdog(recipe, uniform, smoothing, progress.watch)
