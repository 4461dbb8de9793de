"""How it learns: a loss, its gradient, and many small steps against it."""

import argparse
import math

import torch
from matplotlib.figure import Figure

from lab.made import FIRST, PAD, pairs
from lab.outcome import Outcome, Table
from lab.training import train
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration

TITLE = "how it learns: the loss at the start, one step against the gradient, and the size of the step"
SECONDS = 45
SYMBOLS = 20
VOCABULARY = FIRST + SYMBOLS
RATES = (1e-5, 3e-4, 3e-3, 1.0)
"""Learning rates: hardly a step, a cautious one, a good one, one that is too large."""


def run(options: argparse.Namespace) -> Outcome:
    """Check the gradient by hand, take one step, then train with four learning rates."""
    steps = 300 if options.quick else 1500
    losses = {rate: [_train(rate, seed, steps) for seed in range(options.seeds)] for rate in RATES}
    ends = {rate: [sum(row[-20:]) / 20 for row in rows] for rate, rows in losses.items()}
    first = [_first_step(seed) for seed in range(options.seeds)]
    start = Table(
        "one batch, before and after one step (plain gradient descent, rate 0.1)",
        ["figure", "value"],
        [
            ["ln of the vocabulary: the loss of a guess", math.log(VOCABULARY)],
            ["loss before the step", [row["before"] for row in first]],
            ["loss after the step", [row["after"] for row in first]],
            ["slope of the loss by one logit, by autograd", [row["gradient"] for row in first]],
            ["the same: (probability - 1 for the right token) / tokens", [row["formula"] for row in first]],
            ["slope by one weight of W_q, by autograd", [row["weight"] for row in first]],
            ["the same: the loss a little further and a little less far", [row["difference"] for row in first]],
        ],
    )
    course = Table(
        f"loss after {steps} steps by learning rate (Adam, reverse)",
        ["learning rate", "loss"],
        [[f"{rate:g}", ends[rate]] for rate in RATES],
    )
    mean = {rate: sum(row) / len(row) for rate, row in ends.items()}
    best = min(mean, key=mean.get)
    worst = max(mean, key=mean.get)
    conclusion = (
        f"One step takes the batch's loss from {_mean(first, 'before'):.3f} to {_mean(first, 'after'):.3f}; "
        f"of the learning rates {best:g} ends lowest ({mean[best]:.3g}) and {worst:g} highest ({mean[worst]:.3g}), "
        f"where a guess has {math.log(VOCABULARY):.3g}."
    )
    return Outcome([start, course], conclusion, _picture({rate: rows[0] for rate, rows in losses.items()}))


def _mean(rows: list[dict[str, float]], name: str) -> float:
    return sum(row[name] for row in rows) / len(rows)


def _model(seed: int) -> VanillaForConditionalGeneration:
    torch.manual_seed(seed)
    config = VanillaConfig(
        vocab_size=VOCABULARY, d_model=64, d_ff=128, num_heads=4, num_layers=1, dropout=0.0, max_position_embeddings=32
    )
    return VanillaForConditionalGeneration(config)


def _logits(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    source, target = batch
    return model(input_ids=source, attention_mask=source.ne(PAD).long(), decoder_input_ids=target[:, :-1]).logits


def _loss(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the mean negative logarithm of the right token's probability, in nats."""
    return torch.nn.functional.cross_entropy(_logits(model, batch).flatten(0, 1), batch[1][:, 1:].flatten())


def _train(rate: float, seed: int, steps: int) -> list[float]:
    return train(_model(seed), pairs("reverse", seed, 32, 1, 8, SYMBOLS), _loss, steps, lr=rate)


def _first_step(seed: int, rate: float = 0.1, nudge: float = 1e-4) -> dict[str, float]:
    """Take one step on one batch, in float64, and compare two slopes with what they should be."""
    model = _model(seed).double().eval()
    batch = next(pairs("reverse", seed, 32, 8, 8, SYMBOLS))
    right = batch[1][:, 1:]
    logits = _logits(model, batch)
    logits.retain_grad()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), right.flatten())
    loss.backward()
    answer = right[0, 0]
    weights = model.model.decoder.layers[0].self_attn.q_proj.weight
    at = divmod(int(weights.grad.abs().argmax()), weights.shape[1])
    found = {
        "before": loss.item(),
        "gradient": logits.grad[0, 0, answer].item(),
        "formula": ((logits[0, 0].softmax(-1)[answer] - 1) / right.numel()).item(),
        "weight": weights.grad[at].item(),
    }
    with torch.no_grad():
        sides = []
        for move in (nudge, -2 * nudge):
            weights[at] += move
            sides.append(_loss(model, batch).item())
        weights[at] += nudge
        found["difference"] = (sides[0] - sides[1]) / (2 * nudge)
        for weight in model.parameters():
            weight -= rate * weight.grad
        found["after"] = _loss(model, batch).item()
    return found


def _picture(losses: dict[float, list[float]]) -> Figure:
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for rate, row in losses.items():
        blocks = [row[at : at + 10] for at in range(0, len(row), 10)]
        axes.plot([10 * at for at in range(len(blocks))], [sum(b) / len(b) for b in blocks], label=f"{rate:g}")
    axes.axhline(math.log(VOCABULARY), color="gray", linestyle=":", label="a guess")
    axes.set(xlabel="step", ylabel="loss (nats a token)", ylim=(0, 6))
    axes.legend(title="learning rate", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
