# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""vLLM's way of running a model of transformers, acted out on a CPU: vLLM itself wants a GPU.

It builds the base model without weights, puts its own token table and attention in, gives all requests as one row
without mask or cache, and applies `lm_head` itself. The attention here keeps a paged cache, as vLLM's does.
"""

import inspect
from types import SimpleNamespace

import pytest
import torch
from accelerate import init_empty_weights
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

PAGE = 4  # tokens
GPT2 = {"norm_order": "pre", "positions": "learned", "scale_embeddings": False, "activation": "gelu_new"}


def vllm_attention(module, query, key, value, attention_mask, scaling=None, attention_instances=None, **kwargs):
    """Hand one row (1, H, N, K) to the layer's instance as (N, H*K) and return what it gives, of the same shape."""
    assert attention_mask is None
    layer = attention_instances[module.layer_idx]
    layer.impl.scale = float(scaling)
    return layer(*(states.transpose(1, 2).reshape(query.shape[-2], -1) for states in (query, key, value))), None


@pytest.fixture(autouse=True)
def registered():
    """Register the attention function for one test."""
    before = ALL_ATTENTION_FUNCTIONS._global_mapping.get("vllm")
    ALL_ATTENTION_FUNCTIONS.register("vllm", vllm_attention)
    yield
    del ALL_ATTENTION_FUNCTIONS._global_mapping["vllm"]
    if before is not None:
        ALL_ATTENTION_FUNCTIONS.register("vllm", before)


