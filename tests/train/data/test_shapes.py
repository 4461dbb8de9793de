"""Pictures of two shapes: what the caption says is there, and the test has triples that training lacks."""

import numpy as np
import pytest

from train.data import shapes
from train.data.shapes import COLOURS, KINDS, OPPOSITE, PIXELS, RELATIONS, SIZES, is_held_out, mask, picture, scenes

SCENES = scenes(60, held_out=False, seed=3)
HELD_OUT = scenes(40, held_out=True, seed=3)


def test_a_caption_says_where_the_shapes_are():
    for scene in SCENES + HELD_OUT:
        offset = np.array([scene.first.x - scene.second.x, scene.first.y - scene.second.y])
        along = np.array(RELATIONS[scene.relation][1])
        assert offset @ along >= 8, scene
        assert abs(offset @ along[::-1]) <= 5, "nearly level"
        sizes = [scene.first.size, scene.second.size]
        assert sizes != ["large", "small"], "the smaller one comes first"
        assert sizes[0] != sizes[1] or scene.relation in ("left of", "above"), "of equals the left or upper one"


def test_both_languages_name_the_same_words():
    for scene in SCENES[:20]:
        first, second = scene.first, scene.second
        english, korean = (scene.caption(language).split() for language in ("en", "ko"))
        names = [(one.size, one.colour, one.kind) for one in (first, second)]
        for number, (size, colour, kind) in enumerate(names):
            of_english = [word for word, shape in zip(english, scene.named("en"), strict=True) if shape == number]
            of_korean = [word for word, shape in zip(korean, scene.named("ko"), strict=True) if shape == number]
            assert of_english == [size, colour, kind]
            assert of_korean == [SIZES[size][0], COLOURS[colour][0], KINDS[kind]]
        assert scene.relation in " ".join(english)
        assert RELATIONS[scene.relation][0] in korean
    assert "small red circle left of" in " ".join(scene.caption("en") for scene in scenes(3000, False, 0))


def test_training_lacks_the_triples_of_the_test():
    """A left of B is B right of A: neither side of a training picture shows one."""
    seen = {triple for scene in scenes(2000, held_out=False, seed=0) for triple in scene.triples()}
    assert not any(map(is_held_out, seen))
    assert all(is_held_out(scene.triples()[0]) for scene in HELD_OUT)
    every = {(colour, kind, relation) for colour in COLOURS for kind in KINDS for relation in RELATIONS}
    assert seen == {triple for triple in every if not is_held_out(triple)}, "all others are learnt"
    assert 0.05 < sum(map(is_held_out, every)) / len(every) < 0.25
    for number, words in enumerate((COLOURS, KINDS, OPPOSITE)):
        assert {triple[number] for triple in seen} == {*words}, "each word alone is known"


def test_a_shape_has_its_colour():
    """The mean of the pixels that a shape covers and the other does not is nearest to the colour of its name."""
    for number, scene in enumerate(SCENES):
        pixels = np.asarray(picture(scene, number), dtype=float)
        masks = [mask(scene.first), mask(scene.second)]
        for shape, covered, other in zip((scene.first, scene.second), masks, masks[::-1], strict=True):
            mean = pixels[(covered > 0.9) & (other < 0.1)].mean(0)
            nearest = min(COLOURS, key=lambda name: np.linalg.norm(mean - COLOURS[name][1]))
            assert nearest == shape.colour


def test_a_shape_lies_within_the_picture():
    for scene in SCENES:
        for shape in (scene.first, scene.second):
            corners = np.array(shapes._outline(shape)) / shapes.SCALE
            x, y = corners.T
            area = abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1))) / 2  # the shoelace formula
            assert mask(shape).sum() == pytest.approx(area, rel=0.2)
            assert 0 <= corners.min()
            assert corners.max() <= PIXELS


def test_a_seed_is_a_picture():
    assert scenes(5, False, 7) == scenes(5, False, 7) != scenes(5, False, 8)
    images = [np.asarray(picture(SCENES[0], seed)) for seed in (1, 1, 2)]
    assert (images[0] == images[1]).all()
    assert not (images[0] == images[2]).all()
