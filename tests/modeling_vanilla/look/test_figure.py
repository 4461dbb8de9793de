# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Pictures: the right numbers in the right places, by matplotlib and by hand, and letters instead of boxes."""

import base64
import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
import torch
from small_models import view_of

from modeling_vanilla.look import figure, fonts, svg

SOURCE, TARGET = [*"20 Mai, 2026", "</s>"], [*"2026년 5월", "</s>"]
HOSTILE = ["</text><script>alert(1)</script>", "<img onerror=1>", "a\u202eb", "&amp;", "\x00\x1b[2J", "가"]


def random_weights(*shape: int) -> torch.Tensor:
    return torch.softmax(torch.randn(*shape, generator=torch.Generator().manual_seed(0)), -1)


def drawn(view):
    """Return the figure of a view, laid out."""
    with fonts.chosen():
        made = figure.drawn(view)
        made.canvas.draw()
    return made


def test_a_panel_per_head_and_their_mean(tmp_path):
    weights = random_weights(1, 3, len(TARGET), len(SOURCE))
    view = view_of(TARGET, SOURCE, weights)
    panels = [axes for axes in drawn(view).axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in panels] == ["head 0", "head 1", "head 2", "mean of the heads"]
    for axes, expected in zip(panels, [*weights[0], weights[0].mean(0)], strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
        assert [label.get_text() for label in axes.get_xticklabels()] == [fonts.label(piece) for piece in SOURCE]
        assert [label.get_text() for label in axes.get_yticklabels()] == [fonts.label(piece) for piece in TARGET]
        low, high = axes.get_ylim()
        assert low > high, "the first token written must stand on top"
    figure.draw(view, tmp_path / "a.png")
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert min(picture.shape[:2]) > 600
    assert picture[..., :3].std() > 0.02


def test_panels_name_their_layer_and_kind():
    view = view_of(TARGET, SOURCE, random_weights(2, 1, len(TARGET), len(SOURCE)))
    assert [panel.name for panel in figure.panels(view)] == ["layer 0, head 0", "layer 1, head 0"]
    view.maps += view_of(SOURCE, SOURCE, random_weights(1, 2, len(SOURCE), len(SOURCE)), "encoder").maps
    names = [panel.name for panel in figure.panels(view)]
    assert names[1:4] == ["cross layer 1, head 0", "encoder layer 0, head 0", "encoder layer 0, head 1"]


def test_the_darkest_colour_shows_weak_models_and_no_even_head_as_dark():
    """A tenth of the rows may exceed it, as the first rows of a decoder do; an even head stays light."""
    sharp, even = torch.eye(20), torch.full((20, 20), 0.05)
    weak = torch.full((20, 20), 0.0344).fill_diagonal_(0.3456)
    weak[0] = torch.eye(20)[0]
    for weights, expected in ((sharp, 1.0), (even, 0.2), (weak, 0.35)):
        view = view_of([*"abcdefghijklmnopqrst"], [*"abcdefghijklmnopqrst"], weights[None, None])
        assert figure.scale(figure.panels(view)) == pytest.approx(expected)
    image = drawn(view).axes[0].images[0]
    assert image.get_clim() == (0.0, pytest.approx(0.35))


def test_what_a_mask_hides_is_grey(tmp_path):
    view = view_of([*"abc"], [*"abc"], torch.eye(3)[None, None], "decoder")
    view.maps[0].hidden = torch.ones(3, 3).triu(1).bool()
    (image,) = drawn(view).axes[0].images
    assert np.array_equal(image.get_array().mask, view.maps[0].hidden)
    svg.draw(view, tmp_path / "a.svg")
    (colours,) = pixels(tmp_path / "a.svg")
    grey = np.isclose(colours[..., :3], 0xE5 / 255, atol=1e-3).all(-1)
    assert np.array_equal(grey, view.maps[0].hidden)
    assert "Grey is what a mask hides." in (tmp_path / "a.svg").read_text()


def pixels(path) -> list[np.ndarray]:
    """Return the maps of an SVG, each (t, s, 4)."""
    images = re.findall(r"data:image/png;base64,([^\"]+)", path.read_text())
    return [matplotlib.image.imread(io.BytesIO(base64.b64decode(image)), format="png") for image in images]


def test_long_labels_leave_room_for_the_cells():
    words = ["▁orangefarbenen", "▁etwas", "</s>"]
    made = drawn(view_of(words * 3, words * 4, torch.full((1, 2, 9, 12), 1 / 12)))
    for axes in made.axes[:3]:
        box = axes.get_window_extent()
        assert box.width / 12 > 0.15 * made.dpi and box.height / 9 > 0.15 * made.dpi


def test_long_texts_have_labels_that_can_be_read():
    names = [f"t{number}" for number in range(1024)]
    view = view_of(names, names, random_weights(1, 1, 256, 256))
    axes = drawn(view).axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) <= figure.MOST_LABELS
    for place, label in zip(axes.get_yticks(), labels, strict=True):
        assert label == f"t{int(place * 4)}"  # a cell is four tokens


def test_too_many_panels_are_refused(tmp_path):
    view = view_of(["a"], ["b"], torch.ones(9, 8, 1, 1))
    for draw in (figure.draw, svg.draw):
        with pytest.raises(ValueError, match="81 panels; a picture has 64 at most: choose layers, heads or a kind"):
            draw(view, tmp_path / "a.png")


def test_no_letter_is_drawn_as_a_box(tmp_path):
    view = view_of(["가", "ß", "\U0001fae8"], ["나", "\t"], random_weights(1, 2, 3, 2), text="가 \U0001fae8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of a glyph that no font has
        figure.draw(view, tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_svg_holds_the_labels_and_the_weights(tmp_path):
    weights = random_weights(1, 2, len(TARGET), len(SOURCE))
    view = view_of(TARGET, SOURCE, weights, text="20 Mai", target="2026")
    svg.draw(view, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    root = ElementTree.fromstring(text)
    groups = root.findall("{*}g")
    assert len(groups) == 3
    for group in groups:
        labels = [element.text for element in group.findall(".//{*}text")]
        for piece in (*TARGET, *SOURCE):
            assert fonts.visible(piece) in labels
    darkest = figure.scale(figure.panels(view))
    for colours, expected in zip(pixels(tmp_path / "a.svg"), [*weights[0], weights[0].mean(0)], strict=True):
        palette = matplotlib.colormaps["Blues"]((expected / darkest).numpy())
        np.testing.assert_allclose(colours[..., :3], palette[..., :3], atol=0.02)


def test_svg_escapes_the_tokens_of_strangers(tmp_path):
    view = view_of(HOSTILE, HOSTILE, random_weights(1, 1, 6, 6), text=HOSTILE[0], target="<b>\x00")
    svg.draw(view, tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    root = ElementTree.fromstring(text)  # it is well-formed
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg",
        "style",
        "rect",
        "text",
        "g",
        "image",
    }
    assert not {"\u202e", "\x00", "\x1b"} & set(text)
    assert HOSTILE[0] in [element.text for element in root.findall(".//{*}text")]
