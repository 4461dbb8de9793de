# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The encoder variant against Hugging Face's BERT with the same random weights."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from modeling_vanilla import VanillaConfig, VanillaForMaskedLM, VanillaForSequenceClassification

B, S, H, D, F, V, TYPES, PLACES, CLASSES = 3, 7, 4, 24, 29, 31, 3, 11, 5
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
MASK = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 6 + [0]])
REAL = MASK.bool()

RULES = [
    (r"^bert\.embeddings\.word_embeddings", "model.encoder.embed_tokens"),
    (r"^bert\.embeddings\.position_embeddings", "model.encoder.embeddings.positions"),
    (r"^bert\.embeddings\.token_type_embeddings", "model.encoder.embeddings.types"),
    (r"^bert\.embeddings\.LayerNorm", "model.encoder.embeddings.norm"),
    (r"^bert\.encoder\.layer\.", "model.encoder.layers."),
    (r"attention\.self\.query", "self_attn.q_proj"),
    (r"attention\.self\.key", "self_attn.k_proj"),
    (r"attention\.self\.value", "self_attn.v_proj"),
    (r"attention\.output\.dense", "self_attn.out_proj"),
    (r"attention\.output\.LayerNorm", "self_attn_norm"),
    (r"intermediate\.dense", "feed_forward.fc1"),
    (r"output\.dense", "feed_forward.fc2"),
    (r"output\.LayerNorm", "feed_forward_norm"),
    (r"^cls\.predictions\.bias", None),  # the same parameter as decoder.bias
    (r"^cls\.predictions\.decoder", "lm_head"),
    (r"^cls\.predictions\.transform\.dense", "transform.dense"),
    (r"^cls\.predictions\.transform\.LayerNorm", "transform.norm"),
    (r"^classifier", "classifier.out_proj"),
    (r"^bert\.pooler\.dense", "classifier.dense"),
]


def build(theirs, ours, kernel, randomise, rename, **options):
    """Both models, with the same random weights; every key of each side is used."""
    reference = theirs(
        BertConfig(
            vocab_size=V,
            hidden_size=D,
            num_hidden_layers=3,
            num_attention_heads=H,
            intermediate_size=F,
            max_position_embeddings=PLACES,
            type_vocab_size=TYPES,
            attn_implementation="eager",
            **options,
        )
    )
    randomise(reference)
    numbers = dict(vocab_size=V, d_model=D, num_layers=3, num_heads=H, d_ff=F, max_position_embeddings=PLACES)
    model = ours(
        VanillaConfig.bert_base(**numbers, type_vocab_size=TYPES, attn_implementation=kernel, **options)
    ).eval()
    model.load_state_dict(rename(reference.state_dict(), RULES))
    return model, reference


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    ids = torch.randint(1, V, (B, S), generator=generator)  # BERT keeps row 0 of its matrix from learning
    types = torch.randint(TYPES, (B, S), generator=generator)
    return {"input_ids": ids, "token_type_ids": types, "attention_mask": MASK}


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_masked_language_model(kernel, batch, randomise, rename, assert_varied):
    ours, theirs = build(BertForMaskedLM, VanillaForMaskedLM, kernel, randomise, rename)
    labels = batch["input_ids"].roll(1, 0).masked_fill(~REAL, -100)
    labels[0, 2:5] = -100
    got, expected = ours(**batch, labels=labels), theirs(**batch, labels=labels)
    torch.testing.assert_close(got.logits[REAL], expected.logits[REAL], **CLOSE)
    torch.testing.assert_close(got.loss, expected.loss, **CLOSE)
    assert_varied(expected.logits[REAL])
    got.loss.backward()
    expected.loss.backward()
    pairs = {
        "embed_tokens": (ours.model.encoder.embed_tokens, theirs.bert.embeddings.word_embeddings),
        "positions": (ours.model.encoder.embeddings.positions, theirs.bert.embeddings.position_embeddings),
        "types": (ours.model.encoder.embeddings.types, theirs.bert.embeddings.token_type_embeddings),
    }
    for name, (mine, reference) in pairs.items():
        torch.testing.assert_close(mine.weight.grad, reference.weight.grad, **CLOSE, msg=name)
    without = {k: v for k, v in batch.items() if k != "token_type_ids"}
    torch.testing.assert_close(ours(**without).logits[REAL], theirs(**without).logits[REAL], **CLOSE)
    assert (ours(**without).logits[REAL] - got.logits[REAL]).abs().max() > 0.1


def test_positions_given_by_the_caller(batch, randomise, rename):
    ours, theirs = build(BertForMaskedLM, VanillaForMaskedLM, "sdpa", randomise, rename)
    places = torch.tensor([[10, 0, 3, 3, 9, 1, 2], [4, 5, 6, 7, 0, 1, 2], [0, 2, 4, 6, 8, 10, 1]])
    got, expected = ours(**batch, position_ids=places), theirs(**batch, position_ids=places)
    torch.testing.assert_close(got.logits[REAL], expected.logits[REAL], **CLOSE)


def test_hidden_states_and_attentions(batch, randomise, rename):
    ours, theirs = build(BertForMaskedLM, VanillaForMaskedLM, "eager", randomise, rename)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    got, expected = ours(**batch, **wanted), theirs(**batch, **wanted)
    assert len(got.hidden_states) == len(expected.hidden_states) == 4
    for mine, reference in zip(got.hidden_states, expected.hidden_states, strict=True):
        torch.testing.assert_close(mine[REAL], reference[REAL], **CLOSE)
    assert len(got.attentions) == len(expected.attentions) == 3
    for mine, reference in zip(got.attentions, expected.attentions, strict=True):
        rows = REAL[:, None, :].expand(B, H, S)
        torch.testing.assert_close(mine[rows], reference[rows], **CLOSE)


@pytest.mark.parametrize(
    ("num_labels", "labels"),
    [
        (CLASSES, torch.tensor([4, 0, 2])),
        (1, torch.tensor([0.5, -2.0, 1.0])),
        (CLASSES, torch.eye(CLASSES)[[4, 0, 2]]),
    ],
    ids=["single", "regression", "multi"],
)
def test_sequence_classification(num_labels, labels, batch, randomise, rename):
    ours, theirs = build(
        BertForSequenceClassification,
        VanillaForSequenceClassification,
        "sdpa",
        randomise,
        rename,
        num_labels=num_labels,
    )
    got, expected = ours(**batch, labels=labels), theirs(**batch, labels=labels)
    torch.testing.assert_close(got.logits, expected.logits, **CLOSE)
    torch.testing.assert_close(got.loss, expected.loss, **CLOSE)
    assert ours.config.problem_type == theirs.config.problem_type
