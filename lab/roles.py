"""What queries, keys and values are each for: the same small model with three matrices, with two, and with none.

Dimension letters: B batch, T length, D d_model.
"""

from argparse import Namespace
from statistics import mean

import torch
from matplotlib.figure import Figure
from torch import nn

from lab.ablations import NoProjections, SharedKeyValue, SharedQueryKey, swapped
from lab.outcome import Outcome, Table
from lab.tagging import TASKS, accuracy, attention_of, by_seed, loss_of, matched, rows, tagger
from lab.training import count, train
from modeling_vanilla.attention import MultiHeadAttention

TITLE = "what Q, K and V are each for: three matrices, W_q = W_k, W_k = W_v, none"
SECONDS = 60

RUNGS: dict[str, type[MultiHeadAttention]] = {
    "three matrices": MultiHeadAttention,
    "W_q = W_k": SharedQueryKey,
    "W_k = W_v": SharedKeyValue,
    "none": NoProjections,
}
ASKED = ("reverse", "previous")
LENGTH, HEADS = 12, 1
STEPS = {True: 500, False: 2000}
"""Training steps with --quick and without."""


def build(rung: str, seed: int) -> nn.Module:
    """Return a model with one layer and one head; what its attention lacks in weights, its feed-forward network has."""

    def of_width(width: int) -> nn.Module:
        return swapped(tagger(seed, num_heads=HEADS, d_ff=width), MultiHeadAttention, RUNGS[rung], seed)

    return matched(of_width, count(tagger(seed, num_heads=HEADS)))


