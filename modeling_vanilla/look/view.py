# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What was seen inside a model on one text: plain data, which every renderer reads and none changes.

Dimension letters: L layers, H heads, T rows (queries), S columns (keys), K width of a head, N steps of a search.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch

Kind = Literal["encoder", "decoder", "cross"]
CELLS = 256
"""Rows and columns that a map keeps at most; a longer one is averaged over blocks."""


@dataclass
class Map:
    """The attention of one kind: self-attention of the encoder or decoder, or cross-attention.

    Attributes:
        rows: T labels. A row is labelled with what it is for: in self-attention of an encoder the token that looks; in
            a decoder and in cross-attention the token that this row *wrote* (Chen et al. 2020, Shift-Att). All labels
            are those of `labels.labels`: a token that begins a word has its space in front.
        columns: S labels: the tokens that are looked at.
        reads: T labels of the tokens at the rows' own places: what each row read when it looked.
        layers: Which layers are kept, by number, from 0.
        heads: Which heads of each, by number, from 0; all layers have as many.
        weights: (L, H, t, s) float32 on the CPU; t = T and s = S, or at most `CELLS` each where blocks were averaged.
        hidden: (t, s) bool: the cells that a mask forbids, for every layer and head.
    """

    kind: Kind
    rows: list[str]
    columns: list[str]
    reads: list[str]
    layers: list[int]
    heads: list[int]
    weights: torch.Tensor
    hidden: torch.Tensor

    @property
    def averaged(self) -> bool:
        """Tell whether a cell stands for several pairs of tokens."""
        return tuple(self.weights.shape[2:]) != (len(self.rows), len(self.columns))


@dataclass
class Numbers:
    """What lies behind the cells of one head: weights = softmax(queries keys^T * scaling + bias), where not hidden.

    Attributes:
        queries: (T, K) as the kernel got them (after rotation, where a model rotates them).
        keys: (S, K), repeated where several heads share them.
        values: (S, Kv).
        scaling: The factor of the products, 1 / sqrt(d_k) in the paper (eq. 1); 1 in T5.
        bias: (T, S) what the model adds for positions, or None.
    """

    kind: Kind
    layer: int
    head: int
    queries: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor
    scaling: float
    bias: torch.Tensor | None = None


@dataclass
class Step:
    """The next token at one step of writing.

    Attributes:
        written: The label of the token that was chosen.
        labels: Labels of the likeliest tokens, best first, 200 at most.
        logits: Their logits, as the model gave them.
        rest: The logsumexp of logit / temperature over all other tokens, for each of `TEMPERATURES`.
    """

    written: str
    labels: list[str]
    logits: list[float]
    rest: list[float]


TEMPERATURES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0)


@dataclass
class Hypothesis:
    """A node of a search's tree: one token of one hypothesis.

    Attributes:
        parent: Its place in `Search.nodes`, or None at the first step.
        step: From 0.
        label: The token.
        score: Sum of the logarithms of the probabilities so far, in nats.
        fate: "kept" while others grew from it; else why it ended.
    """

    parent: int | None
    step: int
    label: str
    score: float
    fate: Literal["kept", "winner", "ended", "worse", "length"]


@dataclass
class Search:
    """A beam search, as a tree.

    Attributes:
        beams: Hypotheses kept at each step.
        length_penalty: The exponent of the length that divides a finished score.
    """

    beams: int
    length_penalty: float
    nodes: list[Hypothesis] = field(default_factory=list)


@dataclass
class View:
    """All that was seen.

    Attributes:
        model: Its folder or Hub id, as it was named.
        architecture: The name of its class.
        text: What it read.
        target: What it wrote, or was given to write; None in an encoder.
        exact: (kind, layer, head) of the heads whose exact weights the page keeps.
    """

    model: str
    architecture: str
    text: str
    target: str | None
    maps: list[Map]
    numbers: list[Numbers] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    exact: list[tuple[Kind, int, int]] = field(default_factory=list)
    search: Search | None = None
