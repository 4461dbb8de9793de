# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A text read and written, against eager attention over the same tokens; and the numbers behind a cell."""

import math
import string

import pytest
import torch
from small_models import V

import tokenizer as tokenizers
from modeling_vanilla.look import Choice, look
from modeling_vanilla.look.reading import strongest
from modeling_vanilla.look.view import TEMPERATURES, Map

TEXT = "May 1, 2026"


@pytest.fixture(scope="module")
def characters():
    """Return a tokenizer of characters with a token for each id of the models."""
    letters = list(dict.fromkeys([*TEXT, *"년월일", *string.ascii_letters]))[: V - 7]  # beside 7 special tokens
    made = tokenizers.build("char", ["".join(letters)], V, "seq2seq", min_frequency=1, show_progress=False)
    assert len(made) == V
    return made


def eager(model, **inputs):
    """Return the output of eager attention with its weights."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        return model(**inputs, output_attentions=True)


def close(seen: Map, expected) -> None:
    """Compare a map with the weights (1, H, T, S) of each layer."""
    if not expected:
        pytest.skip("this transformers returns no weights of this model (T5 in 5.17)")
    torch.testing.assert_close(seen.weights, torch.cat(list(expected)), atol=5e-6, rtol=0)


def test_an_encoder_is_read_once(model_of, characters):
    model = model_of("BERT").train()
    view = look(model, characters, TEXT, name="here")
    assert model.training
    (seen,) = view.maps
    letters = [" " if letter == " " else letter for letter in TEXT] + ["</s>"]
    assert (seen.kind, seen.rows, seen.columns, seen.reads) == ("encoder", letters, letters, letters)
    assert (seen.layers, seen.heads, seen.averaged) == ([0, 1], [0, 1, 2, 3], False)
    assert (view.model, view.architecture, view.target, view.steps) == ("here", "BertModel", None, [])
    assert not seen.hidden.any()
    model.eval()
    close(seen, eager(model, **characters(TEXT, return_tensors="pt")).attentions)


@pytest.mark.parametrize("name", ["GPT-2", "decoder", "Llama, grouped keys"])
def test_a_decoder_goes_on_and_rows_are_what_they_wrote(model_of, characters, name):
    model = model_of(name)
    model.generation_config.max_new_tokens = 5
    model.generation_config.eos_token_id = None
    view = look(model, characters, TEXT)
    prompt = characters(TEXT, return_tensors="pt")["input_ids"]
    written = model.generate(prompt, attention_mask=torch.ones_like(prompt))
    (seen,) = view.maps
    pieces = characters.convert_ids_to_tokens(written[0].tolist())
    assert seen.kind == "decoder"
    assert (seen.reads, seen.rows, seen.columns) == (pieces[:-1], pieces[1:], pieces[:-1])
    assert torch.equal(seen.hidden, torch.ones(len(pieces) - 1, len(pieces) - 1).triu(1).bool())
    output = eager(model, input_ids=written[:, :-1])
    close(seen, output.attentions)
    assert [step.written for step in view.steps] == pieces[-5:]
    torch.testing.assert_close(
        torch.tensor([step.logits for step in view.steps]),
        output.logits[0, -5:].sort(-1, descending=True).values,
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["encoder-decoder", "BART", "T5", "tied halves"])
def test_a_translator_writes_with_its_own_search(model_of, characters, name, beams):
    model = model_of(name)
    model.generation_config.update(num_beams=beams, max_new_tokens=6, min_new_tokens=3)
    view = look(model, characters, TEXT)
    inputs = characters(TEXT, return_tensors="pt")
    written = model.generate(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
    output = eager(model, input_ids=inputs["input_ids"], decoder_input_ids=written[:, :-1])
    pieces, source = (characters.convert_ids_to_tokens(ids.tolist()) for ids in (written[0], inputs["input_ids"][0]))
    encoder, decoder, cross = view.maps
    assert [seen.kind for seen in view.maps] == ["encoder", "decoder", "cross"]
    assert (encoder.rows, encoder.columns) == (source, source)
    assert (decoder.rows, decoder.columns, decoder.reads) == (pieces[1:], pieces[:-1], pieces[:-1])
    assert (cross.rows, cross.columns, cross.reads) == (pieces[1:], source, pieces[:-1])
    for seen, field in ((encoder, "encoder_attentions"), (decoder, "decoder_attentions"), (cross, "cross_attentions")):
        close(seen, output[field])
    assert view.target == characters.decode(written[0, 1:], skip_special_tokens=True).strip()


def test_a_target_is_read_as_if_it_were_written(model_of, characters):
    model = model_of("encoder-decoder")
    view = look(model, characters, TEXT, "2026", Choice(kinds=["cross"], layers=[2], heads=[3, 0]))
    (cross,) = view.maps
    assert (view.target, cross.rows, cross.reads) == ("2026", [*"2026", "</s>"], ["<s>", *"2026"])
    ids = characters("2026", return_tensors="pt")["input_ids"]
    start = torch.tensor([[model.config.decoder_start_token_id]])
    inputs = characters(TEXT, return_tensors="pt")["input_ids"]
    output = eager(model, input_ids=inputs, decoder_input_ids=torch.cat([start, ids[:, :-1]], 1))
    assert (cross.layers, cross.heads) == ([2], [3, 0])
    close(cross, [output.cross_attentions[2][:, [3, 0]]])
    assert [step.written for step in view.steps] == cross.rows


def test_a_continuation_may_be_given(model_of, characters):
    view = look(model_of("GPT-2"), characters, TEXT, "2026")
    (seen,) = view.maps
    assert seen.rows == [*TEXT[1:], "</s>", *"2026", "</s>"][: len(seen.rows)]
    assert [step.written for step in view.steps][:4] == [*"2026"]


@pytest.mark.parametrize("name", ["GPT-2", "T5", "encoder-decoder"])
def test_numbers_give_the_cells(model_of, characters, name):
    """softmax(q k^T * scaling + bias), where not hidden, is the map; the values are those that the kernel gets."""
    model = model_of(name)
    kinds = ["decoder"] if name == "GPT-2" else ["encoder", "decoder", "cross"]
    heads = [(kind, 1, 2) for kind in kinds]
    view = look(model, characters, TEXT, choice=Choice(numbers=heads))
    assert [(one.kind, one.layer, one.head) for one in view.numbers] == heads
    for one, seen in zip(view.numbers, view.maps, strict=True):
        scores = one.queries @ one.keys.T * one.scaling + (0 if one.bias is None else one.bias)
        weights = scores.masked_fill(seen.hidden, -math.inf).softmax(-1)
        torch.testing.assert_close(weights, seen.weights[1, 2], atol=5e-6, rtol=0)
        assert (one.bias is not None) == (name == "T5" and one.kind != "cross")
        assert len(one.values) == len(one.keys) == len(seen.columns)


def test_steps_give_the_probabilities_at_every_temperature(model_of, characters, monkeypatch):
    monkeypatch.setattr("modeling_vanilla.look.reading.LIKELIEST", 7)
    model = model_of("encoder-decoder")
    view = look(model, characters, TEXT, "2026")
    ids = characters("2026", return_tensors="pt")["input_ids"]
    start = torch.tensor([[model.config.decoder_start_token_id]])
    with torch.no_grad():
        inputs = characters(TEXT, return_tensors="pt")["input_ids"]
        logits = model(inputs, decoder_input_ids=torch.cat([start, ids[:, :-1]], 1)).logits[0]
    for step, expected in zip(view.steps, logits, strict=True):
        for temperature, rest in zip(TEMPERATURES, step.rest, strict=True):
            scaled = torch.tensor(step.logits) / temperature
            total = torch.logaddexp(scaled.logsumexp(0), torch.tensor(rest))
            probabilities = (expected / temperature).softmax(0).sort(descending=True).values[:7]
            torch.testing.assert_close((scaled - total).exp(), probabilities, atol=1e-5, rtol=1e-4)


def test_long_texts_are_averaged(model_of, characters, monkeypatch):
    monkeypatch.setattr("modeling_vanilla.look.reading.CELLS", 5)
    model = model_of("decoder")
    (seen,) = look(model, characters, TEXT[:9], choice=Choice(layers=[0], exact=(), numbers=()), target="2").maps
    assert (len(seen.rows), seen.weights.shape, seen.averaged) == (10, (1, 4, 5, 5), True)
    ids = torch.tensor([characters.convert_tokens_to_ids(seen.reads)])
    whole = eager(model, input_ids=ids).attentions[0][0]
    torch.testing.assert_close(seen.weights[0], whole.unflatten(2, (5, 2)).mean(3).unflatten(1, (5, 2)).mean(2))
    assert torch.equal(seen.hidden, torch.ones(5, 5).triu(1).bool())  # a cell on the diagonal holds what is seen


def test_the_strongest_head_is_the_one_whose_rows_differ():
    """One that looks at one place from everywhere, one that looks everywhere, one that looks at its own place."""
    sink, even, own = torch.zeros(4, 4), torch.full((4, 4), 0.25), torch.eye(4)
    sink[:, 0] = 1
    names = list("abcd")
    seen = Map("encoder", names, names, names, [3], [0, 5, 7], torch.stack([sink, even, own])[None], even > 1)
    assert strongest([seen])[0] == ("encoder", 3, 7)
    hidden = torch.ones(4, 4).triu(1).bool()
    causal = torch.ones(4, 4).tril() / torch.arange(1, 5)[:, None]
    flat = Map("decoder", names, names, names, [0], [0], causal[None, None], hidden)
    half = Map("cross", names, names, names, [0], [0], (0.8 * even + 0.2 * own)[None, None], even > 1)
    assert strongest([flat, half]) == [("cross", 0, 0), ("decoder", 0, 0)]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("BERT", dict(text=""), "TEXT: has no tokens"),
        ("BERT", dict(text="1" * 600), r"TEXT: 601 tokens; the model reads at most 512 \(max_position_embeddings\)"),
        ("BERT", dict(text="1", target="1"), "target: BertModel is an encoder, which writes nothing"),
        ("BERT", dict(text=("", "1")), "question: has no tokens"),
        ("GPT-2", dict(text="1" * 60, target="2222"), r"TEXT and target: 65 tokens; the model reads at most 64"),
        ("BERT", dict(text="1", choice=Choice(layers=[2])), "layer 2 does not exist; BertModel has 0 to 1"),
        ("BERT", dict(text="1", choice=Choice(heads=[-1])), "head -1 does not exist"),
        ("BERT", dict(text="1", choice=Choice(kinds=["cross"])), "kind 'cross': BertModel has none; it has encoder"),
        ("BERT", dict(text="1", choice=Choice(kinds=["crosss"])), "kind 'crosss' does not exist; one of encoder"),
        ("BERT", dict(text="1", choice=Choice(exact=[("cross", 0, 0)])), "exact: no head cross.0.0 among"),
        ("BERT", dict(text="1", choice=Choice(heads=[1], numbers=[(None, 0, 0)])), "numbers: no head encoder.0.0"),
        ("BERT", dict(text="1", choice=Choice(numbers=[(None, 0, 0)] * 5)), "numbers of 5 heads; at most 4 are kept"),
    ],
)
def test_what_cannot_be_is_refused(model_of, characters, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        look(model_of(name), characters, **arguments)
