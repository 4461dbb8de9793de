"""The course of a run: losses, the other figures of its evaluations, learning rate and gradient norm over its steps."""

import math
import textwrap
from pathlib import Path
from typing import Any

import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from modeling_vanilla.look import fonts
from train import files
from train.errors import UserError
from train.model.optim import learning_rate
from train.pictures import png
from train.settings.reading import load_recipe
from train.tasks import FIGURES, in_words

CURVES = {"train": "training", "eval": "validation", "ema": "validation, moving average of the weights"}
COLOURS = {"train": "tab:blue", "eval": "tab:orange", "ema": "tab:green"}
PANELS = {"lr": "learning rate", "grad_norm": "gradient norm"}
HEADS = "heads"
ATTENTIONS = {"encoder": "tab:green", "decoder": "tab:orange", "cross": "tab:blue"}
SHOWN_WARNINGS = 8
MOST_POINTS = 1000

Points = list[tuple[int, float]]  # (step, value)


def of_run(run_dir: str | Path, output: str | Path | None = None) -> Path:
    """Draw the curves of a run folder into its `curves.png`, or into another file.

    Raises:
        UserError: the folder is no run, or has no loss yet.
    """
    files.refuse_missing(run_dir)
    metrics_file = Path(run_dir) / files.METRICS
    if not metrics_file.is_file():
        raise UserError(f"{run_dir}: not the folder of a run, it has no metrics.jsonl")
    png.require(output or files.CURVES)
    return draw(metrics_file, Path(output) if output else Path(run_dir) / files.CURVES)