class PagedAttention(nn.Module):
    """Attention of one layer over the pages of its requests."""

    def __init__(self, config, batch: SimpleNamespace, pages: int = 64):
        super().__init__()
        self.heads, self.head_dim, self.batch = config.num_attention_heads, config.head_dim, batch
        self.impl = SimpleNamespace(scale=None)
        self.pages = torch.full((2, pages, PAGE, self.heads, self.head_dim), torch.nan)  # unwritten places poison

    def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        query, key, value = (x.view(-1, self.heads, self.head_dim) for x in (query, key, value))
        contexts, start = [], 0
        for request, count in self.batch.shares:  # whose tokens follow each other in the row, and how many
            new = slice(start, start + count)
            places = torch.arange(request.done + count)
            table = torch.tensor(request.pages)[places // PAGE], places % PAGE
            for store, states in zip(self.pages, (key, value), strict=True):
                store[table[0][request.done :], table[1][request.done :]] = states[new]
            keys, values = (store[table].transpose(0, 1) for store in self.pages)  # (H, past + count, K)
            scores = query[new].transpose(0, 1) @ keys.transpose(1, 2) * self.impl.scale
            if self.batch.causal:
                scores = scores.masked_fill(places > places[request.done :, None], -torch.inf)
            contexts.append((scores.softmax(-1) @ values).transpose(0, 1).flatten(1))
            start += count
        return torch.cat(contexts)


class ScaledTable(nn.Module):
    """The token table that takes the place of the model's own; its factor comes from `embed_scale` alone."""

    def __init__(self, weight: torch.Tensor, own: nn.Module):
        super().__init__()
        self.weight, self.embed_scale = nn.Parameter(weight), getattr(own, "embed_scale", None)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows = nn.functional.embedding(ids, self.weight)
        return rows if self.embed_scale is None else rows * self.embed_scale


class Engine:
    """A model folder, served as vLLM serves it."""

    def __init__(self, folder):
        weights = load_file(folder / "model.safetensors")
        config = AutoConfig.from_pretrained(folder)
        config._attn_implementation = "vllm"
        with init_empty_weights(include_buffers=False):
            self.model = AutoModel.from_config(config).eval()
        # This class is the one that it compiles, with these arguments of changing length.
        compiled = inspect.signature(type(self.model.get_decoder()).forward).parameters
        assert {"input_ids", "inputs_embeds", "position_ids"} <= compiled.keys()
        body = {name.removeprefix("model."): value for name, value in weights.items() if name.startswith("model.")}
        self.model.load_state_dict(body, assign=True)
        own = self.model.get_input_embeddings()
        self.model.set_input_embeddings(ScaledTable(own.weight.data, own))
        self.lm_head = weights.get("lm_head.weight", own.weight.data)
        # One module that is not causal makes the whole model an encoder.
        causal = all(getattr(module, "is_causal", True) for module in self.model.modules())
        self.batch = SimpleNamespace(shares=[], causal=causal)
        self.layers = {i: PagedAttention(config, self.batch) for i in range(config.num_hidden_layers)}
        self.free = torch.randperm(64, generator=torch.Generator().manual_seed(0)).tolist()

    @torch.no_grad()
    def hidden_states(self, shares: list) -> torch.Tensor:
        """Run the next `count` tokens of each request, all in one row (1, N), and return (N, D)."""
        self.batch.shares = shares
        for request, count in shares:
            while len(request.pages) * PAGE < request.done + count:
                request.pages.append(self.free.pop())
        ids = [torch.tensor(request.ids[request.done : request.done + count]) for request, count in shares]
        places = [torch.arange(request.done, request.done + count) for request, count in shares]
        outputs = self.model(
            input_ids=torch.cat(ids)[None],
            inputs_embeds=None,
            use_cache=False,
            position_ids=torch.cat(places)[None],
            attention_instances=self.layers,
            return_dict=False,
        )
        return outputs[0][0]

    def step(self, shares: list) -> None:
        """Run one step; a request whose last token was read gets its next one."""
        rows = self.hidden_states(shares).split([count for _, count in shares])
        for (request, count), hidden in zip(shares, rows, strict=True):
            request.done += count
            if request.done == len(request.ids):
                request.ids.append(int((hidden[-1] @ self.lm_head.T).argmax()))


def request_of(prompt: torch.Tensor) -> SimpleNamespace:
    return SimpleNamespace(ids=prompt[0].tolist(), done=0, pages=[])


@pytest.mark.parametrize(
    "options",
    [{"jitter": 0.1, "tie_word_embeddings": False}, {"jitter": 0.2}, {"jitter": 0.3} | GPT2],
    ids=["untied", "paper", "gpt2"],
)
def test_requests_get_the_texts_that_generate_gives(build, tokens, tmp_path, options):
    """Prompts are read together, one of them in parts; requests come while others write."""
    model = build("decoder", eos_token_id=None, **options)
    prompts = [tokens(1, length, seed=length) for length in (3, 9, 5, 1)]
    expected = [model.generate(p, attention_mask=torch.ones_like(p), max_new_tokens=12) for p in prompts]
    assert len({tuple(row[0, -12:].tolist()) for row in expected}) == 4
    model.save_pretrained(tmp_path)

    engine = Engine(tmp_path)
    a, b, c, d = (request_of(prompt) for prompt in prompts)
    engine.step([(a, 3), (b, 4)])
    engine.step([(b, 5), (a, 1)])
    engine.step([(a, 1), (c, 5), (b, 1)])
    for number in range(12):
        running = [(r, len(r.ids) - r.done) for r in (d, b, a, c) if r is not d or number > 3]
        engine.step(running)
    for _ in range(6):
        engine.step([(d, 1), (c, 1)])
    for request, row, prompt in zip((a, b, c, d), expected, prompts, strict=True):
        total = prompt.shape[1] + 12
        assert request.ids[:total] == row[0].tolist()
        assert len(request.ids) >= total


def test_a_row_may_hold_more_tokens_than_there_are_positions(build, tokens, tmp_path):
    """The row is as long as all requests together: 60 tokens for 37 positions."""
    model = build("decoder")
    model.save_pretrained(tmp_path)
    prompts = [tokens(1, 20, seed) for seed in range(3)]
    got = Engine(tmp_path).hidden_states([(request_of(prompt), 20) for prompt in prompts]).split(20)
    for row, prompt in zip(got, prompts, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(row, model.model(prompt).last_hidden_state[0], atol=1e-5, rtol=0)


def test_an_encoder_reads_texts_side_by_side(build, tokens, tmp_path):
    """vLLM serves encoders for their hidden states, with attention that sees the whole text and no other."""
    model = build("encoder")
    model.save_pretrained(tmp_path)
    engine = Engine(tmp_path)
    assert not engine.batch.causal
    texts = [tokens(1, length, seed=length) for length in (20, 7, 15)]
    got = engine.hidden_states([(request_of(text), text.shape[1]) for text in texts]).split([20, 7, 15])
    for row, text in zip(got, texts, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(row, model.model(text).last_hidden_state[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["encoder", "decoder"])
def test_a_window_is_refused(build, tokens, tmp_path, variant):
    """Attention that takes no mask would see everything, and the texts would silently be other ones."""
    build(variant, attention_window=3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="attention_window=3 .*'vllm' would ignore"):
        Engine(tmp_path).hidden_states([(request_of(tokens(1, 5)), 5)])
