# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Token classification, question answering and multiple choice: against BERT, by hand, and under padding."""

import re

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForTokenClassification,
)
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from modeling_vanilla import (
    VanillaConfig,
    VanillaForMultipleChoice,
    VanillaForQuestionAnswering,
    VanillaForTokenClassification,
)

VARIANTS = ("encoder-decoder", "encoder", "decoder")
HEADS = {
    "tokens": VanillaForTokenClassification,
    "answers": VanillaForQuestionAnswering,
    "choices": VanillaForMultipleChoice,
}
AUTO = {
    "tokens": AutoModelForTokenClassification,
    "answers": AutoModelForQuestionAnswering,
    "choices": AutoModelForMultipleChoice,
}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
RENAMED = {
    "bert.embeddings.word_embeddings": "model.encoder.embed_tokens",
    "bert.embeddings.position_embeddings": "model.encoder.embeddings.positions",
    "bert.embeddings.token_type_embeddings": "model.encoder.embeddings.types",
    "bert.embeddings.LayerNorm": "model.encoder.embeddings.norm",
    "bert.encoder.layer": "model.encoder.layers",
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_attn_norm",
    "intermediate.dense": "feed_forward.fc1",
    "output.dense": "feed_forward.fc2",
    "output.LayerNorm": "feed_forward_norm",
    "bert.pooler": "choice",
}


def with_bert_weights(theirs, head: str, num_labels: int):
    """Return our model and BERT's, with the same random weights."""
    torch.manual_seed(1)
    reference = theirs(
        BertConfig(
            vocab_size=31,
            hidden_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=29,
            max_position_embeddings=11,
            num_labels=num_labels,
        )
    ).eval()
    for parameter in reference.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.2)
    numbers = {"vocab_size": 31, "d_model": 24, "num_layers": 2, "num_heads": 4, "d_ff": 29}
    ours = HEADS[head](VanillaConfig.bert_base(**numbers, max_position_embeddings=11, num_labels=num_labels)).eval()
    state = {}
    for name, value in reference.state_dict().items():
        if head == "choices":
            name = re.sub(r"^classifier", "choice.out_proj", name)
        for old, new in RENAMED.items():
            name = re.sub(rf"(^|\.){re.escape(old)}\.", rf"\g<1>{new}.", name)
        state[name] = value
    ours.load_state_dict(state)
    return ours, reference


def compare(ours, theirs, inputs, names: list[str], real: torch.Tensor | None = None):
    got, expected = ours(**inputs), theirs(**inputs)
    torch.testing.assert_close(got.loss, expected.loss, **CLOSE)
    for name in names:
        mine, other = got[name], expected[name]
        torch.testing.assert_close(*((mine, other) if real is None else (mine[real], other[real])), **CLOSE)


def test_tokens_as_bert(tokens):
    ids, mask = tokens(3, 7), torch.arange(7) < torch.tensor([7, 4, 6])[:, None]
    labels = (ids % 5).masked_fill(~mask, -100)
    inputs = {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}
    compare(*with_bert_weights(BertForTokenClassification, "tokens", 5), inputs, ["logits"], mask)


def test_answers_as_bert(tokens):
    ids, mask = tokens(3, 7), torch.arange(7) < torch.tensor([7, 4, 6])[:, None]
    start, end = torch.tensor([[2], [9], [-4]]), torch.tensor([[3], [12], [5]])  # cut off, and before the text
    inputs = {"input_ids": ids, "attention_mask": mask.long(), "start_positions": start, "end_positions": end}
    ours, theirs = with_bert_weights(BertForQuestionAnswering, "answers", 2)
    got = ours(**inputs)
    for name in ("start_logits", "end_logits"):
        torch.testing.assert_close(got[name][mask], theirs(**inputs)[name][mask], **CLOSE)
    # The places of padding are scored too, and padding has other positions here: the loss is compared without it.
    inputs["attention_mask"] = torch.ones_like(ids)
    compare(ours, theirs, inputs, ["start_logits", "end_logits"])


