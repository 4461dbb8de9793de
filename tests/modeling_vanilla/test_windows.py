# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A window in chunks is the window as a mask: the same numbers, the same gradients, and no table of all pairs."""

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import DynamicCache

from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForMaskedLM, attention, stacks
from modeling_vanilla.cache_name import CACHE, as_installed
from modeling_vanilla.look.capture import capture
from modeling_vanilla.windows import Window, window_of, windowed_attention

SIZES = dict(vocab_size=97, d_model=24, d_ff=29, num_layers=2, num_heads=4, dropout=0.0)


def naive(query, key, value, window: Window, scaling: float) -> torch.Tensor:
    """Equation 1 by the definition: one query after the other, over the keys that it sees. (B, T, H, K)."""
    batch, heads, length, _ = query.shape
    context = torch.zeros(batch, length, heads, value.shape[3], dtype=query.dtype)
    for b in range(batch):
        for i in range(length):
            seen = [
                j
                for j in range(length)
                if abs(i - j) <= window.half
                and (j <= i or not window.is_causal)
                and (window.real is None or window.real[b, j])
            ]
            for h in range(heads if seen else 0):
                scores = [float(query[b, h, i] @ key[b, h, j]) * scaling for j in seen]
                total = sum(math.exp(score) for score in scores)
                for score, j in zip(scores, seen, strict=True):
                    context[b, i, h] += math.exp(score) / total * value[b, h, j]
    return context


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize(("length", "half"), [(13, 2), (12, 3), (9, 1), (11, 0), (5, 7)])
@pytest.mark.parametrize("padded", [False, True])
def test_the_chunks_are_the_definition(is_causal, length, half, padded):
    torch.manual_seed(0)
    query, key = (torch.randn(2, 4, length, 6, dtype=torch.float64) for _ in range(2))
    value = torch.randn(2, 4, length, 5, dtype=torch.float64)
    real = torch.ones(2, length, dtype=torch.bool)
    real[0, : length // 3], real[1, -2:] = False, False
    window = Window(half, is_causal, real if padded else None)
    mine = windowed_attention(torch.nn.Identity(), query, key, value, window, 0.4)
    torch.testing.assert_close(mine, naive(query, key, value, window, 0.4), atol=1e-12, rtol=1e-12)


def build(variant: str, **options):
    torch.manual_seed(0)
    cls = VanillaForCausalLM if variant == "decoder" else VanillaForMaskedLM
    return cls(VanillaConfig(variant=variant, **(SIZES | {"attention_window": 4} | options)))


@pytest.fixture
def calls(monkeypatch):
    """Count how often an attention runs in chunks."""
    counted = []

    def counting(*args, **kwargs):
        counted.append(1)
        return windowed_attention(*args, **kwargs)

    monkeypatch.setattr(attention, "windowed_attention", counting)
    return counted


@pytest.mark.parametrize("variant", ["encoder", "decoder"])
def test_a_model_with_a_window_is_the_one_with_the_mask(variant, calls, monkeypatch):
    model, ids = build(variant), torch.randint(4, 97, (3, 21))
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    mask[2, -3:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}
    chunked = model(**inputs)
    chunked.loss.backward()
    assert len(calls) == 2
    slopes = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    monkeypatch.setattr(stacks, "window_of", lambda *args: None)
    masked = model(**inputs)
    masked.loss.backward()
    assert len(calls) == 2
    torch.testing.assert_close(chunked.loss, masked.loss)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, slopes[name], atol=1e-6, rtol=1e-4)


def test_generate_reads_the_prompt_in_chunks_and_writes_by_mask(calls):
    model, ids = build("decoder").eval(), torch.randint(4, 97, (2, 21))
    options = dict(max_new_tokens=9, min_new_tokens=9, do_sample=False)
    written = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
    assert len(calls) == 2  # two layers, once
    model.set_attn_implementation("eager")
    assert torch.equal(written, model.generate(ids, attention_mask=torch.ones_like(ids), **options))
    assert len(calls) == 2


def test_what_a_mask_has_to_say(calls):
    """Packed rows, masks of pairs, short rows, other kernels: none runs in chunks."""
    model, ids = build("decoder").eval(), torch.randint(4, 97, (1, 21))
    vectors = torch.zeros(1, 21, 24)
    packed = torch.cat([torch.arange(12), torch.arange(9)])[None]
    assert window_of(model.config, True, vectors, None) is not None
    assert window_of(model.config, True, vectors, None, packed) is None
    assert window_of(model.config, True, vectors, torch.ones(1, 1, 21, 21)) is None
    assert window_of(model.config, True, vectors[:, :8], None) is None
    assert window_of(build("decoder", attn_implementation="eager").config, True, vectors, None) is None
    model(ids, position_ids=packed)
    assert calls == []


def test_who_looks_inside_sees_the_weights(calls):
    model, ids = build("encoder").eval(), torch.randint(4, 97, (1, 21))
    with torch.no_grad(), capture(model) as seen:
        model(ids)
    assert calls == []
    model.set_attn_implementation("eager")
    with torch.no_grad():
        expected = model(ids, output_attentions=True).attentions
    for (_, layer), record in seen.items():
        torch.testing.assert_close(record.calls[0], expected[layer], atol=5e-6, rtol=0)


def kept(cache) -> list[int]:
    """Return how many keys each layer of a cache holds."""
    return [layer.keys.shape[2] for layer in cache.layers]


