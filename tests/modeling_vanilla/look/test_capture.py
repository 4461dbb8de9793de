# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Captured weights against those that eager attention returns, on every architecture; and what is left behind."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from small_models import BUILD, OURS, ids
from torch.nn.attention.flex_attention import create_block_mask
from transformers import AttentionInterface, MambaConfig, MambaModel, pipeline
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

import tokenizer as tokenizers
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration, decoding
from modeling_vanilla.look import Attention, averaged, capture, full, top
from modeling_vanilla.look.weights import BLOCK

B, T, S = 2, 7, 9
FIELDS = {"encoder_attentions": "encoder", "decoder_attentions": "decoder", "cross_attentions": "cross"}


def batch(model, side: str) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Return inputs with padding on one side of the second row, and which source and target places are real."""
    real = torch.ones(B, S, dtype=torch.long)
    real[1, slice(S - 3, S) if side == "right" else slice(0, 3)] = 0
    inputs = {"input_ids": ids(B, S), "attention_mask": real}
    if not model.config.is_encoder_decoder:
        return inputs, real.bool(), real.bool()
    target = torch.ones(B, T, dtype=torch.long)
    target[1, slice(T - 2, T) if side == "right" else slice(0, 2)] = 0
    inputs |= {"decoder_input_ids": ids(B, T, seed=1), "decoder_attention_mask": target}
    return inputs, real.bool(), target.bool()


def expected_of(model, **inputs) -> dict[tuple[str, int], torch.Tensor]:
    """Return the weights that eager attention returns, by kind and layer."""
    kernel = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    model.set_attn_implementation(kernel)
    causal = not model.config.is_encoder_decoder and any(getattr(m, "is_causal", False) for m in model.modules())
    fields = FIELDS | {"attentions": "decoder" if causal else "encoder"}
    expected = {
        (kind, layer): weights
        for field, kind in fields.items()
        for layer, weights in enumerate(getattr(output, field, None) or ())
    }
    if not expected:
        pytest.skip("this transformers returns no weights of this model (T5 in 5.17)")
    return expected


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", BUILD)
def test_weights_are_those_of_eager_attention(model_of, name, side):
    model = model_of(name)
    inputs, source, target = batch(model, side)
    expected = expected_of(model, **inputs)
    for kernel in ("sdpa", "eager"):
        model.set_attn_implementation(kernel)
        with torch.no_grad():
            plain = model(**inputs)[0]
            with capture(model) as seen:
                output = model(**inputs)[0]
        if name == "window":  # computed in chunks while unseen
            torch.testing.assert_close(output[target], plain[target], atol=1e-5, rtol=1e-5)
        else:
            assert torch.equal(output, plain)
        assert model.config._attn_implementation == kernel
        assert set(seen) == set(expected)
        for (kind, layer), weights in expected.items():
            rows = source if kind == "encoder" else target  # rows of padding mean nothing, and kernels differ there
            (got,) = seen[kind, layer].calls
            assert seen[kind, layer].heads == [0, 1, 2, 3]
            torch.testing.assert_close(got.transpose(1, 2)[rows], weights.transpose(1, 2)[rows], atol=5e-6, rtol=0)


@pytest.mark.slow  # it is compiled
@pytest.mark.parametrize("name", ["encoder", "window", "encoder-decoder"])
def test_flex_attention_is_seen(model_of, name):
    model = model_of(name)
    inputs, source, target = batch(model, "left")
    expected = expected_of(model, **inputs)
    model.set_attn_implementation("flex_attention")
    with torch.no_grad(), capture(model) as seen:
        model(**inputs)
    for (kind, layer), weights in expected.items():
        rows = source if kind == "encoder" else target
        got = seen[kind, layer].calls[0]
        torch.testing.assert_close(got.transpose(1, 2)[rows], weights.transpose(1, 2)[rows], atol=5e-6, rtol=0)


def test_maps_differ_from_one_another(model_of):
    """What the parity above compares is no set of equal maps, which a wrong head or layer would pass."""
    model = model_of("encoder-decoder")
    inputs, *_ = batch(model, "right")
    maps = [weights[0, head] for weights in expected_of(model, **inputs).values() for head in range(4)]
    for number, one in enumerate(maps):
        assert all(one.shape != other.shape or (one - other).abs().max() > 0.01 for other in maps[:number])


WRITERS = [name for name in BUILD if name not in ("BERT", "encoder")]
SEARCHES = [(name, beams, False) for name in WRITERS for beams in (1, 3)]
SEARCHES += [(name, 1, True) for name in ("GPT-2", "BART", "encoder-decoder")]


@pytest.mark.parametrize(("name", "beams", "sample"), SEARCHES)
def test_rows_of_generate_are_those_of_one_pass(model_of, name, beams, sample):
    """With a cache a step has one row; with beams it is the winner's, told by beam_indices."""
    model, steps = model_of(name), 4
    source = ids(B, S)
    mask = torch.ones(B, S, dtype=torch.long)
    mask[1, :3] = 0
    settings = dict(max_new_tokens=steps, min_new_tokens=steps, num_beams=beams, do_sample=sample, output_scores=True)
    with torch.no_grad(), capture(model) as seen:
        out = model.generate(source, attention_mask=mask, return_dict_in_generate=True, **settings)
    written = out.sequences
    if model.config.is_encoder_decoder:
        expected = expected_of(model, input_ids=source, attention_mask=mask, decoder_input_ids=written[:, :-1])
    else:
        longer = torch.cat([mask, torch.ones(B, steps, dtype=torch.long)], 1)[:, :-1]
        places = (longer.cumsum(1) - 1).clamp(min=0)  # as generate counts them
        expected = expected_of(model, input_ids=written[:, :-1], attention_mask=longer, position_ids=places)
    first = 0 if model.config.is_encoder_decoder else S - 1
    for (kind, layer), weights in expected.items():
        if kind == "encoder":
            continue
        assert len(seen[kind, layer].calls) == steps
        for step, call in enumerate(seen[kind, layer].calls):
            for row in range(B):
                # The prompt is read once a row, or once a beam.
                beam = int(out.beam_indices[row, step]) if beams > 1 else row
                got = call[beam, :, -1] if len(call) > B or beams == 1 else call[row, :, -1]
                seen_by_it = weights[row, :, first + step]
                if kind == "decoder":  # a cache with a window has let go of the first keys, which have no weight
                    seen_by_it = seen_by_it[:, : first + step + 1]
                want = seen_by_it[:, -got.shape[-1] :]
                assert not seen_by_it[:, : -got.shape[-1]].any()
                torch.testing.assert_close(got, want, atol=5e-6, rtol=0)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", ["encoder-decoder", "decoder", "window"])
