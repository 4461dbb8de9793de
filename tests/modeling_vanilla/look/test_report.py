# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A report: on models whose heads are made to do something known, and on each architecture."""

import json
import math

import pytest
import torch
from small_models import BUILD, OURS, ids

from modeling_vanilla import VanillaConfig, VanillaForQuestionAnswering
from modeling_vanilla.look import report_text
from modeling_vanilla.look.examples import Example
from modeling_vanilla.look.report import report

SHARPEST = 30.0


def texts_of(model, lengths=(6, 4)) -> list[Example]:
    """Return texts of several lengths; a decoder goes on from its first two tokens."""
    texts = []
    for seed, length in enumerate(lengths):
        inputs = {"input_ids": ids(1, length, seed=seed), "attention_mask": torch.ones(1, length).long()}
        labels = ids(5 - seed, seed=7 + seed).tolist()
        if model.config.is_encoder_decoder:
            start = torch.tensor([[model.config.decoder_start_token_id, *labels[:-1]]])
            texts.append(Example(inputs | {"decoder_input_ids": start}, list(range(len(labels))), labels))
        elif any(getattr(module, "is_causal", False) for module in model.modules()):
            texts.append(Example(inputs, list(range(1, length)), ids(length - 1, seed=9).tolist()))
        else:
            texts.append(Example(inputs, list(range(length))))
    return texts


def of_head(result, kind, layer, head):
    return next(one for one in result.heads if (one.kind, one.layer, one.head) == (kind, layer, head))


@pytest.fixture
def made(randomise):
    """Return a translator whose first decoder layer's cross-attention does something known: head 0 says nothing, since
    its part of W^O is 0; head 1 looks at all alike, since its queries are 0; head 2 at one place, as its keys are large.
    """
    model = randomise(BUILD["encoder-decoder"]())
    attention = model.model.decoder.layers[0].cross_attn
    width = attention.head_dim
    with torch.no_grad():
        attention.out_proj.weight[:, :width] = 0
        attention.q_proj.weight[width : 2 * width] = 0
        attention.q_proj.bias[width : 2 * width] = 0
        attention.k_proj.weight[2 * width : 3 * width] *= SHARPEST
        attention.q_proj.weight[2 * width : 3 * width] *= SHARPEST
    return model


def test_heads_that_are_known(made):
    result = report(made, texts_of(made), integrated=0)
    silent, alike, sharp = (of_head(result, "cross", 0, head) for head in range(3))
    assert silent.norm == 0
    assert silent.effects == {"zero": 0, "uniform": 0, "permute": 0}
    assert alike.entropy == pytest.approx(1)
    assert alike.effects["uniform"] == pytest.approx(0, abs=1e-5)
    assert alike.effects["permute"] == pytest.approx(0, abs=1e-5)
    assert abs(alike.effects["zero"]) > 1e-3
    assert sharp.entropy < 0.05
    assert result.effect == "nats"
    assert math.isnan(of_head(result, "encoder", 0, 0).gradient), "an encoder's rows predict nothing"


def test_effect_is_the_change_of_log_probability(made):
    """Against a model without the head, and without padding: text by text."""
    texts = texts_of(made)
    result = report(made, texts, integrated=0)

    def nats():
        with torch.no_grad():
            rows = [made(**text.inputs).logits.log_softmax(-1)[0] for text in texts]
        return torch.cat(
            [one.gather(-1, torch.tensor(text.labels)[:, None]) for one, text in zip(rows, texts, strict=True)]
        )

    plain = nats()
    attention = made.model.encoder.layers[1].self_attn
    with torch.no_grad():
        attention.out_proj.weight.unflatten(1, (4, -1))[:, 3] = 0
    expected = (nats() - plain).mean().item()
    assert of_head(result, "encoder", 1, 3).effects["zero"] == pytest.approx(expected, abs=1e-4)


def test_exact_match_is_that_of_greedy_search(made):
    texts = texts_of(made)
    for text in texts[:1]:  # what the model writes itself
        written = made.generate(
            input_ids=text.inputs["input_ids"], max_new_tokens=4, min_new_tokens=4, do_sample=False
        )
        text.inputs["decoder_input_ids"], text.labels = written[:, :-1], written[0, 1:].tolist()
        text.rows = list(range(4))
    result = report(made, texts, integrated=0)
    assert result.exact == 0.5
    assert of_head(result, "cross", 0, 0).exact["zero"] == 0.5


