"""Pictures of a run: the course of its loss, and where a translation looks (Vaswani et al. 2017, figures 3-5).

Dimension letters: T target length, S source length, H heads.
"""

import functools
import importlib.util
import io
import logging
import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
import yaml
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from modeling_vanilla import VanillaConfig
from train import files
from train.errors import UserError
from train.model import loading
from train.tasks import FIGURES, in_words

logger = logging.getLogger(__name__)

# Families that hold Hangul, as the systems name them; tried in this order where they are installed.
HANGUL_FONTS = (
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "NanumGothic",
    "NanumBarunGothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "Malgun Gothic",
    "Source Han Sans KR",
    "UnDotum",
    "Baekmuk Dotum",
)
# A package of the index that carries NanumGothic (SIL Open Font License). Only its file is used: the package is never
# imported, because importing it changes matplotlib's settings and needs the `distutils` that Python 3.12 removed.
FONT_PACKAGE, FONT_FILE = "koreanize_matplotlib", "fonts/NanumGothic.ttf"
EXPLANATION = """Cross-attention: where the decoder looks.
Each row is a token that is written, from top to bottom;
each column is a token of the source.
The darker a cell, the more the decoder
looked there to write that token."""
CURVES = {
    "train": "training",
    "eval": "validation",
    "ema": "validation, moving average of the weights",
}
COLOURS = {"train": "tab:blue", "eval": "tab:orange", "ema": "tab:green"}
PANELS = {"lr": "learning rate", "grad_norm": "gradient norm"}
SHOWN_WARNINGS = 8
LETTER = 0.085
"""Width of a letter of a label, in inches."""
# Characters that leave no mark, by signs that do.
VISIBLE = {" ": "␣", "\n": "⏎", "\t": "⇥", "\u00a0": "⍽", "": "∅"}


@functools.cache
def font_families() -> tuple[str, ...]:
    """Return the families to draw with: matplotlib's own, then one that holds Hangul where there is one.

    matplotlib takes each character from the first family that has it.
    """
    installed = {entry.name for entry in font_manager.fontManager.ttflist}
    found = next((name for name in HANGUL_FONTS if name in installed), None)
    if found is None and (path := _packaged_font()) is not None:
        font_manager.fontManager.addfont(path)
        found = font_manager.FontProperties(fname=path).get_name()
    return ("DejaVu Sans", found) if found else ("DejaVu Sans",)


