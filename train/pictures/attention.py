"""Where a translation looks: cross-attention, head by head (Vaswani et al. 2017, figures 3-5).

Dimension letters: T target length, S source length, H heads.
"""

import logging
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy import ndarray
from transformers import PreTrainedTokenizerFast

from modeling_vanilla import VanillaConfig
from train.errors import UserError
from train.model import loading
from train.pictures import fonts

logger = logging.getLogger(__name__)

EXPLANATION = """Cross-attention: where the decoder looks.
Each row is a token that is written, from top to bottom;
each column is a token of the source.
The darker a cell, the more the decoder
looked there to write that token."""
LETTER = 0.085
"""Width of a letter of a label, in inches."""


def of_model(folder: str | Path, text: str, output: str | Path) -> Path:
    """Translate a text with the model of a run or model folder and draw where it looked.

    Raises:
        UserError: no model there, or one without cross-attention, or a text that is longer than the model reads.
    """
    fonts.require_png(output)
    run_dir, model_folder = loading.locate(Path(folder))
    variant = VanillaConfig.from_pretrained(model_folder).variant
    if variant != "encoder-decoder":
        rule = "only an encoder-decoder looks at a source; make space MODEL=FOLDER shows where this one looks"
        raise UserError(f"{model_folder}: variant {variant!r}; {rule}")
    model, tokenizer = loading.load(model_folder, "translation", run_dir)
    length = len(tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"])
    most = model.config.max_position_embeddings
    if length > most:
        raise UserError(f"TEXT: {length} tokens; the model reads at most {most} (max_position_embeddings)")
    return draw(model, tokenizer, text, Path(output))


def draw(model: Any, tokenizer: PreTrainedTokenizerFast, text: str, output: Path) -> Path:
    """Translate a text with an encoder-decoder and draw where it looked."""
    (source, target), weights = translated(model, tokenizer, text)
    if target and target[-1] != tokenizer.eos_token:
        reason = "the model has not learnt to end it, or the text is unlike those that it was trained on"
        logger.warning("the translation was stopped after %d tokens without an end: %s", len(target), reason)
    written = "".join(piece for piece in target if piece not in tokenizer.all_special_tokens)
    return panels(source, target, weights, output, title=f"{text}  →  {written.replace('▁', ' ').strip()}")


def translated(
    model: Any, tokenizer: PreTrainedTokenizerFast, text: str, layer: int = -1
) -> tuple[tuple[list[str], list[str]], torch.Tensor]:
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


def _pieces(tokenizer: Any, ids: list[int]) -> list[str]:
    """Return the text of each token; byte-level tokens are decoded, since their names are no text."""
    pieces = tokenizer.convert_ids_to_tokens(ids)
    if type(tokenizer.backend_tokenizer.decoder).__name__ != "ByteLevel":
        return pieces
    return [tokenizer.decode([number]) for number in ids]


def panels(
    source: Sequence[str], target: Sequence[str], weights: torch.Tensor, output: Path, title: str | None = None
) -> Path:
    """Draw cross-attention: one panel per head, then their mean.

    Args:
        source: S tokens, left to right.
        target: T tokens, top to bottom: the tokens that were written.
        weights: (H, T, S), each row of S summing to 1.
        output: the PNG file.
        title: what stands above the panels, broken into lines where it is long.

    Raises:
        ValueError: the shape of the weights does not fit the labels.
    """
    height, length = len(target), len(source)
    if weights.ndim != 3 or tuple(weights.shape[1:]) != (height, length):
        raise ValueError(f"weights: shape {tuple(weights.shape)}, must be (heads, {height}, {length})")
    heads = weights.detach().float().cpu().numpy()
    maps = [(f"head {number}", head) for number, head in enumerate(heads, start=1)]
    maps.append(("mean of the heads", heads.mean(0)))
    columns = min(2, len(maps))  # more would make the labels small where a page shows the picture
    rows = -(-len(maps) // columns)
    labels = [[fonts.label(piece) for piece in side] for side in (source, target)]
    # Inches. A cell must be wide enough for a letter, and a panel has its labels beside and (on end) below it.
    below, beside = (LETTER * max(map(len, side), default=0) for side in labels)
    width = max(0.2 * length + beside + 0.5, 3.0)
    size = columns * width + 1.2, rows * max(0.2 * height + below + 0.7, 2.5) + 0.9
    with fonts.chosen():
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (name, shares) in zip(grid.flat, maps, strict=False):
            image = _panel(axes, name, shares, *labels)
        for axes in grid[:, 0]:
            axes.set_ylabel("written")
        for axes in list(grid.flat)[len(maps) - columns : len(maps)]:
            axes.set_xlabel("read")
        for axes in list(grid.flat)[len(maps) :]:
            axes.set_axis_off()
            small = 11 if width > 4.2 else 9
            axes.text(0.5, 0.5, EXPLANATION, ha="center", va="center", fontsize=small, linespacing=1.6, color="0.25")
        figure.colorbar(image, ax=grid, shrink=0.5, aspect=40, label="attention weight")
        if title:
            figure.suptitle(textwrap.fill(fonts.title(title), width=int(7.5 * size[0])), fontsize=14)
        return fonts.save(figure, output)


def _panel(axes: Axes, name: str, weights: ndarray, source: list[str], target: list[str]) -> AxesImage:
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
