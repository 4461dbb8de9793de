# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""BertViz: the numbers and the words in the page are the model's attention weights and the tokens they belong to."""

import json
import re

import pytest
import torch

bertviz = pytest.importorskip("bertviz")

VIEWS = ("head_view", "model_view")
views = pytest.mark.parametrize("view", VIEWS)


def params_of(page) -> dict:
    """Return the data that the page's script draws from."""
    start = re.search(r"params = (?=\{)", page.data).end()
    found, _ = json.JSONDecoder().raw_decode(page.data[start:])
    return found


def show(view: str, **given) -> dict:
    return params_of(getattr(bertviz, view)(html_action="return", **given))


def assert_weights(entry: dict, attentions, left: list[str], right: list[str]) -> None:
    """Compare one picture with weights that are no matter of course: they are not even, and the layers differ."""
    drawn = torch.tensor(entry["attn"])  # (layers, heads, T, S)
    torch.testing.assert_close(drawn, torch.stack([layer[0] for layer in attentions]))
    torch.testing.assert_close(drawn.sum(-1), torch.ones(drawn.shape[:-1]))
    assert (entry["left_text"], entry["right_text"]) == (left, right)
    assert drawn.std() > 0.02
    assert not torch.allclose(drawn[0], drawn[1], atol=1e-3)


@pytest.fixture
def watched(tiny):
    """Return a factory of models of uneven attention."""

    def make(variant, tokenizer, **options):
        return tiny(variant, len(tokenizer), jitter=0.5, **options).eval()

    return make


def readable(tokens: list[str]) -> list[str]:
    return [token.replace("Ġ", " ").replace("▁", " ") for token in tokens]


@views
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
def test_a_decoder(watched, causal_tokenizer, view, kernel):
    """The kernel that keeps no weights is changed for one that does where they are asked for."""
    model = watched("decoder", causal_tokenizer, attn_implementation=kernel)
    inputs = causal_tokenizer("the old man walks his dog", return_tensors="pt")
    if kernel == "sdpa":
        model.set_attn_implementation("eager")
    attentions = model(**inputs, output_attentions=True).attentions
    tokens = causal_tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    found = show(view, attention=attentions, tokens=tokens)
    (entry,) = found["attention"]
    assert_weights(entry, attentions, readable(tokens), readable(tokens))
    drawn = torch.tensor(entry["attn"])
    assert torch.equal(drawn, drawn.tril()), "nobody looks ahead"
    assert found["include_layers"] == [0, 1]


@views
def test_an_encoder_with_two_sentences(watched, encoder_tokenizer, view):
    model = watched("encoder", encoder_tokenizer, type_vocab_size=2, attn_implementation="eager")
    inputs = encoder_tokenizer("a bird sings", "we walk home", return_tensors="pt")
    attentions = model(**inputs, output_attentions=True).attentions
    tokens = encoder_tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
    second = inputs["token_type_ids"][0].tolist().index(1)
    entries = show(view, attention=attentions, tokens=tokens, sentence_b_start=second)["attention"]
    assert entries[0]["name"] == "All"
    assert_weights(entries[0], attentions, tokens, tokens)
    across = next(entry for entry in entries if entry["name"] == "Sentence A -> Sentence B")
    expected = torch.stack([layer[0, :, :second, second:] for layer in attentions])
    torch.testing.assert_close(torch.tensor(across["attn"]), expected)
    assert (across["left_text"], across["right_text"]) == (tokens[:second], tokens[second:])


@views
def test_an_encoder_decoder(watched, seq2seq_tokenizer, view):
    """Three pictures: the source on itself, the target on itself, and the target on the source."""
    model = watched("encoder-decoder", seq2seq_tokenizer, attn_implementation="eager")
    source = seq2seq_tokenizer("he drinks a cup of tea", return_tensors="pt")
    target = seq2seq_tokenizer("er trinkt eine Tasse Tee", return_tensors="pt")["input_ids"]
    out = model(**source, decoder_input_ids=target, output_attentions=True)
    words = [seq2seq_tokenizer.convert_ids_to_tokens(ids[0]) for ids in (source["input_ids"], target)]
    assert len(words[0]) != len(words[1])
    found = show(
        view,
        encoder_attention=out.encoder_attentions,
        decoder_attention=out.decoder_attentions,
        cross_attention=out.cross_attentions,
        encoder_tokens=words[0],
        decoder_tokens=words[1],
    )
    encoder, decoder, cross = found["attention"]
    assert [entry["name"] for entry in (encoder, decoder, cross)] == ["Encoder", "Decoder", "Cross"]
    left, right = readable(words[0]), readable(words[1])
    assert_weights(encoder, out.encoder_attentions, left, left)
    assert_weights(decoder, out.decoder_attentions, right, right)
    assert_weights(cross, out.cross_attentions, right, left)


def test_weights_of_what_was_generated(watched, seq2seq_tokenizer):
    """What `generate` keeps, one row for each step, makes the picture that one pass over the finished text makes."""
    model = watched("encoder-decoder", seq2seq_tokenizer, attn_implementation="eager")
    source = seq2seq_tokenizer("the dog runs", return_tensors="pt")
    out = model.generate(
        **source, max_new_tokens=6, do_sample=False, output_attentions=True, return_dict_in_generate=True
    )
    steps = [torch.cat([step[layer] for step in out.cross_attentions], dim=2) for layer in range(2)]
    target = out.sequences[:, :-1]
    words = [seq2seq_tokenizer.convert_ids_to_tokens(ids[0]) for ids in (source["input_ids"], target)]
    found = show("head_view", cross_attention=steps, encoder_tokens=words[0], decoder_tokens=words[1])
    expected = model(**source, decoder_input_ids=target, output_attentions=True).cross_attentions
    assert_weights(found["attention"][0], expected, readable(words[1]), readable(words[0]))
