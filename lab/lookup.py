"""Attention as a soft dictionary: a query is compared with every key, and what comes back is a mean of the values.

Dimension letters: T queries, S keys, K width of queries and keys, W width of values.
"""

from argparse import Namespace
from statistics import mean

import torch
from matplotlib.figure import Figure

from lab.outcome import Outcome, Table
from lab.tagging import by_seed
from modeling_vanilla.attention import scaled_dot_product_attention

TITLE = "attention as a soft dictionary: present, equal, missing and changed keys"
SECONDS = 8

ENTRIES, WIDTH = 6, 4
SCALES = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
EQUAL = 8.0
"""The scale at which equal, missing and changed keys are looked at."""


def look_up(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return softmax(scale q K^T) V (T, W) and the weights (T, S), by this package's equation 1."""
    context, weights = scaled_dot_product_attention(
        torch.nn.Module(), query[None, None], keys[None, None], values[None, None], None, scale
    )
    return context[0, :, 0], weights[0, 0]


def present(seed: int, scale: float) -> tuple[float, float]:
    """Ask for each of one-hot keys: the weight of the right one, and the distance of the answer from dict[key]."""
    keys, values = torch.eye(ENTRIES, dtype=torch.float64), drawn(seed, ENTRIES, WIDTH)
    answers, weights = look_up(keys, keys, values, scale)
    return weights.diagonal().mean().item(), (answers - values).norm(dim=1).mean().item()


def questions(scale: float) -> dict[str, torch.Tensor]:
    """Return the weights (S,) of a key that is there once, one that is there twice, and one that is not there.

    The last unit vector of K = S + 1 is no key.
    """
    units = torch.eye(ENTRIES + 1, dtype=torch.float64)
    keys, twice = units[:ENTRIES], units[[0, 0, 2, 3, 4, 5]]
    values = torch.eye(ENTRIES, dtype=torch.float64)
    return {
        "there once": look_up(units[:1], keys, values, scale)[1][0],
        "there twice": look_up(units[:1], twice, values, scale)[1][0],
        "not there": look_up(units[-1:], keys, values, scale)[1][0],
    }


def changed(seed: int, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Change key 0 of random keys; return the weights (S,) before and after, and the factor of all but key 0.

    w_j = exp(s_j) / Z, so another w_j is multiplied by Z / Z' = 1 / (1 + w_0 (exp(s_0' - s_0) - 1)), whatever its key.
    """
    query, keys, values = drawn(seed, 1, WIDTH), drawn(seed + 1000, ENTRIES, WIDTH), drawn(seed, ENTRIES, WIDTH)
    other = keys.clone()
    other[0] = drawn(seed + 2000, 1, WIDTH)[0]
    before, after = (look_up(query, table, values, scale)[1][0] for table in (keys, other))
    moved = ((other[0] - keys[0]) @ query[0] * scale).exp()
    return before, after, (1 / (1 + before[0] * (moved - 1))).item()


def drawn(seed: int, *shape: int) -> torch.Tensor:
    """Return normal numbers in fp64."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def run(options: Namespace) -> Outcome:
    """Ask the dictionary; nothing is trained."""
    seeds = range(options.seeds)
    asked_for = {scale: [present(seed, scale) for seed in seeds] for scale in SCALES}
    scales = Table(
        f"{ENTRIES} one-hot keys, each asked for",
        ["scale", "weight of the right key", "distance from dict[key]"],
        [[scale, *by_seed(numbers)] for scale, numbers in asked_for.items()],
    )
    asked = questions(EQUAL)
    kinds = Table(
        f"What one query gets at scale {EQUAL:g}",
        ["the key is", *(f"weight {i}" for i in range(ENTRIES)), "sum"],
        [[name, *weights.tolist(), weights.sum().item()] for name, weights in asked.items()],
    )
    changes = [changed(seed) for seed in seeds]
    factors = [(after / before, common) for before, after, common in changes]
    spread = [(f[1:].max() - f[1:].min()).item() for f, _ in factors]
    off = [(f[1:] - common).abs().max().item() for f, common in factors]
    keys = Table(
        "One of six random keys is changed",
        ["its weight times", "each other weight times", "spread between the others", "off from Z / Z'"],
        [[[f[0].item() for f, _ in factors], [common for _, common in factors], spread, off]],
    )
    smallest, largest = ([mean(column) for column in zip(*asked_for[scale])] for scale in (SCALES[0], SCALES[-1]))
    conclusion = (
        f"At scale {SCALES[-1]:g} the answer is {largest[1]:.0e} away from dict[key]; at scale 0 each of the "
        f"{ENTRIES} keys weighs {smallest[0]:.2f}. A key that is there twice is answered by both "
        f"({asked['there twice'][0]:.2f} and {asked['there twice'][1]:.2f}), one that is not there by everything ({asked['not there'].min():.2f} to "
        f"{asked['not there'].max():.2f} each): attention cannot say no. Changing one key multiplies all other weights by "
        f"one factor, equal to {max(off):.0e}: keys do not confer, they share one sum."
    )
    return Outcome([scales, kinds, keys], conclusion, picture(asked_for, asked, changes[0]))


def picture(
    asked_for: dict[float, list[tuple[float, float]]],
    asked: dict[str, torch.Tensor],
    change: tuple[torch.Tensor, torch.Tensor, float],
) -> Figure:
    """Draw the weight by scale, the three questions, and the weights before and after a key is changed."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for at, (label, marker) in enumerate((("weight of the right key", "o"), ("distance from dict[key]", "s"))):
        heights = [mean(seed[at] for seed in seeds) for seeds in asked_for.values()]
        left.plot(list(asked_for), heights, marker=marker, label=label)
    left.set(xlabel="scale of the scores", title="The sharper, the more a dictionary")
    left.legend(frameon=False)
    for at, (name, weights) in enumerate(asked.items()):
        middle.bar([i + (at - 1) * 0.27 for i in range(ENTRIES)], weights.tolist(), 0.25, label=f"key {name}")
    middle.set(xlabel="key", ylabel="weight", title=f"One query at scale {EQUAL:g}")
    middle.legend(frameon=False)
    before, after, _ = change
    for shift, label, weights in ((-0.2, "before", before), (0.2, "after", after)):
        right.bar([i + shift for i in range(ENTRIES)], weights.tolist(), 0.38, label=label)
    for at, (old, new) in enumerate(zip(before.tolist(), after.tolist())):
        right.text(at, max(old, new) + 0.01, f"x {new / old:.3g}", ha="center", fontsize=8)
    right.set(
        xlabel="key",
        ylabel="weight",
        title="Key 0 is changed",
        ylim=(0, 1.15 * torch.cat([before, after]).max().item()),
    )
    right.legend(frameon=False)
    return figure