def test_our_search_is_seen_as_transformers_search_is(model_of, name, beams, monkeypatch):
    """It computes attention itself, so it leaves a watched model to transformers; unwatched it does not."""
    model, asked, hand_over = model_of(name), [], decoding.hand_over
    monkeypatch.setattr(decoding, "hand_over", lambda *args: asked.append(args) or hand_over(*args))
    mask = torch.ones(B, S, dtype=torch.long)
    mask[1, :3] = 0
    settings = dict(attention_mask=mask, num_beams=beams, do_sample=False, max_new_tokens=4, min_new_tokens=4)
    with capture(model) as expected:
        theirs = model.generate(ids(B, S), **settings)
    with capture(model) as seen:
        watched = model.generate(ids(B, S), custom_generate=decoding.search, **settings)
    assert len(asked) == 1
    unwatched = model.generate(ids(B, S), custom_generate=decoding.search, **settings)
    assert len(asked) == (2 if name == "window" else 1)
    assert watched.tolist() == unwatched.tolist() == theirs.tolist()
    assert list(seen) == list(expected)
    for place, layer in expected.items():
        assert len(layer.calls) == (1 if place[0] == "encoder" else 4)
        assert all(torch.equal(*maps) for maps in zip(seen[place].calls, layer.calls, strict=True))


def test_a_pipeline_is_seen(randomise):
    """Its maps are those of one pass over what it wrote."""
    words = tokenizers.build("char", ["the 3rd of May"], 40, "seq2seq", show_progress=False)
    model = randomise(VanillaForConditionalGeneration(VanillaConfig(**OURS | {"vocab_size": len(words)})), std=0.4)
    pipe = pipeline("translation", model=model, tokenizer=words, device="cpu")
    with capture(model) as seen:
        (result,) = pipe("the May", max_new_tokens=5, min_new_tokens=5, num_beams=1, return_tensors=True)
    written = result["translation_token_ids"][None]
    inputs = words("the May", return_tensors="pt")
    expected = expected_of(model, input_ids=inputs["input_ids"], decoder_input_ids=written[:, :-1])
    assert set(seen) == set(expected)
    for (kind, layer), weights in expected.items():
        calls = seen[kind, layer].calls
        assert len(calls) == (1 if kind == "encoder" else 5)
        for step, call in enumerate(calls):
            want = weights if kind == "encoder" else weights[:, :, step : step + 1, : call.shape[-1]]
            torch.testing.assert_close(call, want, atol=5e-6, rtol=0)


def test_chosen_layers_heads_and_kind(model_of):
    model = model_of("Llama, grouped keys")
    inputs, *_ = batch(model, "left")
    expected = expected_of(model, **inputs)
    with torch.no_grad(), capture(model, layers=[1], heads=[3, 1], kind="decoder") as seen:
        model(**inputs)
    assert list(seen) == [("decoder", 1)]
    assert seen["decoder", 1].heads == [3, 1]
    got = seen["decoder", 1].calls[0][0]
    torch.testing.assert_close(got, expected["decoder", 1][0, [3, 1]], atol=5e-6, rtol=0)