def test_gold(made):
    """The sharp head's own strongest cells as gold: it hits all of them, and rollout and gradients are measured too."""
    from modeling_vanilla.look.capture import capture

    texts = texts_of(made)
    for text in texts:
        with capture(made, layers=[0], heads=[2], kind="cross") as seen, torch.no_grad():
            made(**text.inputs)
        columns = seen["cross", 0].calls[0][0, 0].argmax(-1).tolist()
        text.gold = [{column} for column in columns]
        text.gold[1] = set()
    result = report(made, texts, integrated=1)
    sharp = of_head(result, "cross", 0, 2)
    assert (sharp.hits, result.rows_with_gold) == (1.0, 5 + 4 - 2)
    assert sharp.mass > 0.9
    assert set(result.rollout) == {"gradient", "integrated", "hits", "mass"}
    assert set(result.gradients) == {"gradient", "integrated"}
    assert math.isnan(of_head(result, "decoder", 0, 0).hits)
    content = json.loads(report_text.as_json(result, "here", "there"))
    known = next(one for one in content["heads"] if (one["kind"], one["head"]) == ("cross", 2))
    assert known["error_rate"] == 0
    assert content["heads"][0]["gradient"] is None


def test_answers(randomise):
    """Of a head with queries of 0 the weight on gold is that of equal weights, and a head is worth what both ends change."""
    model = randomise(VanillaForQuestionAnswering(VanillaConfig(variant="encoder", **OURS)), std=0.3)
    with torch.no_grad():
        attention = model.model.encoder.layers[1].self_attn
        for part in (attention.q_proj.weight, attention.q_proj.bias):
            part[: attention.head_dim] = 0
    texts = texts_of(model, (6, 4))
    for text, gold in zip(texts, ({2, 3}, {3}), strict=True):
        text.rows, text.gold = [0, 1, 2][: len(gold) + 1], [gold] * (len(gold) + 1)
    result = report(model, texts, integrated=0)
    assert (result.effect, result.rows_with_gold) == ("KL", 5)
    assert result.alike == pytest.approx((3 * 2 / 6 + 2 * 1 / 4) / 5)
    assert of_head(result, "encoder", 1, 0).mass == pytest.approx(result.alike)

    def ends():
        with torch.no_grad():
            outputs = [model(**text.inputs) for text in texts]
        return [torch.cat([one.start_logits, one.end_logits]).log_softmax(-1) for one in outputs]  # (2, T)

    plain = ends()
    with torch.no_grad():
        attention.out_proj.weight[:, attention.head_dim : 2 * attention.head_dim] = 0
    kl = [(one.exp() * (one - other)).sum(-1).mean() for one, other in zip(plain, ends(), strict=True)]
    expected = (3 * kl[0] + 2 * kl[1]) / 5  # a mean over rows, which all say the same
    assert of_head(result, "encoder", 1, 1).effects["zero"] == pytest.approx(float(expected), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "effect"),
    [("BERT", "states"), ("encoder", "KL"), ("GPT-2", "nats"), ("Llama, grouped keys", "nats"), ("T5", "nats")],
)
def test_every_architecture(name, effect, randomise):
    model = randomise(BUILD[name](), std=0.2)
    result = report(model, texts_of(model, (5,)), integrated=0)
    assert result.effect == effect
    layers = [model.config.num_hidden_layers, getattr(model.config, "num_decoder_layers", 0) or 0]
    assert len(result.heads) == 4 * (layers[0] + 2 * layers[1] * model.config.is_encoder_decoder)
    for head in result.heads:
        assert 0 <= head.entropy <= 1
        assert head.norm > 0
        assert all(math.isfinite(value) for value in head.effects.values())
        assert effect == "nats" or all(value >= 0 for value in head.effects.values())
    assert bool(result.notes) == (name == "BERT")
    lines = report_text.table(result).splitlines()
    assert [line.split()[:3] for line in lines[1 : len(result.heads) + 1]] == [
        [head.kind, str(head.layer), str(head.head)] for head in result.heads
    ]


def test_an_unknown_output_projection_is_said(made):
    made.config.model_type = "unheard of"
    result = report(made, texts_of(made), integrated=0)
    assert all(math.isnan(head.norm) for head in result.heads)
    assert "norm, cross layer 0: not available: where its W^O lies is not known" in result.notes
    assert "not measured: norm" in report_text.table(result)


def test_bad_input(made):
    with pytest.raises(ValueError, match="at least one"):
        report(made, [])
    long = texts_of(made, (5,))
    long[0].inputs["input_ids"] = torch.zeros(1, 1025).long()
    with pytest.raises(ValueError, match="1025 tokens; a report takes at most 1024"):
        report(made, long)
