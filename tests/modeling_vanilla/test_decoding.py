# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The search of our own gives what transformers' search gives, or leaves the work to it."""

import functools

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import BaseStreamer

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    decoding,
    decoding_products,
)
from modeling_vanilla.decoding import best, search
from modeling_vanilla.decoding_limits import OwnLimit

SIZES = dict(vocab_size=97, d_model=24, d_ff=29, num_layers=2, num_heads=4)
ENDS = [3, *range(40, 48)]
CLASSES = {"encoder-decoder": VanillaForConditionalGeneration, "decoder": VanillaForCausalLM}


def model_of(variant: str, **options):
    """A model whose next tokens are far from uniform, so that beams part and end at different steps."""
    torch.manual_seed(1)
    model = CLASSES[variant](VanillaConfig(variant=variant, **(SIZES | options))).eval()
    for name, weight in model.named_parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=1.0 if "positions" in name else 0.3)
    return model


@functools.cache
def plain(variant: str):
    return model_of(variant, tie_word_embeddings=False, positions="learned", scale_embeddings=False)


def inputs_of(variant: str, rows: int = 5, length: int = 9) -> dict:
    """Rows of different lengths: padding on the left of a decoder's prompt, on the right of a source."""
    ids = torch.randint(7, 97, (rows, length), generator=torch.Generator().manual_seed(2))
    mask = torch.ones_like(ids)
    for row in range(1, rows):
        hidden = slice(0, row) if variant == "decoder" else slice(length - row, None)
        mask[row, hidden] = 0
    return {"input_ids": ids.masked_fill(mask == 0, 0), "attention_mask": mask}


@pytest.fixture(params=["weights as they are", "copies"])
def ours(request, monkeypatch):
    """Return a function that searches here and fails where transformers would have been asked."""
    if request.param == "copies":  # these models are too small to pay for them
        monkeypatch.setattr(decoding_products, "SIZE", 0)
        monkeypatch.setattr(decoding_products, "ROWS", 1)

    def run(model, **options):
        with monkeypatch.context() as patch:
            patch.setattr(decoding, "hand_over", lambda *args: pytest.fail("the search was handed over"))
            return model.generate(**options, custom_generate=options.pop("custom_generate", search))

    return run


