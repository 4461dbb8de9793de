# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""TransformerLens reads no architecture of this project, but GPT-2's: a decoder goes there through the bridge."""

import pytest
import torch
from transformers import AutoTokenizer

from modeling_vanilla import to_transformers

pytest.importorskip("transformer_lens", reason="it needs typeguard >= 4.2, and inseq, which is tested here, <= 2.13.3")

from transformer_lens.model_bridge import TransformerBridge

GPT2 = {"norm_order": "pre", "positions": "learned", "scale_embeddings": False, "activation": "gelu_new"}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def both(tiny, causal_tokenizer, tmp_path):
    """Return a decoder that shows its weights, the same in TransformerLens, and ids, (B, T)."""
    causal_tokenizer.save_pretrained(tmp_path)  # it loads the tokenizer again, from where it lies
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    model = tiny("decoder", len(tokenizer), jitter=0.1, attn_implementation="eager", **GPT2)
    bridge = TransformerBridge.boot_transformers(
        "gpt2", hf_model=to_transformers(model), tokenizer=tokenizer, device="cpu"
    )
    return model, bridge, torch.randint(7, len(tokenizer), (2, 5))


def test_logits_and_what_its_hooks_see_are_the_models(both):
    model, bridge, ids = both
    with torch.no_grad():
        logits, cache = bridge.run_with_cache(ids)
        output = model(ids, output_hidden_states=True, output_attentions=True)
    torch.testing.assert_close(logits, output.logits, **CLOSE)
    for layer, weights in enumerate(output.attentions):
        torch.testing.assert_close(cache[f"blocks.{layer}.attn.hook_pattern"], weights, **CLOSE)
        residual = cache[f"blocks.{layer}.hook_resid_pre"]
        torch.testing.assert_close(residual, output.hidden_states[layer], **CLOSE)


def test_a_head_that_a_hook_takes_out_is_a_head_without_output_weights(both):
    model, bridge, ids = both
    layer, head = 1, 2

    def without(outputs, hook):
        outputs[:, :, head] = 0  # (B, T, H, K)
        return outputs

    with torch.no_grad():
        whole = model(ids).logits
        logits = bridge.run_with_hooks(ids, fwd_hooks=[(f"blocks.{layer}.attn.hook_z", without)])
        size = model.config.head_dim
        model.get_decoder().layers[layer].self_attn.out_proj.weight[:, head * size : (head + 1) * size] = 0
        expected = model(ids).logits
    assert not torch.allclose(whole, expected, atol=1e-2)
    torch.testing.assert_close(logits, expected, **CLOSE)
