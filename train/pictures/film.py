"""How alignment appears: the maps of one example, an evaluation a column and a head a row (`eval.look`)."""

from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from modeling_vanilla.look import fonts
from modeling_vanilla.look.figure import AXES, ticks
from train import files
from train.errors import UserError
from train.pictures import png

MOST_FRAMES, MOST_HEADS = 10, 8
MOST_SIDE = 3.0
"""Side of a map at most, in inches."""
IS = {"written": "is written", "read": "is read", "looks": "looks", "is looked at": "is looked at"}


def of_run(run_dir: str | Path) -> Path:
    """Draw the film of a run folder into its `film.png`.

    Raises:
        UserError: the folder has no maps, or one that cannot be read.
    """
    paths = sorted((Path(run_dir) / files.MAPS).glob("step-*.json"))
    if not paths:
        raise UserError(f"{run_dir}: has no maps; a run with eval.look: true makes one at each evaluation")
    chosen = [paths[number] for number in frames(len(paths))]
    return draw([(int(path.stem.removeprefix("step-")), _map(path)) for path in chosen], Path(run_dir) / files.FILM)


def frames(count: int) -> list[int]:
    """Return which of so many maps are shown: all, or `MOST_FRAMES` evenly, the first and the last among them."""
    if count <= MOST_FRAMES:
        return list(range(count))
    return [round(number * (count - 1) / (MOST_FRAMES - 1)) for number in range(MOST_FRAMES)]


def _map(path: Path) -> dict[str, Any]:
    """Read the map of a view."""
    view = files.read_json(path)
    try:
        seen = view["maps"][0]
        seen["weights"] = torch.tensor(seen["weights"])[0]  # (H, T, S)
        if seen["weights"].dim() != 3 or len(seen["heads"]) != len(seen["weights"]):
            raise ValueError
    except (KeyError, IndexError, TypeError, ValueError):
        raise UserError(f"{path}: must be a view, as eval.look writes it") from None
    return seen


def draw(film: list[tuple[int, dict[str, Any]]], output: Path) -> Path:
    """Draw maps of the same example side by side.

    Args:
        film: (step, map) in order; a map has kind, layers, heads, rows, columns and weights (H, T, S).
        output: the PNG to write.
    """
    first = film[-1][1]
    heads = first["heads"][:MOST_HEADS]
    rows, columns = first["weights"].shape[1:]
    cell = min(0.15, MOST_SIDE / max(rows, columns))  # inches: a small letter fits into one
    with fonts.chosen():
        size = (cell * columns + 0.15) * len(film) + 1.4, (cell * rows + 0.15) * len(heads) + 1.5
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(heads), len(film), squeeze=False)
        for column, (step, seen) in enumerate(film):
            for row, head in enumerate(heads):
                axes = grid[row, column]
                axes.imshow(seen["weights"][row].numpy(), cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
                axes.set_xticks([])
                axes.set_yticks([])
                if row == 0:
                    axes.set_title(f"step {step:,}", fontsize=9)
                if column == 0:
                    axes.set_ylabel(f"head {head}", fontsize=9)
        for axes in grid[:, -1]:
            _name(axes, "rows", first)
        for axes in grid[-1]:
            _name(axes, "columns", first)
        written, read = AXES[first["kind"]]
        place = f"{first['kind']}, layer {first['layers'][0]}"
        figure.suptitle(f"{place}: a row is a token that {IS[written]}, a column one that {IS[read]}", fontsize=10)
        return png.save(figure, output)


def _name(axes: Axes, side: str, seen: dict[str, Any]) -> None:
    """Write the tokens beside a map, to its right, or below it."""
    cells = seen["weights"].shape[1 if side == "rows" else 2]
    places, shown = ticks(seen[side], cells)
    labels = [fonts.label(name) for name in shown]
    if side == "rows":
        axes.yaxis.tick_right()
        axes.set_yticks(places, labels, fontsize=7)
    else:
        axes.set_xticks(places, labels, fontsize=7)
        for tick in axes.get_xticklabels():
            tick.set_rotation(0 if len(tick.get_text()) <= 2 else 90)
    axes.tick_params(length=0, pad=1)