@torch.no_grad()
def scores_of(model: nn.Module, digits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores and the weights of the only head, both (B, T, T)."""
    read = {}
    attention = attention_of(model)
    hook = attention.register_forward_hook(lambda _, given, out: read.update(states=given[0], weights=out[1]))
    model(digits)
    hook.remove()
    query, key = attention.q_proj(read["states"]), attention.k_proj(read["states"])
    return query @ key.transpose(1, 2) * attention.scaling, read["weights"][:, 0]


def asymmetry(scores: torch.Tensor) -> float:
    """Return |S - S^T| / |S|, the mean over rows of (B, T, T): 0 where i asks j as j asks i."""
    return ((scores - scores.transpose(1, 2)).norm(dim=(1, 2)) / scores.norm(dim=(1, 2))).mean().item()


@torch.no_grad()
def exchanged(model: nn.Module, role: str, task: str, digits: torch.Tensor) -> tuple[float, float, float]:
    """Give each row of a batch the Q, K or V of the row before it.

    Returns:
        The shares of places whose answer is that of the row itself, and that of the row before; and the share of the
        largest weights that stay where they were.
    """
    projection = getattr(attention_of(model), f"{role.lower()}_proj")
    before = scores_of(model, digits)[1].argmax(-1)
    hook = projection.register_forward_hook(lambda _, given, states: states.roll(1, 0))
    answers, after = model(digits).logits.argmax(-1), []
    catch = attention_of(model).register_forward_hook(lambda _, given, out: after.append(out[1][:, 0].argmax(-1)))
    model(digits)
    catch.remove()
    hook.remove()
    answer = TASKS[task](digits, 10)
    shares = [answers.eq(right).float().mean().item() for right in (answer, answer.roll(1, 0))]
    return shares[0], shares[1], after[0].eq(before).float().mean().item()


def trained(rung: str, task: str, seed: int, steps: int) -> nn.Module:
    """Return a trained model."""
    model = build(rung, seed)
    train(model, rows(task, seed, 64, LENGTH), loss_of, steps)
    return model


def run(options: Namespace) -> Outcome:
    """Train each rung on each task."""
    steps = STEPS[options.quick]
    numbers: dict[tuple[str, str], list[list[float]]] = {}
    maps: dict[tuple[str, str], torch.Tensor] = {}
    exchanges: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    sizes = {rung: count(build(rung, 0)) for rung in RUNGS}
    for seed in range(options.seeds):
        for task in ASKED:
            test = next(rows(task, 10_000 + seed, 500, LENGTH))
            for rung in RUNGS:
                model = trained(rung, task, seed, steps)
                scores, weights = scores_of(model, test[0])
                on_itself = weights.diagonal(dim1=1, dim2=2).mean().item()
                numbers.setdefault((rung, task), []).append([accuracy(model, test), asymmetry(scores), on_itself])
                maps.setdefault((rung, task), weights.mean(0))
                if rung == "three matrices":
                    for role in "QKV":
                        exchanges.setdefault((task, role), []).append(exchanged(model, role, task, test[0]))
    tables = [ladder(numbers, sizes, steps), exchange(exchanges)]
    return Outcome(tables, conclusion(numbers, exchanges), picture(maps, numbers))


def ladder(numbers: dict[tuple[str, str], list[list[float]]], sizes: dict[str, int], steps: int) -> Table:
    """Return the table of the rungs."""
    lines = [[rung, task, sizes[rung], *by_seed(seeds)] for (rung, task), seeds in numbers.items()]
    columns = ["attention", "task", "weights", "accuracy", "asymmetry of scores", "weight on itself"]
    return Table(f"One layer, one head, {steps} steps; chance is 0.1", columns, lines)


def exchange(exchanges: dict[tuple[str, str], list[tuple[float, float, float]]]) -> Table:
    """Return the table of what an exchange does."""
    lines = [[task, role, *by_seed(seeds)] for (task, role), seeds in exchanges.items()]
    columns = ["task", "exchanged", "answers as its own row", "as the other row", "looks at the same place"]
    return Table("Three matrices, trained; then each row gets the Q, K or V of another row", columns, lines)


def conclusion(
    numbers: dict[tuple[str, str], list[list[float]]],
    exchanges: dict[tuple[str, str], list[tuple[float, float, float]]],
) -> str:
    """Say what was lost with which matrix."""
    right = {key: mean(seed[0] for seed in seeds) for key, seeds in numbers.items()}
    parts = [f"{rung} {right[rung, 'reverse']:.2f} and {right[rung, 'previous']:.2f}" for rung in RUNGS]
    v, k = ([mean(seed[at] for seed in exchanges["previous", role]) for at in (0, 1)] for role in "VK")
    skew = mean(seed[1] for seed in numbers["W_q = W_k", "reverse"])
    on_itself = {rung: mean(seed[2] for seed in numbers[rung, "reverse"]) for rung in RUNGS}
    return (
        f"Accuracy on reverse and on previous: {', '.join(parts)}. With W_q = W_k the scores are symmetric (asymmetry "
        f"{skew:.1g}): i asks j as j asks i, and on reverse {on_itself['W_q = W_k']:.2f} of the weight stays with the token "
        f"itself ({on_itself['three matrices']:.2f} with three matrices). With the values of another row the model names that row's tokens in "
        f"{v[1]:.2f} of places; with its keys it still names its own in {k[0]:.2f}: Q and K say where to look, V is what "
        "is handed over."
    )


def picture(maps: dict[tuple[str, str], torch.Tensor], numbers: dict[tuple[str, str], list[list[float]]]) -> Figure:
    """Draw the mean map of each rung on each task."""
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    for axes, ((rung, task), weights) in zip(figure.subplots(len(ASKED), len(RUNGS)).flat, maps.items()):
        image = axes.imshow(weights.numpy(), cmap="viridis", vmin=0, vmax=1)
        axes.set_title(f"{rung}\n{task}: {mean(seed[0] for seed in numbers[rung, task]):.2f}", fontsize=10)
        axes.set(xlabel="looks at place", ylabel="place", xticks=range(0, LENGTH, 4), yticks=range(0, LENGTH, 4))
    figure.colorbar(image, ax=figure.axes, label="weight, mean over rows", shrink=0.8)
    return figure