def draw(metrics_file: Path, output: Path, title: str | None = None) -> Path:
    """Draw a metrics.jsonl over the steps: the losses, each other figure of the evaluations, learning rate and gradient norm.

    The unit of the loss is that of the task of the recipe.yaml beside it.

    Raises:
        UserError: the file is missing or holds no loss.
    """
    series, warned = _series(metrics_file)
    entropies = _entropies(metrics_file)
    names = [name for name in (*FIGURES, *PANELS) if name in series] + [HEADS] * bool(entropies)
    heights = [3.6, *[1.8] * (len(names) - 1)]  # inches
    with fonts.chosen():
        figure = Figure(figsize=(7.5, max(sum(heights), 4.2)), layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for panel, name in zip(panels, names, strict=True):
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
            if name == HEADS:
                _heads(panel, entropies)
                continue
            words = PANELS.get(name) or in_words(name, _task(metrics_file.parent))
            panel.set_ylabel(words if name == "loss" else textwrap.fill(words, 22))
            if name in PANELS:
                logged = series[name]["train"]
                _of_training(panel, name, _schedule(metrics_file.parent, logged) if name == "lr" else logged)
            else:
                _curves(panel, series[name], CURVES | {"train": _training(metrics_file.parent)})
        _finish_losses(panels[0], series["loss"], warned)
        panels[-1].set_xlabel("step")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        figure.align_ylabels(panels)
        figure.suptitle(fonts.title(title or metrics_file.resolve().parent.name), fontsize=12)
        return png.save(figure, output)


def _task(run_dir: Path) -> str | None:
    """Return the task of a run; None where no recipe tells it."""
    try:
        recipe = yaml.safe_load((run_dir / files.RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return str(recipe.get("task")) if isinstance(recipe, dict) else None


def _schedule(run_dir: Path, logged: Points) -> Points:
    """Return the learning rate of every step from the recipe: a short run's peak may lie between two lines of its log.

    What was logged is returned where no recipe is there, or where it says otherwise.
    """
    try:
        recipe, config = load_recipe(run_dir / files.RECIPE), _config(run_dir)
        last = logged[-1][0]
        steps = [*range(1, last + 1, max(1, last // MOST_POINTS)), *(step for step, _ in logged)]
        rates = {
            step: learning_rate(step, recipe.optim, config.get("d_model", 0), recipe.loop.max_steps) for step in steps
        }
        fits = all(math.isclose(rates[step], value, rel_tol=1e-3) for step, value in logged)
    except (UserError, ArithmeticError, TypeError, ValueError):  # TypeError: a negative width makes it complex
        return logged
    return sorted(rates.items()) if fits else logged


def _series(metrics_file: Path) -> tuple[dict[str, dict[str, Points]], list[tuple[int, str]]]:
    """Read (step, value) by figure and then by its source (train, eval, ema), and (step, kind) of the warnings."""
    if not metrics_file.is_file():
        raise UserError(f"{metrics_file}: no such file")
    series: dict[str, dict[str, Points]] = {}
    warned: list[tuple[int, str]] = []
    for event in files.read_events(metrics_file):
        if not isinstance(event.get("step"), int):
            continue
        kind = event.get("event", "train")
        if kind == "warning":
            warned.append((event["step"], str(event.get("kind"))))
        for key, value in event.items():
            name = key.removeprefix("ema_")
            source = kind if name == key else "ema"
            known = name in FIGURES or (name in PANELS and source == "train")
            if known and isinstance(value, float) and math.isfinite(value):
                series.setdefault(name, {}).setdefault(source, []).append((event["step"], value))
    if "loss" not in series:
        raise UserError(f"{metrics_file}: holds no loss")
    return series, warned


def _entropies(metrics_file: Path) -> dict[str, Points]:
    """Read (step, entropy) of each head, such as `cross.1.0`, where the run has `eval.look`."""
    heads: dict[str, Points] = {}
    for event in files.read_events(metrics_file):
        if event.get("event") == "look" and isinstance(event.get("step"), int):
            for name, value in event.items():
                if name.partition(".")[0] in ATTENTIONS and isinstance(value, float) and math.isfinite(value):
                    heads.setdefault(name, []).append((event["step"], value))
    return heads


def _heads(axes: Axes, heads: dict[str, Points]) -> None:
    """Draw the entropy of each head: 1 looks at all that it may see alike, 0 at one token."""
    named = set()
    for name, points in sorted(heads.items()):
        kind = name.partition(".")[0]
        label = {"cross": "cross-attention"}.get(kind, f"self-attention of the {kind}") if kind not in named else None
        named.add(kind)
        axes.plot(
            *zip(*points, strict=True), color=ATTENTIONS[kind], linewidth=1, marker="o", markersize=2, label=label
        )
    axes.set_ylabel(textwrap.fill("entropy of each head over ln n", 22))
    axes.set_ylim(-0.03, 1.03)
    axes.legend(frameon=False, fontsize=7, loc="best", ncols=len(named))


def _training(run_dir: Path) -> str:
    """Name the curve of training, with what makes training harder: it lies above the others where nothing is wrong."""
    config = _config(run_dir)
    rates = ("dropout", "attention_dropout", "activation_dropout")
    harder = ["dropout"] * any(config.get(name) for name in rates)
    harder += ["label smoothing"] * bool(config.get("label_smoothing"))
    return f"training (with {', '.join(harder)})" if harder else "training"


def _config(run_dir: Path) -> dict[str, Any]:
    """Return a run's newest config.json; of what is no folder of a run, nothing is known."""
    folders = [*sorted((run_dir / files.CHECKPOINTS).glob("step-*")), run_dir / files.FINAL, run_dir]
    known = [folder / files.CONFIG for folder in folders if (folder / files.CONFIG).is_file()]
    try:
        config = files.read_json(known[-1]) if known else {}
    except UserError:  # a picture of what was measured needs no more than metrics.jsonl
        config = {}
    return config if isinstance(config, dict) else {}


def _curves(axes: Axes, curves: dict[str, Points], names: dict[str, str]) -> None:
    for name, points in curves.items():
        dots = name != "train" or len(points) < 30
        axes.plot(
            *zip(*points, strict=True),
            label=names.get(name, name),
            color=COLOURS.get(name),
            linewidth=1.2 if name == "train" else 1.6,
            marker="o" if dots else None,
            markersize=3,
            zorder=2 if name == "train" else 3,
        )


def _of_training(axes: Axes, name: str, points: Points) -> None:
    """Draw the learning rate, from zero, or the gradient norm."""
    axes.plot(*zip(*points, strict=True), color="0.35", linewidth=1.2)
    if name == "grad_norm":
        _logarithmic(axes, [value for _, value in points])
    else:
        axes.set_ylim(bottom=0.0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)


def _finish_losses(axes: Axes, curves: dict[str, Points], warned: list[tuple[int, str]]) -> None:
    """Give the losses their scale and legend, and a mark at each step that the watchdog warned of."""
    _logarithmic(axes, [value for points in curves.values() for _, value in points])
    for number, step in enumerate(sorted({step for step, _ in warned})):
        kinds = sorted({kind.replace("_", " ") for at, kind in warned if at == step})
        axes.axvline(step, color="tab:red", alpha=0.35, linewidth=1, label="warning" if number == 0 else None)
        if number < SHOWN_WARNINGS:
            style: dict[str, Any] = {
                "transform": axes.get_xaxis_transform(),
                "fontsize": 7,
                "rotation": 90,
                "color": "0.4",
            }
            axes.text(step, 0.01, f"{', '.join(kinds)} ", ha="right", **style)
    # Above the panel: a validation loss that rises again leaves no corner free.
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _logarithmic(axes: Axes, values: list[float]) -> None:
    """Use a logarithmic scale where the values span more than a factor of five, with plain numbers on it."""
    if min(values) <= 0 or max(values) < 5 * min(values):
        return
    axes.set_yscale("log")
    wide = max(values) > 100 * min(values)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