def test_choices_as_bert(tokens):
    ids = tokens(6, 7).view(2, 3, 7)
    mask = (torch.arange(7) < torch.tensor([7, 4, 6, 2, 7, 5])[:, None]).view(2, 3, 7).long()
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": ids % 2, "labels": torch.tensor([2, 0])}
    compare(*with_bert_weights(BertForMultipleChoice, "choices", 2), inputs, ["logits"])


def inputs_of(head: str, tokens) -> dict[str, torch.Tensor]:
    """Return a batch with labels: 2 texts of 5 tokens, or 2 questions with 3 choices of 5 tokens."""
    if head == "choices":
        return {"input_ids": tokens(6, 5).view(2, 3, 5), "labels": torch.tensor([2, 0])}
    ids = tokens(2, 5)
    if head == "tokens":
        return {"input_ids": ids, "labels": (ids % 4).index_fill(1, torch.tensor([1]), -100)}
    return {"input_ids": ids, "start_positions": torch.tensor([1, 4]), "end_positions": torch.tensor([3, 4])}


@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_by_hand(build, tokens, variant):
    model = build(variant, HEADS["tokens"], num_labels=4)
    inputs = inputs_of("tokens", tokens)
    ids = inputs["input_ids"]
    # An encoder-decoder reads the text on both sides: the start token, then the text.
    both = {"decoder_input_ids": torch.cat([torch.full((2, 1), 2), ids[:, :-1]], 1)}
    states = model.model(ids, **(both if variant == "encoder-decoder" else {})).last_hidden_state
    expected = states @ model.classifier.weight.T + model.classifier.bias
    out = model(**inputs)
    torch.testing.assert_close(out.logits, expected, **CLOSE)
    kept = inputs["labels"].ne(-100)
    expected = -F.log_softmax(expected, -1)[kept].gather(-1, inputs["labels"][kept][:, None]).mean()
    torch.testing.assert_close(out.loss, expected, **CLOSE)


@pytest.mark.parametrize("num_labels", [1, 2, 5])
@pytest.mark.parametrize("variant", VARIANTS)
def test_answers_have_two_ends_whatever_num_labels(build, tokens, variant, num_labels):
    model = build(variant, HEADS["answers"], num_labels=num_labels)
    out = model(**inputs_of("answers", tokens))
    assert out.start_logits.shape == out.end_logits.shape == (2, 5)
    assert model.config.num_labels == num_labels
    rows = torch.arange(2)
    start = F.log_softmax(out.start_logits, -1)[rows, torch.tensor([1, 4])]
    end = F.log_softmax(out.end_logits, -1)[rows, torch.tensor([3, 4])]
    torch.testing.assert_close(out.loss, -(start + end).mean() / 2, **CLOSE)


def test_answers_beyond_the_text_are_ignored(build, tokens):
    model = build("encoder", HEADS["answers"])
    ids, beyond = tokens(2, 5), torch.tensor([5, 700])
    out = model(ids, start_positions=beyond, end_positions=beyond)
    assert out.loss.item() == 0
    out.loss.backward()
    # Only the end of the first answer lies within the text.
    loss = model(ids, start_positions=beyond, end_positions=torch.tensor([4, 5])).loss
    torch.testing.assert_close(loss, -F.log_softmax(out.end_logits, -1)[0, 4], **CLOSE)
    with pytest.raises(ValueError, match="both of start_positions and end_positions"):
        model(ids, start_positions=beyond)


@pytest.mark.parametrize("variant", VARIANTS)
def test_choices_do_not_see_each_other(build, tokens, variant):
    model = build(variant, HEADS["choices"], num_labels=7)
    inputs = inputs_of("choices", tokens)
    out = model(**inputs)
    single = [[model(inputs["input_ids"][b : b + 1, c : c + 1]).logits.item() for c in range(3)] for b in range(2)]
    torch.testing.assert_close(out.logits, torch.tensor(single), **CLOSE)
    torch.testing.assert_close(out.loss, -F.log_softmax(torch.tensor(single), -1)[[0, 1], [2, 0]].mean(), **CLOSE)
    assert out.logits.std(1).min() > 1e-3
    if variant != "encoder-decoder":
        vectors = model.get_input_embeddings()(inputs["input_ids"])
        torch.testing.assert_close(model(inputs_embeds=vectors).logits, out.logits, **CLOSE)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("head", HEADS)
