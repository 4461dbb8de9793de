"""A convolutional translator: gated convolutions, and attention in each layer of the decoder (Gehring et al. 2017).

Deviates: no dropout and no weight normalisation; the readout shares the embeddings.
Dimension letters: B batch, S source length, T target length, D width, V vocabulary.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F

from lab.made import PAD
from modeling_vanilla.embeddings import TokenEmbedding

HALF = math.sqrt(0.5)
"""The factor that keeps the variance of a sum of two (Gehring et al. 2017, sec. 3.5)."""


class GatedConvolution(nn.Module):
    """x + GLU(convolution(x)), over a neighbourhood on both sides, or on the left alone (sec. 3.2)."""

    def __init__(self, width: int, kernel: int, causal: bool):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel={kernel} must be odd")
        self.causal = causal
        self.convolution = nn.Conv1d(width, 2 * width, kernel)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to the gated convolution (B, T, D), without the residual."""
        around = self.convolution.kernel_size[0] - 1
        sides = (around, 0) if self.causal else (around // 2, around // 2)
        return F.glu(self.convolution(F.pad(states.transpose(1, 2), sides)), 1).transpose(1, 2)


class ConvolutionalEncoder(nn.Module):
    """Layers of gated convolutions; each sees (kernel - 1) / 2 places further on either side."""

    def __init__(self, width: int, layers: int = 3, kernel: int = 3):
        super().__init__()
        self.layers = nn.ModuleList(GatedConvolution(width, kernel, causal=False) for _ in range(layers))

    def forward(self, vectors: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, S, D) to (B, S, D); `real` (B, S) is False on padding, which is read as zeros."""
        states = vectors
        for layer in self.layers:
            states = states if real is None else states * real.unsqueeze(-1)
            states = (layer(states) + states) * HALF
        return states


class ConvolutionalTranslator(nn.Module):
    """Encoder and decoder of gated convolutions, learned positions, a dot attention in each layer of the decoder."""

    def __init__(self, vocabulary: int, width: int, layers: int = 3, kernel: int = 3, positions: int = 64):
        super().__init__()
        self.embed = TokenEmbedding(vocabulary, width, math.sqrt(width))
        self.places = TokenEmbedding(positions, width, math.sqrt(width))
        for table in (self.embed, self.places):
            nn.init.normal_(table.weight, std=width**-0.5)
        self.encoder = ConvolutionalEncoder(width, layers, kernel)
        self.layers = nn.ModuleList(GatedConvolution(width, kernel, causal=True) for _ in range(layers))
        self.queries = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.outputs = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.readout = nn.Linear(width, width)

    def _placed(self, ids: torch.Tensor) -> torch.Tensor:
        if ids.shape[1] > self.places.num_embeddings:
            raise ValueError(f"{ids.shape[1]} tokens: at most {self.places.num_embeddings} have a position")
        return self.embed(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))

    def forward(self, source: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """Map source (B, S) and what was written so far (B, T) to the logits (B, T, V) of the next tokens."""
        padded = source.eq(PAD)
        real = ~padded if padded.any() else None
        vectors = self._placed(source)
        keys = self.encoder(vectors, real)  # (B, S, D)
        values = (keys + vectors) * HALF
        # A mean of n vectors is about sqrt(n) times smaller than one of them (sec. 3.5).
        grow = (~padded).sum(1).sqrt()[:, None, None]  # (B, 1, 1)
        states = target = self._placed(written)
        for layer, query, output in zip(self.layers, self.queries, self.outputs, strict=True):
            gated = layer(states)  # (B, T, D)
            scores = (query(gated) + target) * HALF @ keys.transpose(1, 2)  # (B, T, S)
            if real is not None:
                scores = scores.masked_fill(~real.unsqueeze(1), -math.inf)
            context = scores.softmax(-1) @ values * grow
            states = ((gated + output(context) * HALF) * HALF + states) * HALF
        return self.readout(states) @ self.embed.weight.T
