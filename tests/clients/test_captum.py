# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""captum on a language model and on a translator: its attributions are the changes and gradients that torch computes.

Dimension letters: T target tokens, S prompt tokens, D d_model.
"""

import pytest
import torch

captum = pytest.importorskip("captum")

from captum.attr import (
    FeatureAblation,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    LLMAttribution,
    LLMGradientAttribution,
    TextTokenInput,
)

PROMPT, TARGET = "the dog runs in", " the garden"


@pytest.fixture
def model(tiny, causal_tokenizer):
    return tiny("decoder", len(causal_tokenizer), jitter=0.05)


def log_probability(model, prompt, target) -> torch.Tensor:
    """Return log p of each target token after the prompt (S,) and the target before it, (T,): one forward of all."""
    logits = model(torch.cat([prompt, target])[None]).logits[0, len(prompt) - 1 : -1]  # (T, V)
    return logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]


def encoded(tokenizer) -> list[torch.Tensor]:
    return [torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (PROMPT, TARGET)]


def test_ablation_is_the_change_of_log_p_without_the_token(model, causal_tokenizer):
    prompt, target = encoded(causal_tokenizer)
    unknown = causal_tokenizer.unk_token_id or 0
    text = TextTokenInput(PROMPT, causal_tokenizer, baselines=unknown, skip_tokens=[])
    method = LLMAttribution(FeatureAblation(model), causal_tokenizer)
    result = method.attribute(text, target=target, use_cached_outputs=False)
    with torch.no_grad():
        whole = log_probability(model, prompt, target)
        for place in range(len(prompt)):
            without = prompt.clone()
            without[place] = unknown
            change = whole - log_probability(model, without, target)
            torch.testing.assert_close(result.token_attr[:, place], change, atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(result.seq_attr[place], change.sum(), atol=1e-4, rtol=1e-4)
    assert result.token_attr.shape == (len(target), len(prompt))


def test_with_its_own_use_of_a_cache_it_is_refused(model, causal_tokenizer):
    """captum 0.9 gives all ids along with a full cache, as if they were new: GPT-2 computes wrong numbers from that."""
    text = TextTokenInput(PROMPT, causal_tokenizer, baselines=0)
    method = LLMAttribution(FeatureAblation(model), causal_tokenizer)
    with pytest.raises(ValueError, match="cache_position is not an input of this model"):
        method.attribute(text, target=encoded(causal_tokenizer)[1], use_cached_outputs=True)


def test_gradient_times_embedding_is_that_of_autograd(model, causal_tokenizer):
    prompt, target = encoded(causal_tokenizer)
    layer = model.get_input_embeddings()
    method = LLMGradientAttribution(LayerGradientXActivation(model, layer), causal_tokenizer)
    result = method.attribute(TextTokenInput(PROMPT, causal_tokenizer, skip_tokens=[]), target=target)
    embeddings = layer(torch.cat([prompt, target])[None]).detach().requires_grad_()
    logits = model(inputs_embeds=embeddings).logits[0, len(prompt) - 1 : -1]
    scores = logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]  # (T,)
    for row, score in enumerate(scores):
        (gradient,) = torch.autograd.grad(score, embeddings, retain_graph=True)
        expected = (gradient * embeddings).sum(-1)[0, : len(prompt)]  # (S,)
        torch.testing.assert_close(result.token_attr[row], expected, atol=1e-4, rtol=1e-4)


def test_integrated_gradients_sum_to_the_whole_change(tiny, seq2seq_tokenizer):
    """Completeness (Sundararajan et al. 2017, prop. 1): over the source they sum to f(source) - f(baseline)."""
    translator = tiny("encoder-decoder", len(seq2seq_tokenizer), jitter=0.02)
    source = seq2seq_tokenizer("a bird sings", return_tensors="pt")["input_ids"]
    target = torch.tensor([[translator.config.decoder_start_token_id, 9, 11]])
    baseline = torch.full_like(source, seq2seq_tokenizer.pad_token_id)

    def score(ids):
        return translator(ids, decoder_input_ids=target.expand(len(ids), -1)).logits[:, -1].log_softmax(-1)[:, 13]

    layer = translator.get_encoder().get_input_embeddings()
    attribution = LayerIntegratedGradients(score, layer).attribute(source, baseline, n_steps=128)
    assert attribution.shape == (1, source.shape[1], translator.config.d_model)
    with torch.no_grad():
        change = (score(source) - score(baseline)).item()
    assert abs(change) > 0.01
    assert attribution.sum().item() == pytest.approx(change, rel=0.02)
