# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Continuous batching (`generate_batch`): requests share one paged cache, and each gets the text it would get alone."""

from dataclasses import fields

import pytest
import torch
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

# transformers 5.17 still called it block_size.
PAGE = "page_size" if "page_size" in {field.name for field in fields(ContinuousBatchingConfig)} else "block_size"
GPT2 = {"norm_order": "pre", "positions": "learned", "scale_embeddings": False, "activation": "gelu_new"}


@pytest.fixture
def prompts(tokens) -> list[list[int]]:
    """Return prompts of unequal length, 20 tokens in all."""
    return [tokens(1, length, seed=length)[0].tolist() for length in (3, 9, 5, 1, 2)]


def settings(**overrides) -> GenerationConfig:
    return GenerationConfig(**({"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0} | overrides))


@torch.no_grad()
def alone(model, prompts: list[list[int]], config: GenerationConfig) -> list[list[int]]:
    """Return what each prompt gives on its own: whole forwards, without a cache and without `generate`."""
    ends = config.eos_token_id or []
    texts = []
    for prompt in prompts:
        text: list[int] = []
        while len(text) < config.max_new_tokens and (not text or text[-1] not in ends):
            text.append(int(model(torch.tensor([prompt + text]), use_cache=False).logits[0, -1].argmax()))
        texts.append(text)
    return texts


def together(model, prompts: list[list[int]], config: GenerationConfig, **batching) -> list:
    """Return the results of all prompts in their order; pages of 4 tokens, at most 8 tokens in a step."""
    batching = {PAGE: 4, "num_blocks": 32, "max_batch_tokens": 8} | batching
    results = model.generate_batch(
        prompts,
        generation_config=config,
        continuous_batching_config=ContinuousBatchingConfig(**batching),
        progress_bar=False,
    )
    return [results[name] for name in sorted(results, key=lambda name: int(name.rpartition("_")[2]))]


def assert_same(model, prompts, config, **batching) -> list[list[int]]:
    expected = alone(model, prompts, config)
    results = together(model, prompts, config, **batching)
    assert [result.error for result in results] == [None] * len(prompts)
    assert [result.generated_tokens for result in results] == expected
    return expected


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize(
    "options", [{"jitter": 0.1, "tie_word_embeddings": False}, {"jitter": 0.3} | GPT2], ids=["paper", "gpt2"]
)
def test_each_text_is_the_one_of_its_prompt_alone(build, prompts, options, kernel):
    """A step holds fewer tokens than the prompts, so that they are read in parts and beside texts half written."""
    model = build("decoder", eos_token_id=None, attn_implementation=kernel, **options)
    texts = assert_same(model, prompts, settings())
    # Small random models like to repeat one token, which would say nothing about the cache.
    assert len({tuple(text) for text in texts}) == len(prompts)
    assert min(len(set(text)) for text in texts) >= 3


def test_requests_end_at_their_own_places(build, prompts):
    """A finished request gives its pages back; a cache of 7 pages holds two or three requests at a time."""
    model = build("decoder", jitter=0.3, eos_token_id=None, **GPT2)
    free = alone(model, prompts, settings())
    ends = [free[0][6], free[1][3]]
    texts = assert_same(model, prompts, settings(eos_token_id=ends), num_blocks=7)
    assert len({len(text) for text in texts}) >= 3
    assert max(len(text) for text in texts) == 12


def test_a_step_may_hold_more_tokens_than_there_are_positions(build, tokens):
    """All prompts are read in one row of 60 tokens, for 37 positions."""
    model = build("decoder", jitter=0.3, eos_token_id=None, **GPT2)
    assert_same(model, [tokens(1, 20, seed)[0].tolist() for seed in range(3)], settings(), max_batch_tokens=64)


def test_a_window_is_refused(build, prompts):
    """The paged mask knows nothing of it: without an error the texts would silently be those of full attention."""
    results = together(build("decoder", attention_window=3), prompts, settings())
    assert all("attention_window=3" in result.error for result in results)


def test_too_long_a_prompt_is_refused(build, tokens):
    (result,) = together(build("decoder"), [tokens(1, 38)[0].tolist()], settings(), max_batch_tokens=64)
    assert "max_position_embeddings=37" in result.error