def _packaged_font() -> Path | None:
    """Return the font file of `FONT_PACKAGE` without importing the package; None where it is not installed."""
    spec = importlib.util.find_spec(FONT_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    paths = [Path(folder) / FONT_FILE for folder in folders]
    return next((path for path in paths if path.is_file()), None)


@functools.cache
def _characters() -> frozenset[int]:
    """Return every code point that one of `font_families` can draw."""
    paths = [font_manager.findfont(family, fallback_to_default=False) for family in font_families()]
    return frozenset(point for path in paths for point in FT2Font(path).get_charmap())


def readable(piece: str) -> str:
    """Return a label that can be read: blanks made visible, what no font can draw written as its code point."""
    piece = VISIBLE.get(piece, piece)
    shown = (VISIBLE.get(letter, letter) for letter in piece)
    return "".join(letter if ord(letter) in _characters() else f"U+{ord(letter):04X}" for letter in shown)


def label(piece: str) -> str:
    """Return a token as a label; the mark of a word's start, which looks like a line below it, is left out."""
    return readable(piece.removeprefix("▁") or " ")


def loss_curve(metrics_file, output, title: str | None = None) -> Path:
    """Draw a metrics.jsonl over the steps: the losses, each other figure of the evaluations, learning rate and gradient norm.

    The unit of the loss is that of the task of the recipe.yaml beside it.

    Raises:
        UserError: the file is missing or holds no loss.
    """
    metrics_file, output = Path(metrics_file), Path(output)
    series, warned = _series(metrics_file)
    names = [name for name in (*FIGURES, *PANELS) if name in series]
    heights = [3.6, *[1.8] * (len(names) - 1)]  # inches
    with matplotlib.rc_context({"font.family": list(font_families()), "axes.unicode_minus": False}):
        figure = Figure(figsize=(7.5, max(sum(heights), 4.2)), layout="constrained")
        panels = figure.subplots(len(names), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for panel, name in zip(panels, names, strict=True):
            words = PANELS.get(name) or in_words(name, _task(metrics_file.parent))
            panel.set_ylabel(words if name == "loss" else textwrap.fill(words, 22))
            if name in PANELS:
                _of_training(panel, name, series[name]["train"])
            else:
                _curves(panel, series[name], CURVES | {"train": _training(metrics_file.parent)})
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
        _finish_losses(panels[0], series["loss"], warned)
        panels[-1].set_xlabel("step")
        panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        name = title or metrics_file.resolve().parent.name
        figure.align_ylabels(panels)
        figure.suptitle("".join(readable(letter) if letter != " " else " " for letter in name), fontsize=12)
        return _save(figure, output)


def _task(run_dir: Path) -> str | None:
    """Return the task of a run; None where no recipe tells it."""
    try:
        recipe = yaml.safe_load((run_dir / files.RECIPE).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None
    return str(recipe.get("task")) if isinstance(recipe, dict) else None


def _series(metrics_file: Path) -> tuple[dict[str, dict[str, list]], list[tuple[int, str]]]:
    """Read (step, value) by figure and then by its source (train, eval, ema), and (step, kind) of the warnings."""
    if not metrics_file.is_file():
        raise UserError(f"{metrics_file}: no such file")
    series: dict[str, dict[str, list]] = {}
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


def _training(run_dir: Path) -> str:
    """Name the curve of training, with what makes training harder: it lies above the others where nothing is wrong.

    The settings are those of the run's newest config.json; of what is no folder of a run, nothing is known.
    """
    paths = [
        *sorted((run_dir / files.CHECKPOINTS).glob(f"step-*/{files.CONFIG}")),
        run_dir / files.FINAL / files.CONFIG,
    ]
    known = [path for path in paths if path.is_file()]
    try:
        config = files.read_json(known[-1]) if known else {}
    except UserError:  # a picture of what was measured needs no more than metrics.jsonl
        config = {}
    config = config if isinstance(config, dict) else {}
    rates = ("dropout", "attention_dropout", "activation_dropout")
    harder = ["dropout"] * any(config.get(name) for name in rates)
    harder += ["label smoothing"] * bool(config.get("label_smoothing"))
    return f"training (with {', '.join(harder)})" if harder else "training"


def _curves(axes, curves: dict[str, list], names: dict[str, str]) -> None:
    """Draw one line for each source of a figure."""
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


def _of_training(axes, name: str, points: list) -> None:
    """Draw the learning rate, from zero, or the gradient norm."""
    axes.plot(*zip(*points, strict=True), color="0.35", linewidth=1.2)
    if name == "grad_norm":
        _logarithmic(axes, [value for _, value in points])
    else:
        axes.set_ylim(bottom=0.0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)


def _finish_losses(axes, curves: dict[str, list], warned: list[tuple[int, str]]) -> None:
    """Give the losses their scale and legend, and a mark at each step that the watchdog warned of."""
    _logarithmic(axes, [value for points in curves.values() for _, value in points])
    for number, step in enumerate(sorted({step for step, _ in warned})):
        kinds = sorted({kind.replace("_", " ") for at, kind in warned if at == step})
        axes.axvline(step, color="tab:red", alpha=0.35, linewidth=1, label="warning" if number == 0 else None)
        if number < SHOWN_WARNINGS:
            top = axes.get_xaxis_transform()
            axes.text(
                step, 0.01, f"{', '.join(kinds)} ", transform=top, ha="right", fontsize=7, rotation=90, color="0.4"
            )
    # Above the panel: a validation loss that rises again leaves no corner free.
    axes.legend(frameon=False, fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _logarithmic(axes, values: list[float]) -> None:
    """Use a logarithmic scale where the values span more than a factor of five, with plain numbers on it."""
    if min(values) <= 0 or max(values) < 5 * min(values):
        return
    axes.set_yscale("log")
    wide = max(values) > 100 * min(values)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _require_png(output) -> None:
    """Refuse a name that promises another kind of picture.

    Raises:
        UserError: it does not end in .png.
    """
    if Path(output).suffix.lower() != ".png":
        raise UserError(f"--output: {output}: must end in .png, the only kind of picture that is written")


def curves_of(run_dir, output=None) -> Path:
    """Draw the curves of a run folder into its `curves.png`, or into another file.

    Raises:
        UserError: the folder is no run, or has no loss yet.
    """
    files.refuse_missing(run_dir)
    metrics_file = Path(run_dir) / files.METRICS
    if not metrics_file.is_file():
        raise UserError(f"{run_dir}: not the folder of a run, it has no metrics.jsonl")
    _require_png(output or files.CURVES)
    return loss_curve(metrics_file, Path(output) if output else Path(run_dir) / files.CURVES)


def attention_figure(
    tokens_source: Sequence[str], tokens_target: Sequence[str], weights, output, title: str | None = None
) -> Path:
    """Draw cross-attention: one panel per head, then their mean.

    Args:
        tokens_source: S labels, left to right.
        tokens_target: T labels, top to bottom: the tokens that were written.
        weights: (H, T, S), each row of S summing to 1.
        output: the PNG file.
        title: what stands above the panels, broken into lines where it is long.

    Raises:
        ValueError: the shape of the weights does not fit the labels.
    """
    weights = torch.as_tensor(weights).detach().float().cpu().numpy()
    expected = (len(tokens_target), len(tokens_source))
    if weights.ndim != 3 or tuple(weights.shape[1:]) != expected:
        raise ValueError(f"weights: shape {tuple(weights.shape)}, must be (heads, {expected[0]}, {expected[1]})")
    panels = [(f"head {number}", head) for number, head in enumerate(weights, start=1)]
    panels.append(("mean of the heads", weights.mean(0)))
    columns = min(2, len(panels))  # more would make the labels small where a page shows the picture
    rows = -(-len(panels) // columns)
    labels = [label(piece) for piece in tokens_source], [label(piece) for piece in tokens_target]
    # Inches. A cell must be wide enough for a letter, and a panel has its labels beside and (on end) below it.
    below, beside = (LETTER * max(map(len, side), default=0) for side in labels)
    width = max(0.2 * expected[1] + beside + 0.5, 3.0)
    size = columns * width + 1.2, rows * max(0.2 * expected[0] + below + 0.7, 2.5) + 0.9
    with matplotlib.rc_context({"font.family": list(font_families()), "axes.unicode_minus": False}):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (name, panel) in zip(grid.flat, panels, strict=False):
            image = _panel(axes, name, panel, *labels)
        for axes in grid[:, 0]:
            axes.set_ylabel("written")
        for axes in list(grid.flat)[len(panels) - columns : len(panels)]:
            axes.set_xlabel("read")
        for axes in list(grid.flat)[len(panels) :]:
            axes.set_axis_off()
            small = 11 if width > 4.2 else 9
            axes.text(0.5, 0.5, EXPLANATION, ha="center", va="center", fontsize=small, linespacing=1.6, color="0.25")
        figure.colorbar(image, ax=grid, shrink=0.5, aspect=40, label="attention weight")
        if title:
            shown = "".join(readable(letter) if letter != " " else " " for letter in title)
            figure.suptitle(textwrap.fill(shown, width=int(7.5 * size[0])), fontsize=14)
        return _save(figure, Path(output))


def _panel(axes, name: str, weights, source: list[str], target: list[str]):
    """Draw one map with its labels."""
    image = axes.imshow(weights, cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal", interpolation="nearest")
    axes.set_title(name, fontsize=11, fontweight="normal")
    axes.set_xticks(range(len(source)), source, fontsize=9)
    for tick in axes.get_xticklabels():  # a label that is wider than its cell stands on end
        tick.set_rotation(0 if len(tick.get_text()) <= 2 else 90)
    axes.set_yticks(range(len(target)), target, fontsize=9)
    axes.tick_params(length=0, pad=2)
    # Faint lines between the cells lead the eye from a cell to its two labels.
    axes.set_xticks([at - 0.5 for at in range(1, len(source))], minor=True)
    axes.set_yticks([at - 0.5 for at in range(1, len(target))], minor=True)
    axes.grid(which="minor", color="0.9", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    return image


def _save(figure: Figure, output: Path) -> Path:
    """Write a figure; a character that no font has would be a box, so it is an error here."""
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Glyph .* missing")
        figure.savefig(picture, dpi=130, format="png")
    output.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(output, picture.getvalue())
    return output


def attention(folder, text: str, output) -> Path:
    """Translate a text with the model of a run or model folder and draw where it looked.

    Raises:
        UserError: no model there, or one without cross-attention, or a text that is longer than the model reads.
    """
    _require_png(output)
    run_dir, model_folder = loading.locate(Path(folder))
    variant = VanillaConfig.from_pretrained(model_folder).variant
    if variant != "encoder-decoder":
        raise UserError(f"{model_folder}: variant {variant!r}; only an encoder-decoder looks at a source")
    model, tokenizer = loading.load(model_folder, "translation", run_dir)
    length, most = (
        len(tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]),
        model.config.max_position_embeddings,
    )
    if length > most:
        raise UserError(f"TEXT: {length} tokens; the model reads at most {most} (max_position_embeddings)")
    return draw_attention(model, tokenizer, text, output)


def draw_attention(model, tokenizer, text: str, output) -> Path:
    """Translate a text with an encoder-decoder and draw where it looked."""
    (source, target), weights = attention_for(model, tokenizer, text)
    if target and target[-1] != tokenizer.eos_token:
        logger.warning(
            "the translation was stopped after %d tokens without an end: the model has not learnt to end it, or the text is "
            "unlike those that it was trained on",
            len(target),
        )
    written = "".join(piece for piece in target if piece not in tokenizer.all_special_tokens)
    return attention_figure(source, target, weights, output, title=f"{text}  →  {written.replace('▁', ' ').strip()}")


def attention_for(model, tokenizer, text: str, layer: int = -1):
    """Translate a text and return where the model looked while it wrote.

    Args:
        model: an encoder-decoder.
        tokenizer: its tokenizer.
        text: what to translate.
        layer: decoder layer, the last one unless told.

    Returns:
        ((source labels, target labels), weights): S labels, T labels of the tokens that were written, and a tensor
        (H, T, S).
    """
    kernel, was_training = model.config._attn_implementation, model.training
    inputs = tokenizer(text, return_tensors="pt", split_special_tokens=True).to(model.device)
    inputs.pop("token_type_ids", None)
    model.eval()
    model.set_attn_implementation("eager")  # the other kernels never hold the weights
    try:
        with torch.inference_mode():
            written = model.generate(**inputs)  # (1, 1 + T): the start token, then what was written
            output = model(**inputs, decoder_input_ids=written[:, :-1], output_attentions=True)
    finally:
        model.set_attn_implementation(kernel)
        model.train(was_training)
    labels = [_pieces(tokenizer, ids) for ids in (inputs["input_ids"][0].tolist(), written[0, 1:].tolist())]
    # Row t of the decoder saw the tokens up to t and wrote token t + 1: the row is named after what it wrote.
    return (labels[0], labels[1]), output.cross_attentions[layer][0].clone()  # (H, T, S)


def _pieces(tokenizer, ids: list[int]) -> list[str]:
    """Return the text of each token; byte-level tokens are decoded, since their names are no text."""
    pieces = tokenizer.convert_ids_to_tokens(ids)
    if type(tokenizer.backend_tokenizer.decoder).__name__ != "ByteLevel":
        return pieces
    return [tokenizer.decode([number]) for number in ids]
