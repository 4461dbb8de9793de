# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A search, taken down: against transformers' own answer, against the model's own scores, and by hand."""

from types import SimpleNamespace

import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration

from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration, decoding
from modeling_vanilla.look.search import replay, score_of, search

VOCABULARY = 9
SIZES = dict(vocab_size=VOCABULARY, d_model=12, d_ff=20, num_layers=2, num_heads=3)
BART = dict(vocab_size=VOCABULARY, d_model=12, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=20)
BART |= dict(encoder_attention_heads=3, decoder_attention_heads=3, decoder_ffn_dim=20, forced_eos_token_id=None)

TOKENIZER = SimpleNamespace(
    convert_ids_to_tokens=lambda ids: ["abcdefghi"[token] for token in ids],
    all_special_tokens=[],
    decode=lambda ids, **_: "".join("abcdefghi"[token] for token in ids.tolist()),
)


def models():
    return {
        "translator": lambda: VanillaForConditionalGeneration(VanillaConfig(**SIZES)),
        "decoder": lambda: VanillaForCausalLM(VanillaConfig(variant="decoder", **SIZES)),
        "bart": lambda: BartForConditionalGeneration(BartConfig(**BART)),
    }


@pytest.fixture(params=models())
def model(request, randomise):
    return randomise(models()[request.param](), std=0.5)


@pytest.fixture
def inputs():
    ids = torch.tensor([[5, 7, 4, 8, 6]])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def path(tree_, node) -> list[int]:
    """Return the ids of a hypothesis."""
    ids = []
    while node is not None:
        ids.insert(0, "abcdefghi".index(tree_.nodes[node].label))
        node = tree_.nodes[node].parent
    return ids


@pytest.mark.parametrize(("beams", "length_penalty"), [(1, 1.0), (2, 0.0), (3, 1.0), (4, 2.5)])
def test_the_search_that_was_played_again_is_the_one_that_ran(model, inputs, beams, length_penalty):
    """`replay` compares its beams and its score with transformers'; here are the text and every node's score."""
    result = search(model, TOKENIZER, inputs, beams, length_penalty, max_new_tokens=7)
    options = dict(num_beams=beams, length_penalty=length_penalty, max_length=None, max_new_tokens=7, do_sample=False)
    ids = model.generate(**inputs, **options)[0].tolist()
    winner = next(number for number, node in enumerate(result.search.nodes) if node.fate == "winner")
    written = path(result.search, winner)
    assert ids[-len(written) :] == written
    assert result.length == len(written)
    assert len({node.fate for node in result.search.nodes}) >= 2
    for number in range(0, len(result.search.nodes), 11):
        expected = score_of(model, inputs, path(result.search, number))
        assert result.search.nodes[number].score == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["translator", "decoder"])
def test_our_search_is_taken_down_as_transformers_search_is(name, beams, randomise, inputs, monkeypatch):
    model = randomise(models()[name](), std=0.5)
    options = dict(num_beams=beams, length_penalty=0.8 if beams > 1 else None, do_sample=False, max_new_tokens=7)
    options |= dict(output_scores=True, return_dict_in_generate=True)
    ends = {model.generation_config.eos_token_id}
    expected = replay(model.generate(**inputs, **options), ends, beams, 0.8, 7, str)
    monkeypatch.setattr(decoding, "hand_over", lambda *args: pytest.fail("the search was handed over"))
    ours = replay(model.generate(**inputs, custom_generate=decoding.search, **options), ends, beams, 0.8, 7, str)
    assert len(ours.nodes) == len(expected.nodes) > 7
    for node, other in zip(ours.nodes, expected.nodes, strict=True):
        assert (node.parent, node.label, node.fate) == (other.parent, other.label, other.fate)
        assert node.score == pytest.approx(other.score, abs=1e-4)


def test_the_papers_length_penalty_is_not_played_again(randomise, inputs):
    """A tree divides by n^a; the other form could choose another winner."""
    model = randomise(models()["translator"](), std=0.5)
    options = dict(num_beams=3, max_new_tokens=7, output_scores=True, return_dict_in_generate=True)
    options |= dict(custom_generate=decoding.search, length_penalty=0.8, length_penalty_form="paper")
    with pytest.raises(ValueError, match="'paper'"):
        replay(model.generate(**inputs, **options), {model.generation_config.eos_token_id}, 3, 0.8, 7, str)


def all_texts(model, inputs) -> dict[tuple[int, ...], float]:
    """Return the log-probability of every text of at most two tokens, from one pass over all of them."""
    end, start = model.generation_config.eos_token_id, model.generation_config.decoder_start_token_id
    firsts = torch.tensor([[start, first] for first in range(VOCABULARY)])
    whole = {name: rows.expand(VOCABULARY, -1) for name, rows in inputs.items()}
    with torch.no_grad():
        nats = model(**whole, decoder_input_ids=firsts).logits.log_softmax(-1).tolist()  # (V, 2, V)
    texts = {(a, b): nats[a][0][a] + nats[a][1][b] for a in range(VOCABULARY) for b in range(VOCABULARY) if a != end}
    return texts | {(end,): nats[0][0][end]}


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_a_search_that_drops_nothing_finds_the_best_of_all_texts(randomise, inputs, length_penalty):
    model = randomise(models()["translator"](), std=0.2)
    texts = all_texts(model, inputs)
    best = max(texts, key=lambda text: texts[text] / len(text) ** length_penalty)
    result = search(model, TOKENIZER, inputs, 40, length_penalty, best, 2)
    assert result.score == pytest.approx(texts[best], abs=1e-5)
    assert result.verdict == "the reference"
    finished = {tuple(path(result.search, n)) for n, node in enumerate(result.search.nodes) if node.fate != "kept"}
    assert set(texts) - {(first,) for first in range(VOCABULARY)} <= finished, "nothing was dropped"


def test_whose_fault_a_wrong_text_is(randomise, inputs):
    """A search with one beam finds something between the best and the worst of all texts."""
    for seed in range(20):
        model = randomise(models()["translator"](), seed=seed, std=0.2)
        texts = all_texts(model, inputs)
        ordered = sorted(texts, key=texts.get)
        greedy = search(model, TOKENIZER, inputs, 1, 0.0, ordered[-1], 2)
        if greedy.score < texts[ordered[-1]] - 1e-3:
            break
    assert greedy.verdict == "search error"
    assert greedy.reference == (pytest.approx(texts[ordered[-1]], abs=1e-5), len(ordered[-1]))
    assert search(model, TOKENIZER, inputs, 1, 0.0, ordered[0], 2).verdict == "model error"


def test_what_cannot_be_played_again_is_an_error(randomise, inputs):
    model = randomise(models()["decoder"](), std=0.1)
    options = dict(num_beams=3, max_new_tokens=6, output_scores=True, return_dict_in_generate=True)
    drawn = model.generate(**inputs, do_sample=True, **options)
    with pytest.raises(ValueError, match="sampled"):
        replay(drawn, {model.generation_config.eos_token_id}, 3, 1.0, 6, str)


@pytest.mark.parametrize(
    ("field", "value"), [("beams", 0), ("beams", 65), ("beams", 1.5), ("length_penalty", float("nan"))]
)
def test_numbers_out_of_range(randomise, inputs, field, value):
    numbers = {"beams": 2, "length_penalty": 1.0, field: value}
    with pytest.raises(ValueError, match=f"{field}: {value}"):
        search(models()["decoder"](), TOKENIZER, inputs, **numbers)


def test_fates(by_hand):
    fates = [node.fate for node in by_hand.close().nodes]
    assert fates == ["kept", "worse", "kept", "length", "winner", "ended"]
