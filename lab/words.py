"""What training makes of word vectors: neighbours, a plane, axes without a meaning, and vectors that depend on the sentence.

Dimension letters: B batch, T tokens, V vocabulary, D width, H heads, K head_dim, N chosen words.
"""

import argparse
import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from babel import Locale
from matplotlib.figure import Figure

from lab.corpora import CORPORA, FIRST, PAD, Vocabulary, hidden_words, sentences
from lab.outcome import Cell, Outcome, Table
from lab.training import train
from modeling_vanilla import VanillaConfig, VanillaForMaskedLM
from modeling_vanilla.look.fonts import families

TITLE = "vectors of words before and after training: neighbours, a plane, rotated axes, the same word in two sentences"
SECONDS = 60


def options(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    parser.add_argument(
        "--data",
        choices=("dates", *CORPORA),
        default="dates",
        help="dates are made; multi30k (English) and nsmc (Korean) lie below data/, with a line that fetches them",
    )


@dataclass
class Trained:
    """What a seed gave: the token matrix (V, D) before training and the model after it."""

    before: torch.Tensor
    model: Any
    loss: float

    @property
    def after(self) -> torch.Tensor:
        """Return the token matrix (V, D) after training."""
        return self.model.get_input_embeddings().weight.detach()


def run(options: argparse.Namespace) -> Outcome:
    """Train an encoder to fill hidden words, and look at the vectors."""
    # Made dates take a while to write; a corpus is there.
    texts = sentences(options.data, (6000 if options.data == "dates" else 30_000) * (1 if options.quick else 5))
    vocabulary = Vocabulary(texts, 3000 if options.quick else 8000)
    ids = vocabulary.encode(texts)
    steps = 2500 if options.quick else 6000
    trained = [train_one(ids, len(vocabulary), seed, steps) for seed in range(options.seeds)]
    groups = groups_of(options.data, vocabulary)
    shown = shown_words(options.data, vocabulary)
    tables = [neighbours_table(trained[0], vocabulary, shown)]
    if groups:
        tables.append(groups_table(trained, vocabulary, groups))
    tables += [rotation_table(trained, ids[:16]), contexts_table(trained, ids)]
    if options.data == "dates":
        tables.append(roles_table(trained, vocabulary))
    picture = figure(trained[0], vocabulary, drawn_words(options.data, trained[0].after, vocabulary, shown))
    note = f"Data: {options.data}, {len(texts):,} sentences, {len(vocabulary.words):,} words; {steps:,} steps."
    return Outcome(tables, conclusion(options.data, tables, trained), picture, [note])


def train_one(ids: torch.Tensor, words: int, seed: int, steps: int) -> Trained:
    """Train a small BERT on hidden words."""
    torch.manual_seed(seed)
    config = VanillaConfig(
        variant="encoder", vocab_size=words, d_model=64, d_ff=128, num_heads=4, num_layers=2, dropout=0.0,
        label_smoothing=0.0, max_position_embeddings=64, pad_token_id=PAD,
    )  # fmt: skip
    model = VanillaForMaskedLM(config)
    before = model.get_input_embeddings().weight.detach().clone()
    losses = train(
        model,
        hidden_words(ids, seed, 64),
        lambda model, batch: model(batch[0], attention_mask=batch[0].ne(PAD), labels=batch[1]).loss,
        steps,
        lr=4e-3,
    )
    return Trained(before, model, sum(losses[-50:]) / len(losses[-50:]))


def neighbours(matrix: torch.Tensor, number: int, count: int) -> list[int]:
    """Return the rows of (V, D) with the largest cosine to row `number`, itself and the special ids left out."""
    unit = torch.nn.functional.normalize(matrix, dim=1)
    closeness = unit @ unit[number]
    closeness[number] = closeness[:FIRST] = -math.inf
    return closeness.topk(count).indices.tolist()


def shown_words(data: str, vocabulary: Vocabulary) -> list[str]:
    """Return the words whose neighbours and places are shown."""
    if data == "dates":
        words = [word for kind in ("months", "days") for name in date_names(kind).values() for word in name]
        return [word for word in dict.fromkeys(words) if word in vocabulary.ids and word.istitle()]
    return [word for word in CORPORA[data].shown.split() if word in vocabulary.ids]


def date_names(kind: str) -> dict[int, list[str]]:
    """Return the spellings of each month ("months") or weekday ("days"), as the generator of dates writes them."""
    names = Locale("en").months if kind == "months" else Locale("en").days
    spellings: dict[int, list[str]] = {}
    for width in ("wide", "abbreviated"):
        for number, name in names["format"][width].items():
            spellings.setdefault(number, []).extend([name, name.lower(), name.upper()])
    return {number: list(dict.fromkeys(words)) for number, words in spellings.items()}


def groups_of(data: str, vocabulary: Vocabulary) -> dict[str, list[list[int]]]:
    """Return ids that mean the same, by kind: months and weekdays of the dates, in all spellings; no other data has any."""
    if data != "dates":
        return {}
    return {
        words: [
            [vocabulary.ids[name] for name in names if name in vocabulary.ids] for names in date_names(kind).values()
        ]
        for words, kind in (("months", "months"), ("weekdays", "days"))
    }


def hits(matrix: torch.Tensor, groups: list[list[int]]) -> tuple[float, float]:
    """Return how often a word's nearest neighbour means the same, and how often it is of the same kind."""
    kind = {number for group in groups for number in group}
    same, alike, words = 0, 0, 0
    for group in groups:
        for number in group if len(group) > 1 else ():
            nearest = neighbours(matrix, number, 1)[0]
            same, alike, words = same + (nearest in group), alike + (nearest in kind), words + 1
    return same / words, alike / words


def groups_table(trained: list[Trained], vocabulary: Vocabulary, groups: dict[str, list[list[int]]]) -> Table:
    """Show how often the nearest neighbour of a word means the same, before and after; and by chance."""
    rows: list[list[Cell]] = []
    for kind, members in groups.items():
        size = sum(len(group) for group in members)
        chance = sum(len(group) * (len(group) - 1) for group in members) / size / (len(vocabulary.words) - 1)
        before, after = ([hits(matrix, members) for matrix in matrices] for matrices in matrices_of(trained))
        for at, (meaning, luck) in enumerate(
            ((f"the same {kind[:-1]}", chance), (f"any of the {kind}", (size - 1) / (len(vocabulary.words) - 1)))
        ):
            rows.append([kind, meaning, luck, [pair[at] for pair in before], [pair[at] for pair in after]])
    columns = ["words", "the nearest neighbour is", "by chance", "before", "after"]
    return Table("nearest neighbours, by meaning", columns, rows)


def matrices_of(trained: list[Trained]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the token matrices of all seeds before training, and after it."""
    return [one.before for one in trained], [one.after for one in trained]


def neighbours_table(trained: Trained, vocabulary: Vocabulary, shown: list[str], count: int = 4) -> Table:
    """Show the nearest neighbours of some words."""
    rows: list[list[Cell]] = []
    for word in shown[:: max(1, len(shown) // 10)]:
        number = vocabulary.ids[word]
        lists = (neighbours(matrix, number, count) for matrix in (trained.before, trained.after))
        rows.append([word, *(", ".join(vocabulary.words[near - FIRST] for near in near_ids) for near_ids in lists)])
    return Table(f"the {count} nearest neighbours by cosine, first seed", ["word", "before", "after"], rows)


def rotated(model: Any, rotation: torch.Tensor, names: Sequence[str]) -> Any:
    """Return a copy of a model with named projections of all heads turned: W <- R W, b <- R b, head by head.

    Args:
        model: With layers of self-attention.
        rotation: R (K, K), orthogonal.
        names: Of "q_proj" and "k_proj".
    """
    model = copy.deepcopy(model)
    for layer in model.model.encoder.layers:
        for name in names:
            linear = layer.self_attn.get_submodule(name)
            with torch.no_grad():
                heads = linear.weight.unflatten(0, (-1, len(rotation)))  # (H, K, D)
                linear.weight.copy_((rotation @ heads).flatten(0, 1))
                linear.bias.copy_((linear.bias.unflatten(0, (-1, len(rotation))) @ rotation.T).flatten())
    return model


def rotation_table(trained: list[Trained], ids: torch.Tensor) -> Table:
    """Turn queries and keys of every head by one random rotation, and queries alone: what it changes."""
    rows: dict[tuple[str, ...], list[list[float]]] = {}
    for seed, one in enumerate(trained):
        model = copy.deepcopy(one.model).double()
        shape = (model.config.head_dim, model.config.head_dim)
        draw = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        rotation = torch.linalg.qr(draw)[0]
        with torch.no_grad():
            logits = model(ids, attention_mask=ids.ne(PAD)).logits
            for names in (("q_proj", "k_proj"), ("q_proj",)):
                turned = rotated(model, rotation, names)
                change = (turned(ids, attention_mask=ids.ne(PAD)).logits - logits).abs().max().item()
                old, new = (m.model.encoder.layers[0].self_attn.q_proj.weight for m in (model, turned))
                rows.setdefault(names, []).append([(new - old).norm().item() / old.norm().item(), change])
    names_of_rows = {("q_proj", "k_proj"): "queries and keys, by the same", ("q_proj",): "queries alone"}
    cells: list[list[Cell]] = [
        [names_of_rows[names], *([pair[at] for pair in pairs] for at in range(2))] for names, pairs in rows.items()
    ]
    columns = ["a random rotation of", "W_q changes by (share of its norm)", "logits change by at most"]
    return Table("no axis of a head has a meaning of its own", columns, cells)


@torch.no_grad()
def states_by_layer(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return the states (rows, T, D) that enter the first layer, and those that leave each."""
    return list(model(ids, attention_mask=ids.ne(PAD), output_hidden_states=True).hidden_states)


def contexts_table(trained: list[Trained], ids: torch.Tensor, rows: int = 400) -> Table:
    """Show, layer by layer, how alike one word's vectors are in different sentences, beside those of different words."""
    ids = ids[:rows]
    real = ids.ne(PAD)
    words = ids[real]
    draw = torch.Generator().manual_seed(0)
    pairs = torch.randint(len(words), (2, 200_000), generator=draw)
    sentence = torch.arange(len(ids))[:, None].expand_as(ids)[real]
    pairs = pairs[:, sentence[pairs[0]] != sentence[pairs[1]]]
    same = words[pairs[0]] == words[pairs[1]]
    cells: list[list[Cell]] = []
    by_seed = [states_by_layer(one.model, ids) for one in trained]
    for layer in range(len(by_seed[0])):
        alike, other = [], []
        for layers in by_seed:
            states = torch.nn.functional.normalize(layers[layer][real], dim=-1)
            closeness = (states[pairs[0]] * states[pairs[1]]).sum(-1)
            alike.append(closeness[same].mean().item())
            other.append(closeness[~same].mean().item())
        cells.append([layer_name(layer), alike, other])
    columns = ["states", "one word in two sentences", "two different words"]
    return Table("mean cosine of two vectors, layer by layer", columns, cells)


def layer_name(layer: int) -> str:
    """Return the name of the states of a layer; 0 is what enters the first."""
    return f"after layer {layer}" if layer else "row of the matrix + position"


def role_sentences(count: int = 3000) -> list[tuple[list[str], int, str]]:
    """Return made sentences with a number of two digits, its place, and its role: "month" or "day" of 2026-11-05."""
    examples = []
    for row in sentences("dates", count, seed=1):
        dashes = [at for at, word in enumerate(row) if word == "-"]
        if len(dashes) == 2 and row[dashes[0] + 1].isdigit():  # y-MM-dd, not dd-MMM-y
            examples += [(row, dashes[0] + 1, "month"), (row, dashes[1] + 1, "day")]
    return [example for example in examples if int(example[0][example[1]]) <= 12]


def roles_table(trained: list[Trained], vocabulary: Vocabulary) -> Table:
    """Show how well a number's vector tells whether it is a month or a day: the role of its nearest other occurrence."""
    examples = role_sentences()
    ids = vocabulary.encode([row for row, _, _ in examples])
    places = torch.tensor([place for _, place, _ in examples])
    roles = torch.tensor([role == "month" for *_, role in examples])
    words = ids[torch.arange(len(ids)), places]
    # Only the same number in another sentence counts: month and day of one date share their sentence.
    dates_of = torch.tensor([" ".join(row) == " ".join(other) for row, _, _ in examples for other, _, _ in examples])
    allowed = (words[:, None] == words) & ~dates_of.view(len(ids), -1)
    by_seed = [states_by_layer(one.model, ids) for one in trained]
    cells: list[list[Cell]] = []
    for layer in range(len(by_seed[0])):
        shares, alike, apart = [], [], []
        for layers in by_seed:
            states = torch.nn.functional.normalize(layers[layer][torch.arange(len(ids)), places], dim=-1)
            closeness = states @ states.T
            nearest = closeness.masked_fill(~allowed, -math.inf).argmax(1)
            agree = roles[:, None] == roles
            shares.append((roles[nearest] == roles).float().mean().item())
            alike.append(closeness[allowed & agree].mean().item())
            apart.append(closeness[allowed & ~agree].mean().item())
        cells.append([layer_name(layer), alike, apart, shares])
    columns = ["states", "cosine, same role", "cosine, other role", "nearest has the same role"]
    return Table(f"the same number as a month and as a day ({len(examples)} places in 2026-11-05)", columns, cells)


def plane(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return points (N, 2) on the two directions of most variance of (N, D), and the share of variance of each."""
    centred = matrix - matrix.mean(0)
    _, sizes, directions = torch.linalg.svd(centred, full_matrices=False)
    return centred @ directions[:2].T, (sizes**2 / (sizes**2).sum())[:2]


def drawn_words(data: str, matrix: torch.Tensor, vocabulary: Vocabulary, shown: list[str]) -> dict[str, str]:
    """Return the words of the picture with their colours: months and weekdays, or some words and their neighbours."""
    colours: dict[str, str] = {}
    if data == "dates":
        weekdays = {name for names in date_names("days").values() for name in names}
        return {word: "C1" if word in weekdays else "C0" for word in shown}
    for at, word in enumerate(shown):
        near = (vocabulary.words[number - FIRST] for number in neighbours(matrix, vocabulary.ids[word], 3))
        for name in (word, *near):
            colours.setdefault(name, f"C{at % 10}")
    return colours


def figure(trained: Trained, vocabulary: Vocabulary, colours: dict[str, str]) -> Figure:
    """Draw words on a plane before and after training."""
    drawing = Figure(figsize=(12, 6), layout="constrained")
    numbers = [vocabulary.ids[word] for word in colours]
    for axes, (title, matrix) in zip(
        drawing.subplots(1, 2), (("before training", trained.before), ("after", trained.after)), strict=True
    ):
        points, shares = plane(matrix[numbers])
        axes.scatter(*points.T.tolist(), s=14, c=list(colours.values()))
        for word, (x, y) in zip(colours, points.tolist(), strict=True):
            axes.annotate(word, (x, y), xytext=(3, 2), textcoords="offset points", fontsize=8, fontfamily=families())
        axes.margins(x=0.14)  # room for the last label
        axes.set_title(title)
        axes.set_xlabel(f"first direction: {shares[0]:.0%} of the variance")
        axes.set_ylabel(f"second: {shares[1]:.0%}")
    return drawing


def conclusion(data: str, tables: list[Table], trained: list[Trained]) -> str:
    """Say what training did to the vectors."""
    by_title = {table.title.split(",")[0].split(" (")[0]: table for table in tables}
    parts = [f"After training the loss is {mean([one.loss for one in trained]):.2f} nats a hidden word."]
    if data == "dates":
        for row in by_title["nearest neighbours"].rows[::2]:
            parts.append(
                f"The nearest neighbour of {mean(row[4]):.0%} of the words for {row[0]} has the same meaning; before training "
                f"it was {mean(row[3]):.0%}."
            )
        first, *_, last = by_title["the same number as a month and as a day"].rows
        parts.append(
            f"Whether a number is a month or a day, its nearest vector tells in {mean(first[3]):.0%} of places before the "
            f"first layer and in {mean(last[3]):.0%} after the last."
        )
    first, *_, last = by_title["mean cosine of two vectors"].rows
    both, alone = by_title["no axis of a head has a meaning of its own"].rows
    parts.append(
        f"One word's vectors in two sentences have a cosine of {mean(first[1]):.2f} at the start and {mean(last[1]):.2f} after "
        f"the last layer. Turning queries and keys together changes no logit by more than {max(both[2]):.0e}, turning "
        f"queries alone by {max(alone[2]):.1f}."
    )
    return " ".join(parts)


def mean(numbers: Any) -> float:
    """Return the mean of one number for each seed."""
    return sum(numbers) / len(numbers)
