"""The ladder: from one fixed context to the Transformer, measured by the length of the sequence.

Cho et al. 2014, Bahdanau et al. 2015 (figure 2 is drawn again), Luong et al. 2015, Gehring et al. 2017, Vaswani et al. 2017.
"""

import argparse
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import torch
from matplotlib.figure import Figure

from lab.outcome import Outcome, Table
from lab.rungs import RUNGS, fitted, loss_of, weights_of
from lab.tasks import TASKS, Task, task_of
from lab.training import count, train

TITLE = "from a fixed context over recurrent and convolutional attention to the Transformer, by length"
SECONDS = 180
SHARES = (0.25, 0.5, 1.0)
"""The shares of the training after which a rung is measured."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add what this lab alone has."""
    parser.add_argument("--task", choices=TASKS, default="reverse", help="what the rungs learn (reverse)")
    parser.add_argument("--data", type=Path, default=Path("data/multi30k"), help="folder of Multi30k (data/multi30k)")
    parser.add_argument("--steps", type=int, help="steps of training, in place of those of --quick or --no-quick")


@dataclass
class Climb:
    """One rung over all seeds.

    Attributes:
        scores: For each share of `SHARES`, the figure by group, for each seed.
        seconds: Of training one model, for each seed.
    """

    weights: int = 0
    scores: dict[float, dict[str, list[float]]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def average(self, share: float, groups: list[str]) -> list[float]:
        """Return the mean over some groups, for each seed."""
        return [mean(numbers) for numbers in zip(*(self.scores[share][group] for group in groups), strict=True)]


def run(options: argparse.Namespace) -> Outcome:
    """Train every rung on the same batches and measure each by length."""
    if options.steps is not None and options.steps < 4:
        raise ValueError(f"--steps: {options.steps}: must be at least 4")
    task = task_of(options.task, options.data)
    steps = options.steps or task.steps[0 if options.quick else 1]
    if task.name != "reverse":
        options.name = f"ladder-{task.name}"  # the name of its files
    climbs = {name: Climb() for name in RUNGS}
    for seed in range(options.seeds):
        for name, climb in climbs.items():
            _climb(name, task, steps, seed, climb)
            text = " ".join(f"{scores[-1]:.2f}" for scores in climb.scores[1.0].values())
            print(f"seed {seed} {name}: {climb.seconds[-1]:.0f} s, {task.figure} {text}", file=sys.stderr, flush=True)
    return Outcome(_tables(task, steps, climbs), _conclusion(task, climbs), _figure(task, steps, climbs), _notes(task))


def _climb(name: str, task: Task, steps: int, seed: int, climb: Climb) -> None:
    """Train one rung with one seed, and write what it reaches into `climb`."""
    marks = {max(1, round(share * steps)): share for share in SHARES}
    weights = weights_of(task.vocabulary, task.width)
    torch.manual_seed(seed)
    model = fitted(RUNGS[name], task.vocabulary, task.width, task.longest, weights)
    climb.weights = count(model)
    measured = 0.0

    def after(step: int) -> None:
        nonlocal measured
        if step in marks:
            start = time.process_time()
            scores = climb.scores.setdefault(marks[step], {group: [] for group in task.groups})
            for group, batches in task.groups.items():
                scores[group].append(task.score(model, batches))
            measured += time.process_time() - start

    start = time.process_time()
    train(model, task.batches(seed), loss_of, steps, after=after)
    climb.seconds.append(time.process_time() - start - measured)


def _trained(task: Task) -> list[str]:
    return [group for group in task.groups if group not in task.beyond]


def _tables(task: Task, steps: int, climbs: dict[str, Climb]) -> list[Table]:
    heads = [f"{group} (beyond)" if group in task.beyond else group for group in task.groups]
    by_length = Table(
        f"{task.name}: {task.figure} by the length of the source in {task.unit}, after {steps} steps",
        ["rung", "weights", *heads, "CPU s"],
        [[name, climb.weights, *climb.scores[1.0].values(), climb.seconds] for name, climb in climbs.items()],
    )
    by_step = Table(
        f"{task.name}: mean {task.figure} over the lengths of the training, by step",
        ["rung", *(str(max(1, round(share * steps))) for share in SHARES)],
        [[name, *(climb.average(share, _trained(task)) for share in SHARES)] for name, climb in climbs.items()],
    )
    return [by_length, by_step]


def _notes(task: Task) -> list[str]:
    rows = ", ".join(f"{group}: {sum(len(source) for source, _ in task.groups[group])}" for group in task.groups)
    note = (
        f"Test rows by length: {rows}. All rungs have the same batches, steps and learning rate; no rung's was tuned. "
    )
    return [note + "A number in the middle of the training stands before the learning rate has come down."]


def _conclusion(task: Task, climbs: dict[str, Climb]) -> str:
    """Name what the numbers say of the fixed context, of the best rung, and of where the order changes."""
    groups = _trained(task)
    fixed = climbs["fixed context"].scores[1.0]
    at = {name: mean(climb.scores[1.0][groups[-1]]) for name, climb in climbs.items()}
    ends = f"{mean(fixed[groups[0]]):.2f} to {at['fixed context']:.2f}"
    sentences = [f"From length {groups[0]} to {groups[-1]} the {task.figure} of the fixed context goes from {ends}."]
    sentences.append(f"At length {groups[-1]} the best is {_best(at)}.")
    means = [{name: mean(climb.average(share, groups)) for name, climb in climbs.items()} for share in SHARES]

    def curve(name: str) -> str:
        return ", ".join(f"{scores[name]:.2f}" for scores in means)

    sentences.append(
        f"Over all lengths of the training the best after a quarter of the steps is {_best(means[0])}, after all of them "
        f"{_best(means[-1])}; four heads have {curve('four heads')} after a "
        f"quarter, a half and all, additive attention {curve('additive')}."
    )
    sentences.append(
        f"Without positions the same four heads have {means[-1]['no positions']:.2f} in place of "
        f"{means[-1]['four heads']:.2f}."
    )
    for group in sorted(task.beyond):
        far = {name: mean(climb.scores[1.0][group]) for name, climb in climbs.items()}
        sentences.append(f"At {group}, beyond the lengths of the training, the best is {_best(far)}.")
    return " ".join(sentences)


def _best(scores: dict[str, float]) -> str:
    """Name the rungs that have the most, as it is printed."""
    most = f"{max(scores.values()):.2f}"
    return " and ".join(name for name, score in scores.items() if f"{score:.2f}" == most) + f" with {most}"


COLORS = ("#888888", "#1b6ca8", "#5aa9d6", "#9ccbe6", "#b58900", "#0b3c5d", "#2e8b57", "#e08214", "#d9a5a5", "#c0392b")


def _figure(task: Task, steps: int, climbs: dict[str, Climb]) -> Figure:
    """Draw the figure by length and the mean by step; a rung has one colour and one mark in both."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    groups, marks = list(task.groups), "ovs^DP*X<>"
    for (name, climb), color, mark in zip(climbs.items(), COLORS, marks, strict=True):
        style = {"color": color, "marker": mark, "markersize": 5, "linewidth": 1.6}
        left.plot(groups, [mean(climb.scores[1.0][group]) for group in groups], label=name, **style)
        numbers = [mean(climb.average(share, _trained(task))) for share in SHARES]
        right.plot([round(share * steps) for share in SHARES], numbers, **style)
    left.set(
        xlabel=f"length of the source, {task.unit}", ylabel=task.figure, title=f"{task.name}, after {steps} steps"
    )
    if task.beyond:
        left.axvspan(len(groups) - 1.5, len(groups) - 0.8, color="#00000010")
        left.text(len(groups) - 1.45, left.get_ylim()[1] * 0.97, "beyond training", fontsize=8, va="top")
    right.set(xlabel="steps of training", title="mean over the lengths of the training")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False)
    return figure
