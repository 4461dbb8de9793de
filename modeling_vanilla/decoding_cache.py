# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A decoder that writes one token of each hypothesis at a time, for the search of `decoding`.

It computes what `VanillaDecoder` computes, from the same modules. What it leaves out is what one token does not need:
masks and positions that are built anew, checks of ids that the search chose itself, three products where one does. The
beams of a source are queries over one cache, and a mask says which places of it each beam has written: beams that move
move a mask, and no key or value. Four beams of 16 sources are written 1.46 (translator) to 1.74 times (decoder) as fast
as by `generate`, which moves them, one beam 1.42 to 1.44 times (AMD EPYC, width 256, benchmarks/decoding.py).
Dimension letters: B sources, N beams of each, P prompt tokens, C places of the cache, S source length, D d_model,
H heads, K head_dim, U v_head_dim, V vocabulary.
"""

import math

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import DynamicCache

from .attention import MultiHeadAttention
from .cache_name import as_installed
from .decoding_products import Product, first_step_with_copy, product
from .layers import DecoderLayer

ROOM = 32
"""Steps that the cache has room for at first; it doubles when they are used up."""
CHUNK = 64
"""Entries of the vocabulary whose maximum is taken first; see `best`."""


class _Layer:
    """One layer with its keys and values: its own, and those of the encoder's output."""

    def __init__(self, layer: DecoderLayer, memory: torch.Tensor | None, rows: int):
        self.layer = layer
        attention = layer.self_attn
        self.widths = attention.q_proj.out_features, attention.k_proj.out_features, attention.v_proj.out_features
        heads, weight = self.widths[0] // attention.head_dim, attention.q_proj.weight
        self.keys = weight.new_empty(rows, heads, 0, attention.head_dim)  # (B, H, C, K)
        self.values = weight.new_empty(rows, heads, 0, attention.v_head_dim)  # (B, H, C, U)
        self.memory: tuple[torch.Tensor, torch.Tensor] | None = None
        if memory is not None:
            cross = layer.cross_attn
            keys = cross._split_heads(cross.k_proj(memory), cross.head_dim)
            values = cross._split_heads(cross.v_proj(memory), cross.v_head_dim)
            self.memory = keys.contiguous(), values.contiguous()  # (B, H, S, K), (B, H, S, U)

    def take_products(self, copy: bool) -> None:
        """Take the products of the layer, see `decoding_products`."""
        attention, network = self.layer.self_attn, self.layer.feed_forward
        self.project = product(attention.q_proj, attention.k_proj, attention.v_proj, copy=copy)
        self.out = product(attention.out_proj, copy=copy)
        self.fc1, self.fc2 = product(network.fc1, copy=copy), product(network.fc2, copy=copy)
        if self.memory is not None:
            cross = self.layer.cross_attn
            self.query, self.cross_out = product(cross.q_proj, copy=copy), product(cross.out_proj, copy=copy)

    def step(self, states: torch.Tensor, first: int, mask: torch.Tensor | None, memory_mask: torch.Tensor | None):
        """Map (B * N, D) to (B * N, D); keys and values of the new tokens go to places `first` to `first` + N."""
        layer, rows = self.layer, self.keys.shape[0]
        inputs = layer.self_attn_norm(states) if layer.pre_norm else states
        query, key, value = self.project(inputs).split(self.widths, -1)
        attention = layer.self_attn
        last = first + len(states) // rows
        self.keys[:, :, first:last] = _heads(key, rows, attention.head_dim)
        self.values[:, :, first:last] = _heads(value, rows, attention.v_head_dim)
        written = self.keys[:, :, :last], self.values[:, :, :last]
        states = self._add(states, layer.self_attn_norm, self.out(_attend(attention, query, *written, mask)))
        if self.memory is not None:
            cross = layer.cross_attn
            inputs = layer.cross_attn_norm(states) if layer.pre_norm else states
            context = _attend(cross, self.query(inputs), *self.memory, memory_mask)
            states = self._add(states, layer.cross_attn_norm, self.cross_out(context))
        activation = layer.feed_forward.activation
        inputs = layer.feed_forward_norm(states) if layer.pre_norm else states
        return self._add(states, layer.feed_forward_norm, self.fc2(activation(self.fc1(inputs))))

    def _add(self, states: torch.Tensor, norm: nn.Module, update: torch.Tensor) -> torch.Tensor:
        return states + update if self.layer.pre_norm else norm(states + update)

    def grow(self, places: int) -> None:
        """Make room for so many places."""
        self.keys, self.values = _grown(self.keys, places, 2), _grown(self.values, places, 2)

    def keep(self, rows: torch.Tensor) -> None:
        """Forget all sources but these."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        if self.memory is not None:
            self.memory = self.memory[0][rows], self.memory[1][rows]


def _heads(states: torch.Tensor, rows: int, width: int) -> torch.Tensor:
    return states.view(rows, -1, states.shape[-1] // width, width).transpose(1, 2)  # (B * N, H * K) -> (B, H, N, K)


def _attend(
    attention: MultiHeadAttention,
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Compute equation 1 for queries (B * N, H * K), each beam a query of its source: (B * N, H * U)."""
    query = _heads(query, len(keys), attention.head_dim)
    context = scaled_dot_product_attention(query, keys, values, mask, scale=attention.scaling)  # (B, H, N, U)
    return context.transpose(1, 2).reshape(-1, values.shape[1] * values.shape[3])