def writer(window: int, kernel: str = "sdpa"):
    """A language model in double precision whose next tokens are far from uniform."""
    model = build("decoder", attention_window=window, attn_implementation=kernel).double().eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return model


def prompt() -> dict[str, torch.Tensor]:
    ids = torch.randint(4, 97, (3, 21), generator=torch.Generator().manual_seed(5))
    mask = torch.ones_like(ids)
    mask[1, :5] = 0
    mask[2, :19] = 0  # more padding than the window is wide
    return {"input_ids": ids, "attention_mask": mask}


WAYS = {
    "greedy": dict(do_sample=False),
    "beams": dict(num_beams=3, output_scores=True),
    "static": dict(do_sample=False, cache_implementation="static"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("window", "kernel"), [(1, "sdpa"), (2, "eager"), (7, "sdpa"), (8, "eager"), (90, "sdpa")])
def test_the_cache_keeps_only_what_the_window_sees(way, window, kernel):
    """The same tokens and numbers as with a cache that keeps all of them."""
    model, options = writer(window, kernel), WAYS[way] | dict(max_new_tokens=11, min_new_tokens=11)
    options |= dict(return_dict_in_generate=True, output_logits=True)
    output = model.generate(**prompt(), **options)
    options.pop("cache_implementation", None)
    everything = DynamicCache()
    expected = model.generate(**prompt(), **options, **as_installed(everything))
    assert kept(everything) == [31, 31]
    assert output.sequences.tolist() == expected.sequences.tolist()
    torch.testing.assert_close(output.logits, expected.logits, atol=1e-10, rtol=0)
    if way == "beams":
        torch.testing.assert_close(output.sequences_scores, expected.sequences_scores, atol=1e-10, rtol=0)
    # A step sees itself and so many before; a static cache has room for the step too, and none keeps fewer than one.
    most = max(1, window // 2) + (way == "static")
    assert max(kept(output[CACHE])) <= min(most, 32)


@pytest.mark.parametrize("window", [2, 7])
def test_a_cache_with_a_window_goes_on_where_it_stopped(window):
    """By hand, piece by piece; and a second turn of a chat."""
    model, ids = writer(window), prompt()["input_ids"]
    expected = model(ids, use_cache=False).logits
    cache = DynamicCache(config=model.config)
    pieces = [model(piece, **as_installed(cache), use_cache=True).logits for piece in ids.split([9, 1, 8, 3], 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-10, rtol=0)
    assert kept(cache) == [window // 2] * 2
    assert cache.get_seq_length() == 21
    options = dict(max_new_tokens=5, min_new_tokens=5, do_sample=False, return_dict_in_generate=True)
    first = model.generate(ids[:1], **options)
    turn = torch.cat([first.sequences, ids[1:2]], 1)
    second = model.generate(turn, **options, **as_installed(first[CACHE])).sequences
    assert second.tolist() == model.generate(turn, **options).sequences.tolist()


@pytest.mark.parametrize("drafts", ["a smaller model", "the prompt"])
def test_assisted_decoding_with_a_window(drafts):
    """What was drafted and is not taken leaves the cache again."""
    model, ids = writer(7), prompt()["input_ids"][:1].repeat(1, 2)
    options = dict(max_new_tokens=15, min_new_tokens=15, do_sample=False)
    expected = model.generate(ids, **options)
    how = {"assistant_model": writer(4)} if drafts == "a smaller model" else {"prompt_lookup_num_tokens": 3}
    assert model.generate(ids, **options, **how).tolist() == expected.tolist()


def test_a_mask_of_pairs_is_over_the_keys_that_are_left():
    model, ids = writer(6), prompt()["input_ids"]
    expected = model(ids, use_cache=False).logits
    cache = DynamicCache(config=model.config)
    model(ids[:, :20], **as_installed(cache), use_cache=True)
    with pytest.raises(ValueError, match="over 21 keys and must be over 4: with attention_window=6"):
        model(ids[:, 20:], attention_mask=torch.ones(3, 1, 1, 21, dtype=torch.bool), **as_installed(cache))
    mask = torch.ones(3, 1, 1, 4, dtype=torch.bool)
    last = model(ids[:, 20:], attention_mask=mask, **as_installed(cache)).logits
    torch.testing.assert_close(last, expected[:, 20:], atol=1e-10, rtol=0)


def test_a_source_is_never_forgotten():
    """Both halves of a cache are sized alike: with a window over the source, its beginning would be lost."""
    sizes = SIZES | {"attention_window": 3}
    for other in (VanillaConfig(**sizes), VanillaConfig(variant="decoder", add_cross_attention=True, **sizes)):
        assert not hasattr(other, "sliding_window")
        with pytest.raises(AttributeError, match="a decoder alone; attention_window is"):
            other.sliding_window = 2
    config = VanillaConfig(variant="decoder", **sizes)
    assert config.sliding_window == 2
    assert "sliding_window" not in config.to_dict()
    assert VanillaConfig.from_dict(config.to_dict()).sliding_window == 2


def test_the_word_of_transformers_for_a_window_sets_ours():
    config = VanillaConfig(variant="decoder", **SIZES)
    assert config.sliding_window is None
    for seen in (2, 5, None):
        config.sliding_window = seen
        assert config.sliding_window == seen
    config.sliding_window = 5
    assert config.attention_window == 8
    with pytest.raises(StrictDataclassFieldValidationError, match="attention_window"):
        config.sliding_window = 2.5
    with pytest.raises(ValueError, match="sliding_window=0 must be at least 1"):
        config.sliding_window = 0