def test_blocks_join_to_the_whole(model_of, monkeypatch):
    model = model_of("T5")
    inputs, *_ = batch(model, "left")
    with torch.no_grad(), capture(model) as whole:
        model(**inputs)
    monkeypatch.setitem(BLOCK, "cpu", B * 4 * S * 2)  # two rows
    with torch.no_grad(), capture(model) as blocks:
        model(**inputs)
    for key, layer in whole.items():
        torch.testing.assert_close(blocks[key].calls[0], layer.calls[0])


def test_top_and_averaged_are_what_the_full_map_gives(model_of, monkeypatch):
    model = model_of("BERT")
    inputs, *_ = batch(model, "right")
    reduced = {}
    for name, reduce in {"full": full, "top": top(3), "averaged": averaged(4)}.items():
        monkeypatch.setitem(BLOCK, "cpu", B * 4 * S * 2)
        with torch.no_grad(), capture(model, layers=[0], reduce=reduce) as seen:
            model(**inputs)
        reduced[name] = seen["encoder", 0].calls[0]
    values, columns = reduced["top"]
    torch.testing.assert_close(values, reduced["full"].sort(-1, descending=True).values[..., :3])
    torch.testing.assert_close(reduced["full"].gather(-1, columns), values)
    # 9 places in at most 4 cells: 3 cells of 3.
    cells = reduced["full"].unflatten(3, (3, 3)).mean(4).unflatten(2, (3, 3)).mean(3)
    torch.testing.assert_close(reduced["averaged"], cells)


def test_an_average_counts_only_what_is_there():
    attention = Attention("encoder", 0, [0], *(torch.randn(1, 1, size, 5) for size in (7, 10, 10)), scaling=0.3)
    weights = full(attention)[0, 0]
    got = averaged(4)(attention)[0, 0]  # cells of 2 rows and 3 columns
    assert got.shape == (4, 4)
    torch.testing.assert_close(got[3, 3], weights[6, 9])
    torch.testing.assert_close(got[0, 1], weights[0:2, 3:6].mean())


@pytest.mark.parametrize("length", [1, 4, 9])
def test_masks_of_other_kernels_hide_the_same(length):
    """A rule (flex), padding beside `is_causal` (flash), booleans and numbers (sdpa, eager) are one mask."""
    torch.manual_seed(0)
    query, key = torch.randn(B, 3, length, 5), torch.randn(B, 3, S, 5)
    real = torch.ones(B, S, dtype=torch.bool)
    real[1, :3] = False
    offset, window = S - length, 4
    ages = torch.arange(length)[:, None] + offset - torch.arange(S)
    seen = ((ages >= 0) & (ages < window))[None, None] & real[:, None, None]  # (B, 1, T, S)
    numbers = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)

    def rule(batch, head, row, column):
        age = row + offset - column
        return (age >= 0) & (age < window) & real[batch, column]

    block_mask = create_block_mask(rule, B, None, length, S, device="cpu")
    flash = dict(mask=real, is_causal=True, offset=offset, window=window)
    expected = (query @ key.transpose(2, 3) * 0.3).masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num()
    for options in (dict(mask=seen), dict(mask=numbers), dict(mask=block_mask), flash):
        attention = Attention("decoder", 0, [0, 1, 2], query, key, key, 0.3, **options)
        torch.testing.assert_close(full(attention), expected)
        hidden = torch.cat([hidden for _, hidden in attention.blocks()], 2)
        assert torch.equal(hidden.expand(B, 1, length, S), ~seen)


def test_softcap_and_sinks_are_those_of_their_equations():
    query, key = torch.randn(B, 2, T, 5), torch.randn(B, 2, S, 5)
    scores = 3 * torch.tanh(query @ key.transpose(2, 3) / 3)
    sinks = torch.tensor([0.5, -1.0])
    expected = scores.exp() / (scores.exp().sum(-1, keepdim=True) + sinks.exp()[:, None, None])
    got = full(Attention("decoder", 0, [0, 1], query, key, key, 1.0, softcap=3.0, sinks=sinks))
    torch.testing.assert_close(got, expected)


def untouched() -> bool:
    """Tell whether the interface of attention is as transformers made it."""
    return (
        "__getitem__" not in vars(AttentionInterface) and AttentionInterface.get_interface.__name__ == "get_interface"
    )


def hooks(model) -> list[int]:
    """Count the hooks of each module."""
    return [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()]


