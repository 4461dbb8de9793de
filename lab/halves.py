"""BERT and GPT: the two halves of one trained translator, cut out and looked at side by side.

Dimension letters: H heads, T tokens.
"""

import argparse
from collections.abc import Iterator

import torch
from matplotlib.figure import Figure
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers.utils.logging import disable_progress_bar

from lab.made import END, FIRST, PAD, START
from lab.outcome import Outcome, Table
from lab.training import count, train
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration, VanillaModel
from modeling_vanilla.convert.variants import cut
from train.data.dates import dates

TITLE = "BERT and GPT: the encoder and the decoder of one translator, each alone"
SECONDS = 30
TEXT = "20 November 2026"


def run(options: argparse.Namespace) -> Outcome:
    """Train one translator of dates for each seed, cut it in two, and measure both halves."""
    disable_progress_bar()
    characters, batches = _data()
    steps = 300 if options.quick else 1500
    measured = {"encoder": [], "decoder": []}
    for seed in range(options.seeds):
        whole = _train(len(characters) + FIRST, batches, seed, steps)
        ids = torch.tensor([[START, *(FIRST + characters.index(c) for c in TEXT), END]])
        halves = {half: cut(whole, half).eval() for half in measured}
        for half, model in halves.items():
            model.set_attn_implementation("eager")  # the kernel that gives its weights out
            measured[half].append(_measure(model, ids))
        gap = _gap(whole, halves["encoder"], ids)
    table = Table(
        f"one text ({TEXT}) through both halves",
        ["half", "weights", *measured["encoder"][0]],
        [
            [half, count(halves[half]), *([row[name] for row in rows] for name in rows[0])]
            for half, rows in measured.items()
        ],
    )
    sides = {half: sum(row[RIGHT] for row in rows) / len(rows) for half, rows in measured.items()}
    conclusion = (
        f"In the encoder {sides['encoder']:.0%} of the attention goes to tokens on the right, in the decoder "
        f"{sides['decoder']:.0%}; cut out, the encoder's vectors differ from the whole translator's by {gap:.1g}."
    )
    maps = {half: _attentions(model, ids).mean(0) for half, model in halves.items()}
    return Outcome([table], conclusion, _picture(maps))


def _data() -> tuple[list[str], list[tuple[torch.Tensor, torch.Tensor]]]:
    """Return the characters of the dates, and batches of sources (B, S) and targets (B, T)."""
    rows = dates(train=6400, validation=1, test=1)["train"]
    characters = sorted(set("".join(rows["source"] + rows["target"])))
    ids = {c: FIRST + at for at, c in enumerate(characters)}

    def padded(texts: list[str]) -> torch.Tensor:
        return pad_sequence([torch.tensor([START, *map(ids.get, text), END]) for text in texts], True, PAD)

    cuts = range(0, len(rows["source"]), 32)
    return characters, [(padded(rows["source"][at : at + 32]), padded(rows["target"][at : at + 32])) for at in cuts]


def _train(vocabulary: int, batches: list, seed: int, steps: int) -> VanillaForConditionalGeneration:
    torch.manual_seed(seed)
    sizes = {"d_model": 64, "d_ff": 128, "num_heads": 4, "num_layers": 2, "max_position_embeddings": 64}
    model = VanillaForConditionalGeneration(VanillaConfig(vocab_size=vocabulary, dropout=0.0, **sizes))
    model.set_attn_implementation("eager")  # on a CPU faster than the fused kernel, where texts are this short

    def endless() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        while True:
            yield from batches

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        source, target = batch
        logits = model(input_ids=source, attention_mask=source.ne(PAD).long(), decoder_input_ids=target[:, :-1]).logits
        return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)

    train(model, endless(), loss, steps)
    return model


RIGHT = "attention to the right"


@torch.no_grad()
def _measure(model: VanillaModel, ids: torch.Tensor) -> dict[str, float]:
    """Return where the attention of a half goes, and what a change of the last token moves."""
    changed = ids.clone()
    changed[0, -2] = ids[0, 1]
    before, after = (model(input_ids=x).last_hidden_state[0] for x in (ids, changed))
    return {
        RIGHT: torch.triu(_attentions(model, ids), 1).sum(-1).mean().item(),
        "first vector moved by a change of the last character": (before[0] - after[0]).norm().item(),
        "last vector moved by it": (before[-1] - after[-1]).norm().item(),
    }


@torch.no_grad()
def _attentions(model: VanillaModel, ids: torch.Tensor) -> torch.Tensor:
    """Return the weights (H, T, T) of the last layer's self-attention."""
    return model(input_ids=ids, output_attentions=True).attentions[-1][0]


@torch.no_grad()
def _gap(whole: VanillaForConditionalGeneration, encoder: VanillaModel, ids: torch.Tensor) -> float:
    """Return the largest difference between the encoder within the translator and the same encoder cut out."""
    return (whole.get_encoder()(ids).last_hidden_state - encoder(input_ids=ids).last_hidden_state).abs().max().item()


def _picture(maps: dict[str, torch.Tensor]) -> Figure:
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    labels = ["<s>", *TEXT.replace(" ", "␣"), "</s>"]
    for axes, (half, weights) in zip(figure.subplots(1, 2), maps.items()):
        axes.imshow(weights, cmap="Blues", vmin=0)
        axes.set_title(f"{half}: last layer, mean of its heads", fontsize=10)
        axes.set_xticks(range(len(labels)), labels, fontsize=7)
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
        axes.set(xlabel="looked at", ylabel="looks")
    return figure