def same(output, expected) -> None:
    assert output.sequences.tolist() == expected.sequences.tolist()
    if expected.get("sequences_scores") is not None:
        torch.testing.assert_close(output.sequences_scores, expected.sequences_scores, atol=1e-5, rtol=1e-5)
        assert output.beam_indices.tolist() == expected.beam_indices.tolist()
    for mine, theirs in zip(output.scores, expected.scores, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def compare(ours, model, inputs, **options):
    """With all rows to the end and their scores, and with rows that leave."""
    options = {"max_new_tokens": 17, "do_sample": False, "eos_token_id": ENDS, "pad_token_id": 0} | options
    expected = model.generate(**inputs, **options, return_dict_in_generate=True, output_scores=True)
    same(ours(model, **inputs, **options, return_dict_in_generate=True, output_scores=True), expected)
    assert ours(model, **inputs, **options).tolist() == expected.sequences.tolist()
    return expected


BEAMS = [
    dict(num_beams=1),
    dict(num_beams=4),
    dict(num_beams=2, early_stopping=True, length_penalty=0.6, num_return_sequences=2),
    dict(num_beams=3, early_stopping="never", length_penalty=2.0, num_return_sequences=3),
    dict(num_beams=3, early_stopping="never", length_penalty=-0.5),
    dict(num_beams=5, early_stopping=False, length_penalty=0.0, num_return_sequences=5, eos_token_id=3),
    dict(num_beams=4, early_stopping=True, length_penalty=-0.5, eos_token_id=[3, 40, 41, 42]),
]


@pytest.mark.parametrize("variant", CLASSES)
@pytest.mark.parametrize("options", BEAMS, ids=str)
def test_same_tokens_and_scores(variant, options, ours):
    # No token twice: otherwise a model of random weights repeats itself, and nothing ends.
    expected = compare(ours, plain(variant), inputs_of(variant), no_repeat_ngram_size=1, **options)
    ends = torch.isin(expected.sequences, torch.tensor(options.get("eos_token_id", ENDS))).int()
    assert ends.argmax(-1).unique().numel() > 1  # the rows end at different steps: some left the batch


PROCESSORS = [
    dict(no_repeat_ngram_size=2),
    dict(repetition_penalty=1.7),
    dict(bad_words_ids=[[5], [6, 7]], min_new_tokens=4),
    dict(min_length=12, suppress_tokens=[50, 51]),
    dict(forced_eos_token_id=3),
    dict(encoder_repetition_penalty=1.5),  # it knows the rows by number: none leaves
    dict(sequence_bias={(9,): 2.0}),
    dict(renormalize_logits=True),
]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("options", PROCESSORS, ids=str)
def test_the_processors_of_transformers_work(options, beams, ours):
    variant = "encoder-decoder" if beams == 3 or "encoder_repetition_penalty" in options else "decoder"
    compare(ours, plain(variant), inputs_of(variant), num_beams=beams, **options)


ARCHITECTURES = [
    dict(norm_order="pre"),
    dict(positions="learned", scale_embeddings=False, activation="gelu"),
    dict(v_head_dim=5),
    dict(head_dim=7, embedding_norm=True),
    dict(type_vocab_size=2, tie_word_embeddings=False),
    dict(norm_order="pre", positions="learned", attn_implementation="eager"),
]


@pytest.mark.parametrize("variant", CLASSES)
@pytest.mark.parametrize("options", ARCHITECTURES, ids=str)
def test_every_architecture(variant, options, ours):
    model = model_of(variant, **options)
    compare(ours, model, inputs_of(variant), num_beams=3)
    compare(ours, model, inputs_of(variant), num_beams=1)


def test_a_bias_of_the_output(ours):
    model = model_of("encoder-decoder", lm_head_bias=True)
    with torch.no_grad():
        model.lm_head.bias.normal_()
    compare(ours, model, inputs_of("encoder-decoder"), num_beams=3)


@pytest.mark.parametrize("variant", CLASSES)
def test_one_beam_of_one_source(variant, ours):
    compare(ours, plain(variant), inputs_of(variant, rows=1), num_beams=1)
    compare(ours, plain(variant), inputs_of(variant, rows=1), num_beams=4)
    compare(ours, plain("decoder"), {"input_ids": torch.tensor([[8]])}, num_beams=2)


def test_a_cache_that_grows(ours):
    compare(ours, plain("decoder"), inputs_of("decoder"), num_beams=2, max_new_tokens=90, min_new_tokens=85)


@pytest.mark.parametrize("variant", CLASSES)
def test_sampling_with_a_seed_draws_the_same(variant, ours):
    options = dict(max_new_tokens=17, do_sample=True, top_k=20, top_p=0.9, temperature=1.5, num_return_sequences=3)
    torch.manual_seed(5)
    expected = plain(variant).generate(**inputs_of(variant), **options)
    torch.manual_seed(5)
    assert ours(plain(variant), **inputs_of(variant), **options).tolist() == expected.tolist()


@pytest.mark.parametrize("beams", [1, 3])
def test_rows_end_at_their_own_limits(beams, ours):
    limits = [3, 11, 5, 17, 1]
    inputs, model = inputs_of("encoder-decoder"), plain("encoder-decoder")
    options = dict(num_beams=beams, max_new_tokens=17, min_new_tokens=17)
    options |= dict(do_sample=False, return_dict_in_generate=True, output_scores=True)
    theirs = model.generate(**inputs, **options, stopping_criteria=StoppingCriteriaList([OwnLimit(limits)]))
    mine = ours(model, **inputs, **options, stopping_criteria=StoppingCriteriaList([OwnLimit(limits)]))
    written = [sequence[1 : limit + 1] for sequence, limit in zip(mine.sequences.tolist(), limits, strict=True)]
    assert written == [row[1 : end + 1] for row, end in zip(theirs.sequences.tolist(), limits, strict=True)]


def test_equal_logits_are_told_apart_as_there(ours):
    """A model that finds all tokens alike: greedy search takes the first of them."""
    model = model_of("decoder", tie_word_embeddings=False)
    torch.nn.init.zeros_(model.lm_head.weight)
    compare(ours, model, inputs_of("decoder"), num_beams=1)


@pytest.mark.parametrize(("size", "count"), [(97, 4), (4097, 6), (33_000, 8), (8192, 2)])
def test_the_best_of_many(size, count):
    values = torch.randn(3, size, generator=torch.Generator().manual_seed(0))
    top, places = best(values, count)
    expected = values.topk(count, -1)
    assert torch.equal(top, expected.values)
    assert torch.equal(places, expected.indices)


def naive_beams(model, source, beams: int, steps: int, alpha: float) -> list[int]:
    """The paper's search, written down: whole forward passes, Python lists, ((5 + n) / 6)^alpha (Wu et al. 2016)."""
    end = model.config.eos_token_id
    going, ended = [([model.config.decoder_start_token_id], 0.0)], []
    for step in range(1, steps + 1):
        ways = []
        for tokens, score in going:
            with torch.no_grad():
                logits = model(**source, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
            ways += [([*tokens, i], score + value) for i, value in enumerate(logits.log_softmax(-1).tolist())]
        ways = sorted(ways, key=lambda way: -way[1])[: 2 * beams]
        is_last = step == steps
        done = [way for way in ways[:beams] if is_last or way[0][-1] == end]
        ended += [(score / ((5 + step) / 6) ** alpha, tokens) for tokens, score in done]
        ended = sorted(ended, reverse=True)[:beams]
        going = [way for way in ways if way[0][-1] != end][:beams]
        best_left = going[0][1] / ((5 + steps) / 6) ** alpha if going else -1e9
        if len(ended) == beams and best_left <= ended[-1][0]:
            break
    return ended[0][1]


def test_the_length_penalty_of_the_paper(ours):
    model, inputs = plain("encoder-decoder"), inputs_of("encoder-decoder")
    options = dict(num_beams=3, length_penalty=0.6, early_stopping="never", max_new_tokens=11, eos_token_id=3)
    written = ours(model, **inputs, **options, length_penalty_form="paper")
    for row, tokens in enumerate(written.tolist()):
        source = {name: value[row : row + 1] for name, value in inputs.items()}
        expected = naive_beams(model, source, 3, 11, 0.6)
        assert tokens[: len(expected)] == expected
    with pytest.raises(ValueError, match="length_penalty_form='Wu' must be 'hf' or 'paper'"):
        ours(model, **inputs, **options, length_penalty_form="Wu")


class Never(StoppingCriteria):
    def __call__(self, input_ids, scores, **kwargs):
        return torch.zeros(len(input_ids), dtype=torch.bool)


HANDED_OVER = {
    "BeamSample": dict(num_beams=2, do_sample=True),
    "Never": dict(stopping_criteria=StoppingCriteriaList([Never()])),
    "output_attentions": dict(output_attentions=True, return_dict_in_generate=True),
    "output_logits": dict(output_logits=True, return_dict_in_generate=True),
    "use_cache": dict(use_cache=False),
    "static": dict(cache_implementation="static"),
    "begun": dict(decoder_input_ids=torch.tensor([[2, 9]] * 5)),
    "decoder mask": dict(decoder_attention_mask=torch.ones(5, 1, dtype=torch.long)),
}


@pytest.mark.parametrize("name", HANDED_OVER)
def test_what_is_not_handled_is_handed_over(name, monkeypatch):
    """And comes out as if no function had been given."""
    model, inputs, asked = plain("encoder-decoder"), inputs_of("encoder-decoder"), []
    options = dict(max_new_tokens=7) | HANDED_OVER[name]
    torch.manual_seed(0)
    expected = model.generate(**inputs, **options)
    original = decoding.hand_over
    monkeypatch.setattr(decoding, "hand_over", lambda *args: asked.append(args) or original(*args))
    torch.manual_seed(0)
    output = model.generate(**inputs, **options, custom_generate=search)
    assert len(asked) == 1
    tensors = [getattr(one, "sequences", one) for one in (output, expected)]
    assert torch.equal(*tensors)
    if name == "output_attentions":
        assert output.cross_attentions is not None


def handed(model, inputs, monkeypatch, **options) -> bool:
    asked = []
    original = decoding.hand_over
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "hand_over", lambda *args: asked.append(args) or original(*args))
        expected = model.generate(**inputs, max_new_tokens=5, do_sample=False, **options)
        output = model.generate(**inputs, max_new_tokens=5, do_sample=False, custom_generate=search, **options)
    assert torch.equal(output, expected)
    return bool(asked)


def test_models_that_are_changed_run_their_own_code(monkeypatch):
    inputs = inputs_of("decoder")
    assert handed(model_of("decoder", attention_window=4), inputs, monkeypatch)
    model = model_of("decoder")
    assert not handed(model, inputs, monkeypatch)
    handle = model.model.decoder.layers[1].register_forward_hook(lambda module, args, output: output * 0.5)
    assert handed(model, inputs, monkeypatch)
    handle.remove()
    assert not handed(model, inputs, monkeypatch)
    attention = model.model.decoder.layers[0].self_attn
    attention.q_proj = torch.nn.Sequential(attention.q_proj)  # as an adapter wraps it
    assert handed(model, inputs, monkeypatch)


def test_a_hook_of_all_modules_is_not_passed_by(monkeypatch):
    hook = torch.nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        assert handed(plain("decoder"), inputs_of("decoder"), monkeypatch)
    finally:
        hook.remove()
    assert not handed(plain("decoder"), inputs_of("decoder"), monkeypatch)


class Kept(BaseStreamer):
    """Keeps what is streamed."""

    def __init__(self):
        self.tokens, self.ends = [], 0

    def put(self, value):
        self.tokens += value.flatten().tolist()

    def end(self):
        self.ends += 1


@pytest.mark.parametrize("do_sample", [False, True])
@pytest.mark.parametrize("variant", CLASSES)
def test_a_streamer_gets_the_tokens_as_they_come(variant, do_sample):
    options = dict(max_new_tokens=9, min_new_tokens=9, do_sample=do_sample, custom_generate=search)
    streamer, inputs = Kept(), inputs_of(variant, rows=1)
    torch.manual_seed(3)
    written = plain(variant).generate(**inputs, **options, streamer=streamer)
    assert streamer.tokens == written[0].tolist() and streamer.ends == 1
    torch.manual_seed(3)
    assert written.tolist() == plain(variant).generate(**inputs, **options).tolist()
    with pytest.raises(ValueError, match="streamer"):
        plain(variant).generate(**inputs, max_new_tokens=9, num_beams=2, custom_generate=search, streamer=Kept())


def test_positions_of_the_callers_own(monkeypatch):
    model, inputs = model_of("decoder"), inputs_of("decoder", rows=1)
    own = torch.arange(3, 12)[None]
    assert handed(model, inputs, monkeypatch, position_ids=own)
    assert not handed(model, inputs, monkeypatch, position_ids=torch.arange(9)[None])


def test_attentions_once_recorded_do_not_slow_what_follows(monkeypatch):
    model, inputs = model_of("decoder"), inputs_of("decoder")
    model.set_attn_implementation("eager")
    model(**inputs, output_attentions=True, output_hidden_states=True)
    assert not handed(model, inputs, monkeypatch)


def test_weights_that_change_are_those_that_are_used(ours):
    model, inputs = model_of("decoder"), inputs_of("decoder")
    before = ours(model, **inputs, max_new_tokens=9)
    with torch.no_grad():
        for layer in model.model.decoder.layers:
            layer.self_attn.q_proj.weight.data.mul_(-3.0)  # as PEFT merges: no version counts it
    after = ours(model, **inputs, max_new_tokens=9)
    assert after.tolist() == model.generate(**inputs, max_new_tokens=9).tolist()
    assert after.tolist() != before.tolist()


def test_training_mode_drops_units_as_there(monkeypatch):
    model = model_of("decoder", dropout=0.3).train()
    torch.manual_seed(0)
    expected = model.generate(**inputs_of("decoder"), max_new_tokens=5, do_sample=False)
    torch.manual_seed(0)
    output = model.generate(**inputs_of("decoder"), max_new_tokens=5, do_sample=False, custom_generate=search)
    assert torch.equal(output, expected)


def test_too_long_for_the_positions_is_the_same_error():
    model = model_of("decoder", max_position_embeddings=12)
    with pytest.raises(ValueError) as theirs:
        model.generate(**inputs_of("decoder"), max_new_tokens=9, min_new_tokens=9)
    with pytest.raises(ValueError) as mine:
        model.generate(**inputs_of("decoder"), max_new_tokens=9, min_new_tokens=9, custom_generate=search)
    assert str(mine.value) == str(theirs.value)


def test_a_model_of_another_kind_goes_to_transformers(monkeypatch):
    torch.manual_seed(0)
    sizes = dict(vocab_size=97, d_model=24, encoder_layers=1, decoder_layers=1, max_position_embeddings=40)
    sizes |= dict(encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=29, decoder_ffn_dim=29)
    model = BartForConditionalGeneration(BartConfig(**sizes)).eval()
    assert handed(model, inputs_of("encoder-decoder"), monkeypatch, num_beams=2)
    with pytest.raises(ValueError, match="'paper' must be 'hf' for a search that is left to transformers"):
        model.generate(
            **inputs_of("encoder-decoder"), num_beams=2, custom_generate=search, length_penalty_form="paper"
        )


def test_an_interrupted_search_ends(ours):
    calls = []

    def third():
        calls.append(1)
        return len(calls) >= 3

    for beams in (1, 3):
        calls.clear()
        options = dict(num_beams=beams, min_new_tokens=17, max_new_tokens=17, is_interrupted=third)
        assert ours(plain("decoder"), **inputs_of("decoder"), **options).shape[1] <= 9 + 3
    calls.clear()
    written = plain("decoder").generate(
        **inputs_of("decoder"),
        min_new_tokens=17,
        max_new_tokens=17,
        use_cache=False,
        custom_generate=search,
        is_interrupted=third,
    )
    assert written.shape[1] <= 9 + 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_run(dtype, ours):
    model = model_of("encoder-decoder").to(dtype)
    output = ours(model, **inputs_of("encoder-decoder"), num_beams=3, max_new_tokens=7)
    assert output.shape[0] == 5
    if dtype == torch.float64:
        expected = model.generate(**inputs_of("encoder-decoder"), num_beams=3, max_new_tokens=7)
        assert torch.equal(output, expected)


def test_mixed_precision_runs(ours):
    with torch.autocast("cpu", torch.bfloat16):
        for beams in (1, 3):
            output = ours(plain("encoder-decoder"), **inputs_of("encoder-decoder"), num_beams=beams, max_new_tokens=7)
            assert output.shape[0] == 5