def _grown(tensor: torch.Tensor, size: int, dim: int, fill: float | None = None) -> torch.Tensor:
    shape = list(tensor.shape)
    shape[dim] = size
    larger = tensor.new_empty(shape) if fill is None else tensor.new_full(shape, fill)
    larger.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
    return larger


class StepDecoder:
    """The decoder of a model, its cache, and the head: tokens (B, N) in, logits (B * N, V) out.

    Args:
        model: `VanillaForConditionalGeneration` or `VanillaForCausalLM`, in evaluation mode.
        beams: N.
        steps: Calls of `step` at most.
        rows: B.
    """

    def __init__(self, model, beams: int, steps: int, rows: int, memory: torch.Tensor | None = None):
        self.decoder = model.model.decoder
        self.beams, self.steps, self.room, self.done = beams, steps, 0, 0
        self.layers = [_Layer(layer, memory, rows) for layer in self.decoder.layers]
        self.head: Product = model.lm_head
        self.copy_at = first_step_with_copy(self.decoder, self.head, rows * beams, steps)
        self._take_products(copy=self.copy_at == 0)
        self.weight = self.decoder.layers[0].self_attn.q_proj.weight  # of the dtype and on the device of all here
        self.memory_mask: torch.Tensor | None = None
        self.length = 0  # P, places of the cache that all beams of a source share
        self.next: int | torch.Tensor = 0  # the position of the next token: of all, or (B, 1)
        # (B, 1, N, C): 0 where a beam sees what stands there. One beam of sources without padding needs none.
        self.mask = self.weight.new_zeros(rows, 1, beams, 0) if beams > 1 else None

    @classmethod
    def of_translator(cls, model, beams: int, steps: int, memory: torch.Tensor, mask: torch.Tensor | None):
        """Start behind a source: the encoder's output (B, S, D), and its mask (B, S), nonzero = real token."""
        decoder = cls(model, beams, steps, len(memory), memory)
        decoder.memory_mask = None if mask is None else decoder._additive(mask)
        return decoder

    @classmethod
    def of_writer(cls, model, beams: int, steps: int, ids: torch.Tensor, mask: torch.Tensor | None):
        """Read prompts (B, P), padded on the left as the mask (B, P) says; return the decoder, and logits (B, V)."""
        decoder = cls(model, beams, steps, len(ids))
        cache = DynamicCache(config=model.config)
        out = model(ids, attention_mask=mask, use_cache=True, logits_to_keep=1, **as_installed(cache))
        for layer, read in zip(decoder.layers, cache.layers, strict=True):
            layer.keys, layer.values = read.keys, read.values
        decoder.next = decoder.length = ids.shape[1]
        seen = None if mask is None else decoder._additive(mask)
        if seen is not None:
            decoder.next = mask.ne(0).sum(-1, keepdim=True)
        if decoder.mask is not None or seen is not None:
            shared = decoder.weight.new_zeros(len(ids), 1, 1, ids.shape[1]) if seen is None else seen
            decoder.mask = shared.repeat(1, 1, beams, 1)
        return decoder, out.logits[:, -1]

    def _additive(self, mask: torch.Tensor) -> torch.Tensor | None:
        """Turn (B, S) into what is added to the scores, (B, 1, 1, S); None where all tokens are real."""
        hidden = mask.to(self.weight.device).eq(0)[:, None, None]
        return self.weight.new_zeros(hidden.shape).masked_fill(hidden, -math.inf) if hidden.any() else None

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read one more token of each beam, (B, N), and return the logits of the next (B * N, V)."""
        if self.done and self.done == self.copy_at:
            self._take_products(copy=True)
        if self.done == self.room:
            self._grow()
        first = self.length + self.beams * self.done
        mask = None
        if self.mask is not None:
            mask = self.mask[..., : first + self.beams]
            # A beam sees the token that it reads, and no other beam's.
            mask[..., first:] = mask.new_full((self.beams, self.beams), -math.inf).fill_diagonal_(0.0)
        decoder, embeddings = self.decoder, self.decoder.embeddings
        vectors = decoder.embed_tokens(tokens)  # (B, N, D)
        positions = self.next + torch.zeros(1, 1, dtype=torch.long, device=tokens.device)  # (B or 1, 1)
        states = embeddings(vectors, positions).view(-1, vectors.shape[-1])  # (B * N, D)
        for layer in self.layers:
            states = layer.step(states, first, mask, self.memory_mask)
        self.done, self.next = self.done + 1, self.next + 1
        return self.head(decoder.finish(states))

    def _take_products(self, copy: bool) -> None:
        for layer in self.layers:
            layer.take_products(copy)
        self.head = product(self.head, copy=copy)

    def _grow(self) -> None:
        self.room = min(max(ROOM, 2 * self.room), self.steps)
        places = self.length + self.beams * self.room
        for layer in self.layers:
            layer.grow(places)
        if self.mask is not None:
            self.mask = _grown(self.mask, places, 3, fill=-math.inf)

    def follow(self, parents: torch.Tensor) -> None:
        """Let beam j of each source go on from beam parents[:, j] (B, N): only the mask moves."""
        last = self.length + self.beams * self.done
        written = self.mask[:, 0, :, self.length : last]
        written.copy_(written.gather(1, parents[:, :, None].expand(-1, -1, written.shape[2])))

    def keep(self, rows: torch.Tensor) -> None:
        """Forget all sources but these, by number."""
        for layer in self.layers:
            layer.keep(rows)
        self.mask = None if self.mask is None else self.mask[rows]
        self.memory_mask = None if self.memory_mask is None else self.memory_mask[rows]
        self.next = self.next[rows] if torch.is_tensor(self.next) else self.next


def best(values: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return values and places of the `count` largest of each row (R, V), largest first.

    The largest lie in the chunks with the largest maxima. For a vocabulary of 32k that is three times as fast as to
    sort out all of a row at once (benchmarks/decoding.py).
    """
    rows, size = values.shape
    if size < 4 * CHUNK * count:
        return values.topk(count, -1)
    whole = size // CHUNK * CHUNK
    chunks = values[:, :whole].view(rows, -1, CHUNK)
    numbers = chunks.amax(-1).topk(count, -1)[1][:, :, None]  # (R, count, 1)
    places = (numbers * CHUNK + torch.arange(CHUNK, device=values.device)).flatten(1)
    places = torch.cat([places, torch.arange(whole, size, device=values.device).expand(rows, -1)], 1)
    top, which = values.gather(1, places).topk(count, -1)
    return top, places.gather(1, which)
