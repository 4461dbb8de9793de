# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Bridges to BERT, RoBERTa, GPT-2, BART and Marian: same logits, same texts, same ids, both ways."""

import pytest
import torch
import transformers
from torch import nn
from transformers import PreTrainedModel

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration, from_transformers, to_transformers
from modeling_vanilla.convert.layouts import LAYOUTS
from modeling_vanilla.convert.weights import marian_order

V, D, F, H = 31, 24, 29, 4
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])

BERT = dict(vocab_size=V, hidden_size=D, num_hidden_layers=3, num_attention_heads=H, intermediate_size=F)
BERT |= dict(max_position_embeddings=11, type_vocab_size=3, num_labels=5)
STACKS = dict(vocab_size=V, d_model=D, encoder_layers=2, decoder_layers=3, max_position_embeddings=40)
STACKS |= dict(encoder_attention_heads=H, decoder_attention_heads=H, encoder_ffn_dim=F, decoder_ffn_dim=F)
OPTIONS = {
    "bert": BERT,
    "roberta": BERT | dict(max_position_embeddings=13, type_vocab_size=1, pad_token_id=1),
    "gpt2": dict(
        vocab_size=V, n_embd=D, n_layer=3, n_head=H, n_inner=F, n_positions=40, bos_token_id=1, eos_token_id=2
    ),
    "bart": STACKS | dict(pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2),
    "marian": STACKS
    | dict(pad_token_id=V - 1, decoder_start_token_id=V - 1, eos_token_id=0, scale_embedding=True)
    | dict(activation_function="swish"),
}
CASES = [(kind, name) for kind, layout in LAYOUTS.items() for name in layout.classes]
GENERATING = [("gpt2", "GPT2LMHeadModel"), ("bart", "BartForConditionalGeneration"), ("marian", "MarianMTModel")]


def filled(model: PreTrainedModel, seed: int = 1) -> PreTrainedModel:
    """Draw all parameters, and the bias buffer, so that none is 0, none 1 and none lost unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.requires_grad:  # not Marian's table of positions
                    mean = 1.0 if isinstance(module, nn.LayerNorm) and name == "weight" else 0.0
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + mean)
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.copy_(torch.randn(1, V, generator=generator))
    return model.eval()


def foreign(kind: str, name: str, **options) -> PreTrainedModel:
    cls = getattr(transformers, name)
    return filled(cls(cls.config_class(**(OPTIONS[kind] | options))))


def batch_for(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    config = model.config
    generator = torch.Generator().manual_seed(4)
    pad = config.pad_token_id if config.pad_token_id is not None else 0
    ids = torch.randint(4, V - 1, (3, 7), generator=generator)
    batch = {"input_ids": ids.masked_fill(MASK == 0, pad), "attention_mask": MASK}
    if config.is_encoder_decoder:
        batch["decoder_input_ids"] = torch.randint(4, V - 1, (3, 5), generator=generator)
    elif getattr(config, "type_vocab_size", 0) > 1:
        batch["token_type_ids"] = torch.randint(config.type_vocab_size, (3, 7), generator=generator)
    return batch


@torch.no_grad()
def outputs(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits, or hidden states, of the real tokens."""
    out = model(**batch)[0]
    return out[MASK.bool()] if out.shape[:2] == MASK.shape else out


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_same_logits_there_and_back(kind, name):
    theirs = foreign(kind, name)
    batch = batch_for(theirs)
    expected = outputs(theirs, batch)
    assert expected.flatten(0, -2).std(0).mean() > 0.1, "outputs that are the same everywhere prove nothing"
    ours = from_transformers(theirs)
    assert type(ours).__name__ == LAYOUTS[kind].classes[name]
    assert not ours.training
    order = marian_order(D) if name == "MarianModel" else slice(None)
    torch.testing.assert_close(outputs(ours, batch), expected[..., order], **CLOSE)
    back = to_transformers(ours)
    assert type(back).__name__ == name.replace("Roberta", "Bert")
    torch.testing.assert_close(outputs(back, batch), expected, **CLOSE)
    # What is left is rounding: Marian's columns are added up in another order.
    exact = outputs(theirs.double(), batch)[..., order]
    torch.testing.assert_close(outputs(ours.double(), batch), exact, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize(("kind", "name"), [case for case in CASES if case[0] != "roberta"])
def test_round_trips_are_exact(kind, name):
    theirs = foreign(kind, name)
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    weights = {k: v for k, v in theirs.state_dict().items() if k in back.state_dict()}
    lost = theirs.state_dict().keys() - weights.keys()
    assert lost == ({"pooler.dense.weight", "pooler.dense.bias"} if name == "BertModel" else set())
    assert weights.keys() == back.state_dict().keys()
    for key, value in back.state_dict().items():
        unread = 2 if kind == "bart" and "embed_positions" in key else 0  # the first rows of BART's table
        assert torch.equal(value[unread:], weights[key][unread:]), key
    again = from_transformers(back)
    assert again.state_dict().keys() == ours.state_dict().keys()
    assert all(torch.equal(value, ours.state_dict()[key]) for key, value in again.state_dict().items())
    assert again.config.to_dict() == ours.config.to_dict()
    by_hand = ("architectures", "dtype", "transformers_version", "num_labels", "id2label", "label2id")
    if name != "BertForSequenceClassification":
        expected = {k: v for k, v in theirs.config.to_dict().items() if k not in by_hand}
        # Without a layer to generate with, BART's forced end has no place to come from.
        expected |= (
            {} if theirs.can_generate() or not ours.config.is_encoder_decoder else {"forced_eos_token_id": None}
        )
        assert {k: v for k, v in back.config.to_dict().items() if k not in by_hand} == expected


def test_nothing_is_shared_with_the_source():
    theirs = foreign("gpt2", "GPT2LMHeadModel")
    ours = from_transformers(theirs)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    filled(theirs, seed=2)
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in before.items())
    assert ours.lm_head.weight is ours.model.decoder.embed_tokens.weight
    ours.generation_config.num_beams = 7
    assert theirs.generation_config.num_beams != 7


