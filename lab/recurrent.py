"""Recurrent translators: a fixed context (Cho et al. 2014), and what replaced it (Bahdanau et al. 2015, Luong et al. 2015).

One encoder for all of them, so that only the way to its states differs. Deviates: no rung has Luong's input feeding.
Dimension letters: B batch, S source length, T target length, D width of embeddings, H hidden width, V vocabulary.
"""

import math

import torch
from torch import nn

from lab.made import PAD
from modeling_vanilla.embeddings import TokenEmbedding

CELLS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Encoder(nn.Module):
    """Read the source in one direction, or in both with half of the width each (Bahdanau et al. 2015, sec. 3.2)."""

    def __init__(self, width: int, hidden: int, cell: str = "gru", both_ways: bool = True):
        super().__init__()
        if both_ways and hidden % 2:
            raise ValueError(f"hidden={hidden} must be even for an encoder that reads both ways")
        size = hidden // 2 if both_ways else hidden
        self.cells = CELLS[cell](width, size, batch_first=True, bidirectional=both_ways)

    def forward(self, vectors: torch.Tensor, real: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (B, S, D) to the states (B, S, H) and to the last state of each direction, joined: (B, H).

        Args:
            vectors: The embedded source.
            real: (B, S) bool, False on padding, which stands on the right; None without padding.
        """
        if real is None:
            states, last = self.cells(vectors)
        else:
            packed = nn.utils.rnn.pack_padded_sequence(vectors, real.sum(1).cpu(), True, enforce_sorted=False)
            states, last = self.cells(packed)
            states, _ = nn.utils.rnn.pad_packed_sequence(states, True, total_length=vectors.shape[1])
        last = last[0] if isinstance(last, tuple) else last  # an LSTM's memory cell stays behind
        return states, last.transpose(0, 1).flatten(1)


class Dot(nn.Module):
    """score = h_t . h_s (Luong et al. 2015, eq. 8). The other scores change one of its two methods."""

    def __init__(self, hidden: int, positions: int):
        super().__init__()

    def keys(self, states: torch.Tensor) -> torch.Tensor:
        """Return what the queries are compared with, once a source: (B, S, H) to (B, S, H)."""
        return states

    def forward(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Compare queries (B, T, H) with keys (B, S, H): scores (B, T, S)."""
        return query @ keys.transpose(1, 2)


class Scaled(Dot):
    """score = h_t . h_s / sqrt(H) (Vaswani et al. 2017, eq. 1)."""

    def forward(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Divide the products by the root of their number of terms."""
        return super().forward(query, keys) / math.sqrt(query.shape[-1])


class General(Dot):
    """score = h_t . W h_s (Luong et al. 2015, eq. 8)."""

    def __init__(self, hidden: int, positions: int):
        super().__init__(hidden, positions)
        self.matrix = nn.Linear(hidden, hidden, bias=False)

    def keys(self, states: torch.Tensor) -> torch.Tensor:
        """Turn the states by W."""
        return self.matrix(states)


class Additive(General):
    """score = v . tanh(W s + U h) (Bahdanau et al. 2015, app. A.1.2); `matrix` is U."""

    def __init__(self, hidden: int, positions: int):
        super().__init__(hidden, positions)
        self.query = nn.Linear(hidden, hidden)
        self.v = nn.Linear(hidden, 1, bias=False)

    def forward(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Add each query to each key, (B, T, S, H), and weigh the tanh of the sum."""
        return self.v(torch.tanh(self.query(query).unsqueeze(2) + keys.unsqueeze(1))).squeeze(-1)


class Location(Dot):
    """score = W h_t, one row of W for each place of the source, whatever stands there (Luong et al. 2015, eq. 9)."""

    def __init__(self, hidden: int, positions: int):
        super().__init__(hidden, positions)
        self.places = nn.Linear(hidden, positions, bias=False)

    def forward(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Score the first S places."""
        if keys.shape[1] > self.places.out_features:
            raise ValueError(f"a source of {keys.shape[1]} tokens: at most {self.places.out_features} have a row")
        return self.places(query)[..., : keys.shape[1]]


SCORES: dict[str, type[Dot]] = {
    "additive": Additive,
    "dot": Dot,
    "general": General,
    "location": Location,
    "scaled": Scaled,
}


class FixedDecoder(nn.Module):
    """Write with one vector for the whole source, the same at each step (Cho et al. 2014, sec. 2.2)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.cells = nn.GRU(width + hidden, hidden, batch_first=True)

    def forward(self, vectors, start, states, real):
        """Map what was written, (B, T, D), to hidden states (B, T, H) and contexts (B, T, H)."""
        context = start.unsqueeze(1).expand(-1, vectors.shape[1], -1)
        hidden, _ = self.cells(torch.cat([vectors, context], -1), start.unsqueeze(0).contiguous())
        return hidden, context


class _Attending(nn.Module):
    """What both kinds of attention share: keys and values are the encoder's own states."""

    weights: torch.Tensor | None = None
    """The weights (B, T, S) of the last call."""

    def __init__(self, score: Dot):
        super().__init__()
        self.score = score

    def context(self, query, keys, states, real):
        """Return the contexts (B, T, H) of queries (B, T, H), and the weights (B, T, S)."""
        scores = self.score(query, keys)
        if real is not None:
            scores = scores.masked_fill(~real.unsqueeze(1), -math.inf)
        weights = scores.softmax(-1)
        return weights @ states, weights


class BeforeDecoder(_Attending):
    """Attend with the state before, then take a step with what was found (Bahdanau et al. 2015, eq. 4 to 6)."""

    def __init__(self, width: int, hidden: int, score: Dot):
        super().__init__(score)
        self.cell = nn.GRUCell(width + hidden, hidden)

    def forward(self, vectors, start, states, real):
        """As `FixedDecoder.forward`, one step after the other."""
        keys, state = self.score.keys(states), start
        hidden, contexts, weights = [], [], []
        for step in range(vectors.shape[1]):
            context, weight = self.context(state.unsqueeze(1), keys, states, real)
            state = self.cell(torch.cat([vectors[:, step], context.squeeze(1)], -1), state)
            hidden.append(state)
            contexts.append(context)
            weights.append(weight)
        self.weights = torch.cat(weights, 1).detach()
        return torch.stack(hidden, 1), torch.cat(contexts, 1)


class AfterDecoder(_Attending):
    """Take a step, then attend with the new state (Luong et al. 2015, sec. 3.1)."""

    def __init__(self, width: int, hidden: int, score: Dot):
        super().__init__(score)
        self.cells = nn.GRU(width, hidden, batch_first=True)

    def forward(self, vectors, start, states, real):
        """As `FixedDecoder.forward`; all queries at once."""
        hidden, _ = self.cells(vectors, start.unsqueeze(0).contiguous())
        context, weights = self.context(hidden, self.score.keys(states), states, real)
        self.weights = weights.detach()
        return hidden, context


class RecurrentTranslator(nn.Module):
    """An encoder, one of the three decoders, and a readout of state, context and last token.

    Args:
        vocabulary: Tokens V.
        width: Width D of the embeddings, one table for source, target and output.
        hidden: Width H of the states.
        score: A name of `SCORES`, or None for the fixed context.
        positions: Longest source; only "location" has a row for each place.
        cell: Of the encoder: "rnn", "lstm" or "gru".
        both_ways: The encoder reads in both directions.
    """

    def __init__(
        self,
        vocabulary: int,
        width: int,
        hidden: int,
        score: str | None = None,
        positions: int = 64,
        cell: str = "gru",
        both_ways: bool = True,
    ):
        super().__init__()
        self.embed = TokenEmbedding(vocabulary, width, math.sqrt(width))
        nn.init.normal_(self.embed.weight, std=width**-0.5)
        self.encoder = Encoder(width, hidden, cell, both_ways)
        self.bridge = nn.Linear(hidden, hidden)
        self.decoder: nn.Module = FixedDecoder(width, hidden)
        if score:
            decoder = BeforeDecoder if score == "additive" else AfterDecoder
            self.decoder = decoder(width, hidden, SCORES[score](hidden, positions))
        self.readout = nn.Linear(2 * hidden + width, width)

    def forward(self, source: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """Map source (B, S) and what was written so far (B, T) to the logits (B, T, V) of the next tokens."""
        padded = source.eq(PAD)
        real = ~padded if padded.any() else None
        states, last = self.encoder(self.embed(source), real)
        vectors = self.embed(written)
        hidden, context = self.decoder(vectors, torch.tanh(self.bridge(last)), states, real)
        read = torch.tanh(self.readout(torch.cat([hidden, context, vectors], -1)))
        return read @ self.embed.weight.T