def test_nothing_stays_behind_after_an_error(model_of):
    model = model_of("encoder-decoder")
    inputs, *_ = batch(model, "right")
    before = hooks(model)

    def broken(attention):
        raise RuntimeError("broken reduction")

    with pytest.raises(RuntimeError, match="broken"), capture(model, reduce=broken):
        model(**inputs)
    with pytest.raises(KeyError), capture(model) as seen:
        model(**inputs)
        raise KeyError
    assert untouched()
    assert hooks(model) == before
    calls = [len(layer.calls) for layer in seen.values()]
    model(**inputs)
    assert [len(layer.calls) for layer in seen.values()] == calls == [1] * 8


def test_captures_may_be_nested(model_of):
    model, other = model_of("BERT"), model_of("GPT-2")
    inputs, *_ = batch(model, "right")
    with torch.no_grad(), capture(model) as outer:
        with capture(model, layers=[0], reduce=top(2)) as inner, capture(other) as beside:
            model(**inputs)
            other(**inputs)
        assert not untouched()
        model(**inputs)
    assert untouched()
    assert [len(layer.calls) for layer in outer.values()] == [2, 2]
    assert {key: len(layer.calls) for key, layer in inner.items()} == {("encoder", 0): 1}
    assert list(beside) == [("decoder", 0), ("decoder", 1)]


def test_threads_see_their_own_calls(model_of):
    """Two threads with captures of one model, one without, and lengths that tell whose call it was."""
    model = model_of("encoder-decoder")
    start = threading.Barrier(3)

    def look(length: int) -> set[tuple]:
        start.wait()
        with torch.no_grad(), capture(model) as seen:
            for _ in range(20):
                model(input_ids=ids(1, length), decoder_input_ids=ids(1, length))
        return {(key, call.shape[2]) for key, layer in seen.items() for call in layer.calls}

    def run() -> None:
        start.wait()
        for _ in range(20):
            with torch.no_grad():
                model(input_ids=ids(1, 11), decoder_input_ids=ids(1, 11))

    with ThreadPoolExecutor(3) as threads:
        looks = {length: threads.submit(look, length) for length in (5, 8)}
        threads.submit(run).result()
    lengths = {length: future.result() for length, future in looks.items()}
    assert {length: {size for _, size in seen} for length, seen in lengths.items()} == {5: {5}, 8: {8}}
    assert all(len(seen) == 8 for seen in lengths.values())
    assert untouched()


def test_a_kernel_of_the_users_own_is_run_and_seen(model_of, monkeypatch):
    model = model_of("BERT")
    inputs, *_ = batch(model, "right")
    expected = expected_of(model, **inputs)
    ran = []

    def kernel(module, *arguments, **options):
        ran.append(module)
        return AttentionInterface._global_mapping["sdpa"](module, *arguments, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._local_mapping, "sdpa", kernel)
    with torch.no_grad(), capture(model) as seen:
        model(**inputs)
    assert len(ran) == 2
    torch.testing.assert_close(seen["encoder", 1].calls[0][0], expected["encoder", 1][0], atol=5e-6, rtol=0)


def test_a_model_that_looks_its_kernel_up_by_name_is_seen(model_of):
    """As code of the Hub does that was written before `get_interface`."""
    module = torch.nn.Module()
    module.config = SimpleNamespace(_attn_implementation="sdpa")
    module.forward = lambda x: ALL_ATTENTION_FUNCTIONS["sdpa"](module, x, x, x, None, is_causal=False)[0]
    x = torch.randn(B, 3, S, 5)
    with capture(module) as seen:
        module(x)
    torch.testing.assert_close(seen["encoder", 0].calls[0], (x @ x.transpose(2, 3) * 5**-0.5).softmax(-1))


def test_what_does_not_exist_is_refused(model_of):
    model = model_of("encoder-decoder")
    inputs, *_ = batch(model, "right")
    for options, message in (
        (dict(layers=[3], kind="encoder"), "layer 3 does not exist; VanillaForConditionalGeneration has 0 to 1"),
        (dict(heads=[4]), "head 4 does not exist; .*encoder.layers.0.self_attn has 4, from 0 to 3"),
        (dict(heads=["0"]), "head '0' does not exist"),
        (dict(heads=[True]), "head True does not exist"),
    ):
        with pytest.raises(ValueError, match=message), capture(model, **options):
            model(**inputs)
    encoder = model_of("BERT")
    message = "kind 'cross': BertModel has none; it has encoder"
    with pytest.raises(ValueError, match=message), capture(encoder, kind="cross"):
        encoder(ids(B, S))
    assert untouched()


def test_a_model_without_the_interface_is_refused():
    model = MambaModel(MambaConfig(vocab_size=31, hidden_size=8, num_hidden_layers=1, state_size=3))
    message = "MambaModel: no attention ran through the attention interface"
    with pytest.raises(ValueError, match=message), torch.no_grad(), capture(model):
        model(ids(B, S) % 31)
    assert untouched()
