"""Pictures of two coloured shapes, made with Pillow, and what is on them in English and in Korean.

"a small red circle left of a large blue square" is "큰 파란 사각형 왼쪽에 있는 작은 빨간 원": the order turns around.
Dimension letters: P pixels of a side.
"""

from dataclasses import dataclass
from hashlib import sha256
from math import cos, pi, sin
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

PIXELS = 32
LANGUAGES = ("en", "ko")
COLOURS = {
    "red": ("빨간", (214, 39, 40)),
    "orange": ("주황", (255, 140, 20)),
    "yellow": ("노란", (245, 220, 40)),
    "green": ("초록", (44, 150, 60)),
    "blue": ("파란", (35, 90, 200)),
    "purple": ("보라", (140, 60, 170)),
}
KINDS = {"circle": "원", "square": "사각형", "triangle": "삼각형", "star": "별"}
SIZES = {"small": ("작은", (3.5, 4.5)), "large": ("큰", (6.0, 7.2))}
"""Name in Korean, and the radius in pixels."""
RELATIONS = {
    "left of": ("왼쪽에", (-1, 0)),
    "right of": ("오른쪽에", (1, 0)),
    "above": ("위에", (0, -1)),
    "below": ("아래에", (0, 1)),
}
OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
CORNERS = {"circle": (32, 1.0), "square": (4, 1.15), "triangle": (3, 1.2), "star": (10, 1.2)}
"""How many corners, and how much farther than the radius they lie, so that all shapes look about as large."""
SCALE = 4
"""Shapes are drawn so many times as large, and made small again: their edges are smooth."""


@dataclass(frozen=True)
class Shape:
    """One shape: the keys of its three words, and its centre and radius in pixels."""

    size: str
    colour: str
    kind: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """Two shapes; the first is said to be in a relation to the second.

    The smaller one comes first, of two of one size the left or upper one: each picture has one right caption.
    """

    first: Shape
    relation: str
    second: Shape

    def caption(self, language: str) -> str:
        """Write what is on the picture."""
        if language == "en":
            one, other = (f"a {shape.size} {shape.colour} {shape.kind}" for shape in (self.first, self.second))
            return f"{one} {self.relation} {other}"
        one, other = (
            f"{SIZES[shape.size][0]} {COLOURS[shape.colour][0]} {KINDS[shape.kind]}"
            for shape in (self.first, self.second)
        )
        return f"{other} {RELATIONS[self.relation][0]} 있는 {one}"

    def named(self, language: str) -> list[int | None]:
        """Return for each word of the caption the shape that it describes: 0 the first, 1 the second, None neither."""
        order = (0, 1) if language == "en" else (1, 0)
        one, other = ([number] * 3 for number in order)
        between = [None] * len(self.caption(language).split())
        if language == "en":
            one, other = [None, *one], [None, *other]
        return [*one, *between[len(one) + len(other) :], *other]

    def triples(self) -> list[tuple[str, str, str]]:
        """Return what is seen of colour, shape and relation, from both sides: A left of B is B right of A."""
        return [
            (self.first.colour, self.first.kind, self.relation),
            (self.second.colour, self.second.kind, OPPOSITE[self.relation]),
        ]


def is_held_out(triple: tuple[str, str, str]) -> bool:
    """Tell whether a colour, a shape and a relation never stand together in training: an eighth of them, by their hash."""
    return sha256(" ".join(triple).encode()).digest()[0] % 8 == 0


def scenes(size: int, held_out: bool, seed: int) -> list[Scene]:
    """Draw scenes: without any held-out triple, or with one at the first shape."""
    random = np.random.default_rng([seed, held_out])
    made: list[Scene] = []
    while len(made) < size:
        scene = _scene(random)
        first, second = map(is_held_out, scene.triples())
        if first if held_out else not (first or second):
            made.append(scene)
    return made


def _scene(random: np.random.Generator) -> Scene:
    """Place two shapes, which may overlap: their centres are apart in one direction, and nearly level in the other."""
    names = [[_any(table, random) for table in (SIZES, COLOURS, KINDS)] for _ in range(2)]
    names.sort(key=lambda words: words[0], reverse=True)  # small before large
    equal = names[0][0] == names[1][0]
    relation = _any({"left of": 0, "above": 0} if equal else RELATIONS, random)
    radii = [random.uniform(*SIZES[size][1]) for size, _, _ in names]
    reaches = [radius * CORNERS[kind][1] for radius, (_, _, kind) in zip(radii, names, strict=True)]
    apart, aside = random.uniform(max(8, 0.75 * sum(radii)), min(17, PIXELS - sum(reaches))), random.uniform(-5, 5)
    across, down = RELATIONS[relation][1]
    offset = np.array([across * apart + down * aside, down * apart + across * aside])
    low = np.maximum(reaches[1], reaches[0] - offset)
    high = PIXELS - np.maximum(reaches[1], reaches[0] + offset)
    second = random.uniform(low, high)
    centres = (second + offset, second)
    one, other = (
        Shape(size, colour, kind, float(centre[0]), float(centre[1]), float(radius))
        for (size, colour, kind), centre, radius in zip(names, centres, radii, strict=True)
    )
    return Scene(one, relation, other)


def _any(table: dict[str, Any], random: np.random.Generator) -> str:
    return [*table][random.integers(len(table))]


def picture(scene: Scene, seed: int) -> Image.Image:
    """Draw a scene with noise: other shades, other edges, another ground for each seed."""
    random = np.random.default_rng(seed)
    ground = random.uniform(190, 255) + random.uniform(-8, 8, 3)
    image = Image.new("RGB", (PIXELS * SCALE,) * 2, _shade(ground))
    for number in random.permutation(2):
        shape = (scene.first, scene.second)[number]
        shade = np.array(COLOURS[shape.colour][1]) + random.uniform(-18, 18, 3)
        ImageDraw.Draw(image).polygon(_outline(shape), fill=_shade(shade))
    image = image.filter(ImageFilter.GaussianBlur(random.uniform(0, 1.5))).resize((PIXELS,) * 2, Image.Resampling.BOX)
    noisy = np.asarray(image, dtype=np.float32) + random.normal(0, random.uniform(2, 12), (PIXELS, PIXELS, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def mask(shape: Shape) -> np.ndarray:
    """Return where a shape is, (P, P): the share of each pixel that it covers, whatever lies above it."""
    image = Image.new("L", (PIXELS * SCALE,) * 2)
    ImageDraw.Draw(image).polygon(_outline(shape), fill=255)
    return np.asarray(image.resize((PIXELS,) * 2, Image.Resampling.BOX), dtype=np.float32) / 255


def _shade(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(int(part) for part in colour.clip(0, 255))


def _outline(shape: Shape) -> list[tuple[float, float]]:
    """Return the corners of a shape, at the size at which it is drawn."""
    corners, stretch = CORNERS[shape.kind]
    points = []
    for corner in range(corners):
        angle = 2 * pi * (corner + (shape.kind == "square") / 2) / corners
        radius = shape.radius * stretch * (0.45 if shape.kind == "star" and corner % 2 else 1)
        points.append((SCALE * (shape.x + radius * sin(angle)), SCALE * (shape.y - radius * cos(angle))))
    return points
