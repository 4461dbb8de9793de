"""Tokens and vectors: how a text becomes rows of a matrix, before any attention looks at them."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from lab.outcome import Outcome, Table
from modeling_vanilla.embeddings import TokenEmbedding
from tokenizer.build import build

TITLE = "tokens and vectors: pieces of a text, their ids, the rows of the matrix"
SECONDS = 15
ROOT = Path(__file__).parents[1]
# Text of both languages that every clone has.
TEXTS = ("README.md", "README.ko.md")
SENTENCES = {
    "English": "The decoder looks at every token of the source sentence.",
    "Korean": "디코더는 원문 문장의 모든 토큰을 봅니다.",
}
SIZES = (700, 1000, 1500, 2000, 3000)
"""Vocabularies; the smallest holds little more than the characters of both languages."""


def run(options: argparse.Namespace) -> Outcome:
    """Cut two sentences with larger and larger vocabularies, and look their pieces up."""
    lines = [line for name in TEXTS for line in (ROOT / name).read_text("utf-8").splitlines() if line.strip()]
    tokenizers = {size: _bpe(lines, size) for size in SIZES}
    counts = {
        name: [len(tokenizer.tokenize(text)) for tokenizer in tokenizers.values()] for name, text in SENTENCES.items()
    }
    sizes = Table(
        "tokens of one sentence by the size of the vocabulary (byte-pair encoding)",
        ["sentence", "characters", "UTF-8 bytes", *(f"{size:,}" for size in SIZES)],
        [[name, len(text), len(text.encode()), *counts[name]] for name, text in SENTENCES.items()],
    )
    ends = SIZES[0], SIZES[-1]
    pieces = Table(
        f"the pieces with {ends[0]:,} and with {ends[1]:,} tokens in the vocabulary",
        ["sentence", "vocabulary", "pieces"],
        [[name, size, " ".join(tokenizers[size].tokenize(text))] for name, text in SENTENCES.items() for size in ends],
    )
    lookup, gap = _look_up(tokenizers[ends[1]])
    shorter = {name: row[0] / row[-1] for name, row in counts.items()}
    conclusion = (
        f"From {ends[0]:,} to {ends[1]:,} tokens in the vocabulary the sentences become "
        + " and ".join(f"{factor:.2g} times shorter ({name})" for name, factor in shorter.items())
        + f"; a row of the matrix and a one-hot vector times the matrix differ by {gap:.1g}."
    )
    return Outcome([sizes, pieces, lookup], conclusion, _picture(counts))


def _bpe(lines: Sequence[str], size: int) -> PreTrainedTokenizerFast:
    return build("bpe", lines, size, "seq2seq", show_progress=False)


def _look_up(tokenizer: PreTrainedTokenizerFast, width: int = 8) -> tuple[Table, float]:
    """Look the Korean sentence's tokens up in an embedding, and multiply the one-hot rows with the same matrix."""
    torch.manual_seed(0)
    embedding = TokenEmbedding(len(tokenizer), width)
    ids = tokenizer(SENTENCES["Korean"], return_tensors="pt")["input_ids"][0]
    with torch.no_grad():
        rows = embedding(ids)  # (T, D)
        product = F.one_hot(ids, len(tokenizer)).float() @ embedding.weight  # (T, V) (V, D)
    labels = tokenizer.convert_ids_to_tokens(ids.tolist())
    table = Table(
        f"Korean: token, id, and the first three of {width} numbers of its row (drawn at random, not trained)",
        ["token", "id", "row"],
        [[token, int(at), " ".join(f"{x:+.2f}" for x in row[:3])] for token, at, row in zip(labels, ids, rows)],
    )
    return table, (rows - product).abs().max().item()


def _picture(counts: dict[str, list[int]]) -> Figure:
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for name, row in counts.items():
        axes.plot(SIZES, row, marker="o", label=f"{name}: {len(SENTENCES[name])} characters")
    axes.set(xlabel="tokens in the vocabulary", ylabel="tokens of the sentence", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