@pytest.mark.parametrize(("kind", "name"), [("bert", "BertForMaskedLM"), *GENERATING])
def test_untied_matrices_stay_apart(kind, name):
    theirs = foreign(kind, name, tie_word_embeddings=False)
    assert not torch.equal(theirs.get_output_embeddings().weight, theirs.get_input_embeddings().weight)
    ours = from_transformers(theirs)
    assert not ours.config.tie_word_embeddings
    batch = batch_for(theirs)
    torch.testing.assert_close(outputs(ours, batch), outputs(theirs, batch), **CLOSE)
    torch.testing.assert_close(outputs(to_transformers(ours), batch), outputs(theirs, batch), **CLOSE)


def test_half_precision_stays():
    ours = from_transformers(foreign("bert", "BertForMaskedLM").to(torch.bfloat16))
    assert ours.dtype == to_transformers(ours).dtype == torch.bfloat16


@pytest.mark.parametrize("forced", [False, True], ids=["free", "forced"])
@pytest.mark.parametrize(("kind", "name"), GENERATING)
def test_same_text_and_same_settings(kind, name, forced):
    theirs = foreign(kind, name)
    settings = theirs.generation_config
    settings.no_repeat_ngram_size, settings.max_new_tokens, settings.length_penalty = 1, 9, 0.6
    settings.forced_eos_token_id = 5 if forced else None
    settings.forced_bos_token_id = 6 if forced and kind != "gpt2" else None
    settings.pad_token_id = settings.pad_token_id or 0
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    batch = {k: batch_for(theirs)[k] for k in ("input_ids", "attention_mask")}
    if kind == "gpt2":
        batch = {k: v[:, :4] for k, v in batch.items()}  # a prompt has no padding on its right
    for beams in (1, 4):
        # Each model follows its own settings, so that a lost one shows.
        expected = theirs.generate(**batch, num_beams=beams).tolist()
        assert ours.generate(**batch, num_beams=beams).tolist() == expected
        assert back.generate(**batch, num_beams=beams).tolist() == expected
        assert not forced or any(5 in row for row in expected)
        assert len({tuple(row) for row in expected}) == 3
    for token in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
        assert getattr(ours.config, token) == getattr(theirs.config, token, None)
        assert getattr(back.config, token, None) == getattr(theirs.config, token, None)
    if kind != "gpt2":
        assert back.config.forced_eos_token_id == (5 if forced else None)


def test_our_translator_is_not_told_to_end(build, batch_of):
    """BART's and Marian's configs force an end by default."""
    ours = build("encoder-decoder", head_dim=6)
    theirs = to_transformers(ours)
    assert theirs.config.forced_eos_token_id is None
    inputs = {"input_ids": batch_of("encoder-decoder")["input_ids"]}
    for beams in (1, 3):
        settings = dict(num_beams=beams, max_new_tokens=6, no_repeat_ngram_size=1)
        assert theirs.generate(**inputs, **settings).tolist() == ours.generate(**inputs, **settings).tolist()


def test_class_names_come_along():
    theirs = foreign("bert", "BertForSequenceClassification")
    theirs.config.id2label = {i: f"class {i}" for i in range(5)}
    theirs.config.problem_type = "multi_label_classification"
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    assert back.config.id2label == ours.config.id2label == theirs.config.id2label
    assert back.config.problem_type == ours.config.problem_type == "multi_label_classification"


def test_a_bias_of_zeros_is_no_bias():
    theirs = foreign("marian", "MarianMTModel")
    assert from_transformers(theirs).config.lm_head_bias
    theirs.final_logits_bias.zero_()
    ours = from_transformers(theirs)
    assert not ours.config.lm_head_bias
    assert ours.lm_head.bias is None


def test_the_bias_of_the_output_is_added_saved_and_resized(build, batch_of, tmp_path):
    model = build("encoder-decoder", lm_head_bias=True)
    batch = batch_of("encoder-decoder")
    before = outputs(model, batch)
    bias = model.lm_head.bias.detach().clone()
    plain = build("encoder-decoder")
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "lm_head.bias"})
    torch.testing.assert_close(before - outputs(plain, batch), bias.expand_as(before), **CLOSE)
    model.save_pretrained(tmp_path)
    assert torch.equal(outputs(VanillaForConditionalGeneration.from_pretrained(tmp_path), batch), before)
    model.resize_token_embeddings(V + 4)
    assert model.lm_head.bias.shape == (V + 4,)
    assert torch.equal(model.lm_head.bias[:V], bias)
    torch.testing.assert_close(outputs(model, batch)[..., :V], before, **CLOSE)


@pytest.mark.parametrize("variant", ["encoder", "decoder"])
def test_only_the_translator_takes_a_bias(variant):
    with pytest.raises(ValueError, match=f"lm_head_bias=True .*'encoder-decoder', not '{variant}'"):
        VanillaConfig.tiny(variant=variant, lm_head_bias=True)