def test_padding_changes_nothing(build, tokens, head, variant, side):
    model = build(variant, HEADS[head], num_labels=4)
    ids, mask = torch.full((2, 5), 9), torch.zeros(2, 5, dtype=torch.long)
    places = slice(2, 5) if side == "left" else slice(0, 3)
    ids[0], mask[0] = tokens(1, 5)[0], 1
    ids[1, places], mask[1, places] = tokens(1, 3, seed=1)[0], 1
    if head == "choices":
        got = model(ids[None], attention_mask=mask[None]).logits[0]
        rows = [model(ids[None, None, 0]).logits[0, 0], model(ids[None, None, 1, places]).logits[0, 0]]
        torch.testing.assert_close(got, torch.stack(rows), **CLOSE)
        return
    got, single = model(ids, attention_mask=mask)[0], model(ids[1:, places])[0]
    torch.testing.assert_close(got[1:, places], single, **CLOSE)
    torch.testing.assert_close(got[:1], model(ids[:1])[0], **CLOSE)


@pytest.mark.parametrize("head", HEADS)
def test_losses_of_micro_batches_add_up(build, tokens, head):
    model = build("encoder", HEADS[head], num_labels=4)
    inputs = inputs_of(head, tokens)
    count = {"tokens": 8, "answers": 4, "choices": 2}[head]
    whole = model(**inputs).loss
    parts = [
        model(**{k: v[row : row + 1] for k, v in inputs.items()}, num_items_in_batch=items).loss
        for row, items in ((0, count), (1, torch.tensor(count)))
    ]
    torch.testing.assert_close(sum(parts), whole, **CLOSE)


@pytest.mark.parametrize("value", [-1, 4])
def test_labels_out_of_range(build, tokens, value):
    model = build("encoder", HEADS["tokens"], num_labels=4)
    with pytest.raises(ValueError, match=rf"{value}.*\[0, 4\)"):
        model(tokens(2, 5), labels=torch.full((2, 5), value))
    with pytest.raises(ValueError, match=r"\[0, 3\)"):
        build("encoder", HEADS["choices"])(tokens(6, 5).view(2, 3, 5), labels=torch.tensor([0, 3]))


def test_choices_of_another_rank(build, tokens):
    with pytest.raises(ValueError, match=r"input_ids has shape \(2, 5\), expected \(batch, choices, length\)"):
        build("encoder", HEADS["choices"])(tokens(2, 5))


@pytest.mark.parametrize("head", HEADS)
def test_two_stacks_show_the_states_of_both(build, tokens, head):
    model = build(
        "encoder-decoder", HEADS[head], num_labels=4, attn_implementation="eager", num_layers=3, num_decoder_layers=2
    )
    inputs = inputs_of(head, tokens)
    out = model(**inputs, output_hidden_states=True, output_attentions=True)
    assert (len(out.encoder_hidden_states), len(out.encoder_attentions)) == (4, 3)
    assert (len(out.decoder_hidden_states), len(out.decoder_attentions), len(out.cross_attentions)) == (3, 2, 2)
    assert torch.equal(out.encoder_last_hidden_state, out.encoder_hidden_states[-1])
    assert not {"cache", "past_key_values"} & set(out.keys())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("head", HEADS)
def test_saved_and_found_with_and_without_the_package(build, tokens, tmp_path, head, variant):
    model = build(variant, HEADS[head], num_labels=4)
    inputs = inputs_of(head, tokens)
    assert type(AUTO[head].from_config(model.config)) is HEADS[head]
    model.save_pretrained(tmp_path)
    loaded = AUTO[head].from_pretrained(tmp_path)
    assert type(loaded) is HEADS[head]
    assert torch.equal(loaded(**inputs)[0], model(**inputs)[0])
    # The class that a reader without this package gets, from the copied files.
    remote = get_class_from_dynamic_module(loaded.config.auto_map[AUTO[head].__name__], str(tmp_path))
    assert remote.__module__.startswith("transformers_modules.")
    assert remote.__name__ == HEADS[head].__name__
    assert torch.equal(remote.from_pretrained(tmp_path)(**inputs)[0], model(**inputs)[0])
