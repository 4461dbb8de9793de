"""The recurrent rungs against their equations, written as loops, and against torch's own cells."""

import math

import pytest
import torch

from lab.made import PAD
from lab.recurrent import CELLS, SCORES, BeforeDecoder, Encoder, FixedDecoder, RecurrentTranslator

V, D, H, B, T, S = 11, 6, 8, 2, 3, 5


def model_of(score=None, **options) -> RecurrentTranslator:
    torch.manual_seed(0)
    return RecurrentTranslator(V, D, H, score, positions=9, **options).double().eval()


def naive_score(name, score, query, key, place):
    """The score of one query vector (H,) with one key vector (H,) at a place of the source."""
    if name == "additive":
        inner = [
            math.tanh(a + b)
            for a, b in zip(
                (score.query.weight @ query + score.query.bias).tolist(), (score.matrix.weight @ key).tolist()
            )
        ]
        return sum(weight * value for weight, value in zip(score.v.weight[0].tolist(), inner))
    if name == "general":
        return sum(query[i] * score.matrix.weight[i, j] * key[j] for i in range(H) for j in range(H)).item()
    if name == "location":
        return (score.places.weight[place] @ query).item()
    dot = sum(a * b for a, b in zip(query.tolist(), key.tolist()))
    return dot / math.sqrt(H) if name == "scaled" else dot


@pytest.mark.parametrize("name", SCORES)
def test_attention_is_the_equation(name):
    """Scores, softmax and weighted sum, one number after the other (Bahdanau et al. 2015, eq. 5 and 6)."""
    decoder = model_of(name).decoder
    queries, states = torch.randn(B, T, H).double(), torch.randn(B, S, H).double()
    contexts, weights = decoder.context(queries, decoder.score.keys(states), states, None)
    for b in range(B):
        for t in range(T):
            scores = [naive_score(name, decoder.score, queries[b, t], states[b, s], s) for s in range(S)]
            total = sum(math.exp(score) for score in scores)
            expected = [math.exp(score) / total for score in scores]
            assert torch.allclose(weights[b, t], torch.tensor(expected).double(), atol=1e-12)
            context = sum(weight * states[b, s] for s, weight in enumerate(expected))
            assert torch.allclose(contexts[b, t], context, atol=1e-12)


def test_additive_attention_looks_with_the_state_before():
    """s_t = GRU(s_{t-1}, [y_t; c_t]) with c_t from s_{t-1} (Bahdanau et al. 2015, sec. 3.1), step by step."""
    decoder = model_of("additive").decoder
    assert isinstance(decoder, BeforeDecoder)
    vectors, start, states = (
        torch.randn(B, T, D).double(),
        torch.randn(B, H).double(),
        torch.randn(B, S, H).double(),
    )
    hidden, contexts = decoder(vectors, start, states, None)
    before = torch.cat([start.unsqueeze(1), hidden[:, :-1]], 1)
    expected, _ = decoder.context(before, decoder.score.keys(states), states, None)
    assert torch.allclose(contexts, expected)
    for t in range(T):
        step = decoder.cell(torch.cat([vectors[:, t], contexts[:, t]], -1), before[:, t])
        assert torch.allclose(hidden[:, t], step)


def test_the_fixed_context_is_the_same_at_each_step_whatever_is_written():
    decoder = model_of().decoder
    assert isinstance(decoder, FixedDecoder)
    start, states = torch.randn(B, H).double(), torch.randn(B, S, H).double()
    for vectors in torch.randn(2, B, T, D).double():
        _, context = decoder(vectors, start, states, None)
        assert torch.equal(context, start.unsqueeze(1).expand(B, T, H))


def test_the_fixed_context_is_all_that_the_decoder_has_of_the_source():
    """Two sources with one last state give the same logits; with attention they do not."""
    source, other = torch.randint(4, V, (1, S)), torch.randint(4, V, (1, S))
    written = torch.randint(4, V, (1, T))
    for score, same in ((None, True), ("dot", False)):
        model = model_of(score)
        last = torch.randn(1, H).double()
        encode = model.encoder.forward
        model.encoder.forward = lambda *arguments, e=encode, last=last: (e(*arguments)[0], last)
        assert torch.allclose(model(source, written), model(other, written)) == same


@pytest.mark.parametrize("cell", CELLS)
def test_encoder_is_torchs_cells_one_after_the_other(cell):
    torch.manual_seed(0)
    encoder = Encoder(D, H, cell, both_ways=False).double()
    one = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}[cell](D, H).double()
    one.load_state_dict({name.removesuffix("_l0"): weight for name, weight in encoder.cells.state_dict().items()})
    vectors, state = torch.randn(B, S, D).double(), None
    states, last = encoder(vectors)
    for t in range(S):
        state = one(vectors[:, t], state)
        assert torch.allclose(states[:, t], state[0] if cell == "lstm" else state)
    assert torch.allclose(last, states[:, -1])


def test_the_last_states_of_both_directions_have_read_the_whole_source():
    encoder = Encoder(D, H).double()
    states, last = encoder(torch.randn(B, S, D).double())
    assert torch.allclose(last, torch.cat([states[:, -1, : H // 2], states[:, 0, H // 2 :]], -1))
    with pytest.raises(ValueError, match="hidden=7 must be even"):
        Encoder(D, 7)


@pytest.mark.parametrize("score", [None, *SCORES])
def test_padding_changes_nothing_and_no_token_looks_ahead(score):
    model = model_of(score)
    source, written = torch.randint(4, V, (B, S)), torch.randint(4, V, (B, T))
    source[1, 3:] = PAD
    logits = model(source, written)
    assert torch.allclose(logits[1:], model(source[1:, :3], written[1:]))
    changed = written.clone()
    changed[:, -1] = (changed[:, -1] - 3) % (V - 4) + 4
    assert torch.allclose(model(source, changed)[:, :-1], logits[:, :-1])


def test_location_has_a_row_for_each_place_and_no_more():
    with pytest.raises(ValueError, match="a source of 10 tokens: at most 9"):
        model_of("location")(torch.full((1, 10), 5), torch.full((1, 2), 5))
