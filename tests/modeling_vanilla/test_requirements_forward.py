# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What transformers' own model tests require of forward, attention, cache and generation (27 to 48).

`test_requirements_model.py` holds 1 to 26, `test_requirements_training.py` 49 to 57. Tested elsewhere:

| requirement                                 | where                                                                   |
|---------------------------------------------|-------------------------------------------------------------------------|
| 31 embeddings equal ids; exactly one        | test_invariances: inputs embeds; test_input_checks: both or neither     |
| 34 batch invariance                         | test_invariances: rows of a batch do not meet                           |
| 35 kernels agree                            | test_invariances_masks: sdpa equals eager, flex equals eager            |
| 36 masks of all kinds, packed rows          | test_invariances_masks; test_invariances: packed rows                   |
| 42 left padding                             | test_invariances: padding changes nothing; test_generation: padded batch |
| 45 static cache, full graph, one compile    | test_generation: one compiled step serves every length                  |
| 46 beams, assistants, lookups, continuation | test_generation: shortcuts, wide beams, continuing                      |
| 48 decoder inputs are the shifted labels    | test_losses: decoder inputs are the labels behind the start token       |
"""

import inspect

import pytest
import torch
from transformers import (
    DynamicCache,
    EncoderDecoderCache,
    GenerationConfig,
    GenerationMixin,
    PreTrainedModel,
    StaticCache,
)
from transformers.modeling_outputs import BaseModelOutput, ModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import output_capturing
from transformers.utils.output_capturing import OutputRecorder

import modeling_vanilla
from modeling_vanilla import (
    VanillaConfig,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaModel,
)
from modeling_vanilla.attention import MultiHeadAttention, scaled_dot_product_attention
from modeling_vanilla.cache_name import CACHE
from modeling_vanilla.layers import DecoderLayer
from modeling_vanilla.stacks import VanillaCrossDecoder, VanillaDecoder

VARIANTS = ("encoder-decoder", "encoder", "decoder")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
variants = pytest.mark.parametrize("variant", VARIANTS)
generating = pytest.mark.parametrize("variant", ("encoder-decoder", "decoder"))
EVERYTHING = {"output_hidden_states": True, "output_attentions": True}


@variants
def test_27_each_stack_captures_its_own(build, batch_of, variant):
    model = build(variant, VanillaModel, attn_implementation="eager", num_layers=3, num_decoder_layers=2)
    out = model(**batch_of(variant), **EVERYTHING)
    if variant != "encoder-decoder":
        assert (len(out.hidden_states), len(out.attentions)) == (4, 3)
        return
    assert (len(out.encoder_hidden_states), len(out.encoder_attentions)) == (4, 3)
    assert (len(out.decoder_hidden_states), len(out.decoder_attentions), len(out.cross_attentions)) == (3, 2, 2)
    assert torch.equal(out.encoder_hidden_states[-1], out.encoder_last_hidden_state)
    assert torch.equal(out.decoder_hidden_states[-1], out.last_hidden_state)


@variants
def test_28_what_can_be_recorded(build, variant):
    model = build(variant, VanillaModel)
    for stack in (s for s in (model.encoder, model.decoder) if s is not None):
        for name, recorder in stack._can_record_outputs.items():
            assert name in ("hidden_states", "attentions", "cross_attentions")
            assert inspect.isclass(recorder) or isinstance(recorder, OutputRecorder)
    if variant != "encoder":
        assert ("cross_attentions" in model.decoder._can_record_outputs) == (variant == "encoder-decoder")


def test_28_models_of_one_process_leave_each_other_alone(build, batch_of):
    """transformers keeps one table for all models of a class: the last one that was built must not decide."""
    models = {v: build(v, attn_implementation="eager") for v in ("encoder-decoder", "encoder", "decoder")}
    alone = {"encoder-decoder": {"decoder_attentions", "encoder_attentions", "cross_attentions"}}
    for last in models:
        build(last)
        for variant, model in models.items():
            out = model(**batch_of(variant), **EVERYTHING)
            given = {name for name in out if name.endswith("attentions")}
            assert given == alone.get(variant, {"attentions"})
            assert all(len(out[name]) == 2 for name in given)
            assert getattr(out, "cross_attentions", None) is None or variant == "encoder-decoder"


def test_28_what_transformers_reads_of_a_class_stands_in_the_class(build):
    for variant in ("encoder-decoder", "encoder", "decoder"):
        for part in (m for m in build(variant).modules() if isinstance(m, PreTrainedModel)):
            for name in ("_can_record_outputs", "_tied_weights_keys"):
                assert name not in vars(part), f"{type(part).__name__} of {variant}: {name}"
    for wrong, variant in ((VanillaDecoder, "encoder-decoder"), (VanillaCrossDecoder, "decoder")):
        with pytest.raises(ValueError, match=f"variant='{variant}' .* has no {wrong.__name__}"):
            wrong(build(variant).config)


@variants
def test_a_config_that_asks_for_tuples_gets_them(build, batch_of, variant):
    """`return_dict` is a field of every config of transformers; inside, outputs keep their names."""
    for head in (None, VanillaModel, modeling_vanilla.VanillaForSequenceClassification):
        model = build(variant, head)
        inputs = batch_of(variant) if head in (None, VanillaModel) else {"input_ids": batch_of(variant)["input_ids"]}
        named = model(**inputs, use_cache=False) if variant != "encoder" else model(**inputs)
        model.config.return_dict = False
        found = model(**inputs, use_cache=False) if variant != "encoder" else model(**inputs)
        assert isinstance(found, tuple)
        assert torch.equal(found[0], named[0])
        assert len(found) == len(named.to_tuple())
        assert torch.equal(model(**inputs, return_dict=True)[0], named[0])


def test_a_decoder_without_an_encoder_refuses_its_output(build, tokens):
    model, memory = build("decoder"), torch.randn(2, 5, 24)
    for call in (model, model.model, model.model.decoder):
        for name in ("encoder_hidden_states", "encoder_attention_mask"):
            with pytest.raises(ValueError, match=f"{name} (must be None|is not an input)"):
                call(tokens(2, 3), **{name: memory})
    with pytest.raises(ValueError, match="encoder_hidden_states must be None for a layer"):
        model.model.decoder.layers[0](torch.randn(2, 3, 24), memory)


@pytest.mark.parametrize("norm", ["post", "pre"])
@variants
def test_29_hidden_states_of_chosen_layers_and_their_gradients(build, batch_of, variant, norm):
    model = build(variant, attn_implementation="eager", norm_order=norm)
    prefix = "decoder_" if variant == "encoder-decoder" else ""
    out = model(**batch_of(variant), **EVERYTHING)
    states, attentions = out[f"{prefix}hidden_states"], out[f"{prefix}attentions"]
    rows, length = out.logits.shape[:2]
    assert [tuple(s.shape) for s in states] == [(rows, length, 24)] * 3
    assert [tuple(a.shape) for a in attentions] == [(rows, 4, length, length)] * 2
    for tensor in (states[0], attentions[0]):
        tensor.retain_grad()
    out.logits.sum().backward()
    assert states[0].grad is not None
    assert attentions[0].grad is not None

    model.config.output_attentions = model.config.output_hidden_states = True
    torch.testing.assert_close(model(**batch_of(variant))[f"{prefix}hidden_states"], states)
    model.config.output_attentions = model.config.output_hidden_states = False
    if not hasattr(output_capturing, "selected_hidden_states"):
        return  # transformers 5.17 captures all layers or none
    # An encoder-decoder hands the same choice to both of its stacks.
    some = model(**batch_of(variant), output_hidden_states=[0, -1])[f"{prefix}hidden_states"]
    assert [s is None for s in some] == [False, True, False]
    assert torch.equal(some[0], states[0])
    assert torch.equal(some[2], states[2])


@pytest.mark.parametrize("head", [None, VanillaModel, VanillaForSequenceClassification, VanillaForTokenClassification])
@variants
def test_30_a_tuple_holds_the_same_values(build, batch_of, variant, head):
    model = build(variant, head, attn_implementation="eager")
    inputs = batch_of(variant)
    if head in (VanillaForSequenceClassification, VanillaForTokenClassification):
        inputs = {"input_ids": inputs["input_ids"]}
    out = model(**inputs, **EVERYTHING, use_cache=False)
    assert isinstance(out, ModelOutput)
    assert type(out).__module__ == "transformers.modeling_outputs"
    values = model(**inputs, **EVERYTHING, use_cache=False, return_dict=False)
    assert isinstance(values, tuple)
    torch.testing.assert_close(values, out.to_tuple())
    if variant == "encoder-decoder" and head in (None, VanillaModel):
        # first output, three of the decoder, three of the encoder; the cache is one more.
        assert len(out) == 7
        assert len(model(**inputs, **EVERYTHING, use_cache=True)) == 8
        assert len(model(**inputs, use_cache=False)) == 2


@variants
def test_32_a_hook_on_the_embedding_counts(build, batch_of, variant):
    model = build(variant).train()
    model.enable_input_require_grads()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    assert model(**batch_of(variant)).logits.requires_grad
    model.disable_input_require_grads()
    before = model.eval()(**batch_of(variant)).logits
    handle = model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output + 1)
    assert not torch.allclose(model(**batch_of(variant)).logits, before)
    handle.remove()


@variants
def test_33_chunked_feed_forward_changes_nothing(build, batch_of, variant):
    model = build(variant)
    before = model(**batch_of(variant)).logits
    model.config.chunk_size_feed_forward = 1
    assert torch.equal(model(**batch_of(variant)).logits, before)


@variants
def test_34_evaluation_is_repeatable_and_training_is_not(build, batch_of, variant):
    model = build(variant)
    first, second = (model(**batch_of(variant)).logits for _ in range(2))
    assert torch.equal(first, second)
    model.train()
    first, second = (model(**batch_of(variant)).logits for _ in range(2))
    assert not torch.equal(first, second)


@variants
def test_35_attention_modules_carry_what_kernels_read(build, variant):
    model = build(variant)
    found = {n: m for n, m in model.named_modules() if isinstance(m, MultiHeadAttention)}
    assert len(found) == {"encoder-decoder": 6, "encoder": 2, "decoder": 2}[variant]
    for name, module in found.items():
        assert module.is_causal == ("decoder" in name and "self_attn" in name)
        assert module.layer_idx == int(name.split(".")[-2])
        assert module.scaling == module.head_dim**-0.5
        assert module.config._attn_implementation == model.config._attn_implementation


@variants
def test_36_two_4d_masks_mean_what_the_2d_mask_means(build, tokens, variant):
    model = build(variant, VanillaModel)
    real = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
    square = real[:, None, None, :] & torch.ones(5, 5, dtype=torch.bool)
    if variant == "decoder":
        square = square & torch.ones(5, 5, dtype=torch.bool).tril()
    added = torch.zeros(square.shape).masked_fill(~square, torch.finfo(torch.float32).min)
    inputs = {"input_ids": tokens(2, 5), "use_cache": False, "position_ids": torch.arange(5)[None]}
    if variant == "encoder-decoder":
        model, inputs = model.encoder, {k: v for k, v in inputs.items() if k != "use_cache"}
    expected = model(**inputs, attention_mask=real.long()).last_hidden_state
    for mask in (square, added):
        got = model(**inputs, attention_mask=mask).last_hidden_state
        torch.testing.assert_close(got[real], expected[real], **CLOSE)


@variants
def test_37_unknown_arguments_reach_the_kernel(build, batch_of, variant):
    seen = []

    def kernel(module, *args, **kwargs):
        seen.append(kwargs.pop("message", None))
        return scaled_dot_product_attention(module, *args, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register("listening", kernel)
    model = build(variant)
    model.set_attn_implementation("listening")
    model(**batch_of(variant), message="hello")
    assert seen == ["hello"] * {"encoder-decoder": 6, "encoder": 2, "decoder": 2}[variant]


def test_38_no_field_is_called_is_causal():
    assert "is_causal" not in VanillaConfig().to_dict()


def test_39_who_generates_says_so(build, tmp_path):
    for name in (n for n in modeling_vanilla.__all__ if n.startswith("VanillaFor")):
        head = getattr(modeling_vanilla, name)
        can = name in ("VanillaForCausalLM", "VanillaForConditionalGeneration")
        assert (GenerationMixin in head.__bases__) == can == hasattr(head, "prepare_inputs_for_generation")
        variant = {"VanillaForCausalLM": "decoder", "VanillaForConditionalGeneration": "encoder-decoder"}.get(name)
        model = build(variant or "encoder", head)
        assert model.can_generate() == can
        model.save_pretrained(tmp_path / name)
        assert (tmp_path / name / "generation_config.json").is_file() == can


@generating
def test_40_the_cache_has_one_entry_per_layer(build, batch_of, variant):
    model = build(variant, num_layers=3, num_decoder_layers=2)
    cache = model(**batch_of(variant), use_cache=True)[CACHE]
    if variant == "decoder":
        assert type(cache) is DynamicCache
        assert [tuple(layer.keys.shape) for layer in cache.layers] == [(2, 4, 5, 5)] * 3  # (B, H, T, K)
    else:
        assert type(cache) is EncoderDecoderCache
        assert [tuple(layer.keys.shape) for layer in cache.self_attention_cache.layers] == [(2, 4, 3, 5)] * 2
        assert [tuple(layer.values.shape) for layer in cache.cross_attention_cache.layers] == [(2, 4, 5, 5)] * 2
    assert model(**batch_of(variant), use_cache=False).get(CACHE) is None


def test_40_an_encoder_has_no_cache(build, batch_of):
    assert CACHE not in build("encoder", VanillaModel)(**batch_of("encoder"), use_cache=True)


@pytest.mark.parametrize("static", [False, True])
def test_41_the_source_is_projected_once(build, tokens, static):
    model = build("encoder-decoder")
    layer = next(m for m in model.modules() if isinstance(m, DecoderLayer))
    calls = []
    layer.cross_attn.k_proj.register_forward_hook(lambda *_: calls.append(1))
    options = {"cache_implementation": "static"} if static else {}
    out = model.generate(tokens(2, 5), max_new_tokens=4, min_new_tokens=4, return_dict_in_generate=True, **options)
    assert calls == [1]
    assert all(out[CACHE].is_updated.values())
    assert isinstance(out[CACHE].self_attention_cache, StaticCache) == static


@generating
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_42_positions_index_the_table(build, batch_of, variant, positions):
    model = build(variant, positions=positions)
    name = "decoder_position_ids" if variant == "encoder-decoder" else "position_ids"
    assert name in inspect.signature(model.forward).parameters
    inputs = batch_of(variant)
    length = inputs.get("decoder_input_ids", inputs["input_ids"]).shape[1]
    plain = model(**inputs).logits
    assert torch.equal(model(**inputs, **{name: torch.arange(length).expand(2, -1)}).logits, plain)
    shifted = torch.stack([torch.arange(length), torch.arange(length) + 4])
    got = model(**inputs, **{name: shifted}).logits
    torch.testing.assert_close(got[0], plain[0], **CLOSE)
    assert (got[1] - plain[1]).abs().max() > 1e-3


@generating
def test_43_only_the_kept_positions_are_projected(build, batch_of, variant):
    model = build(variant)
    whole = model(**batch_of(variant)).logits
    shapes = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: shapes.append(inputs[0].shape[1]))
    torch.testing.assert_close(model(**batch_of(variant), logits_to_keep=2).logits, whole[:, -2:], **CLOSE)
    chosen = torch.tensor([0, 2])
    torch.testing.assert_close(model(**batch_of(variant), logits_to_keep=chosen).logits, whole[:, chosen], **CLOSE)
    assert shapes == [2, 2]


@generating
def test_44_generation_prepares_inputs_as_transformers_does(build, tokens, variant):
    model = build(variant)
    assert type(model).prepare_inputs_for_generation is GenerationMixin.prepare_inputs_for_generation
    prepared = model.prepare_inputs_for_generation(tokens(2, 3), message="hello", is_first_iteration=True)
    assert prepared["message"] == "hello"


@generating
def test_46_scores_and_logits_agree_in_greedy_search(build, tokens, variant):
    model = build(variant, eos_token_id=None)
    config = GenerationConfig(max_new_tokens=3, do_sample=False, return_dict_in_generate=True)
    out = model.generate(tokens(2, 5), generation_config=config, output_scores=True, output_logits=True)
    torch.testing.assert_close(out.scores, out.logits)
    assert torch.equal(torch.stack([s.argmax(-1) for s in out.scores], 1), out.sequences[:, -3:])


@pytest.mark.parametrize("kind", ["output", "tuple"])
def test_47_the_encoder_may_run_before(build, batch_of, kind):
    model = build("encoder-decoder")
    inputs = batch_of("encoder-decoder")
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    expected = model(**inputs, attention_mask=mask).logits
    assert model.get_encoder() is model.model.encoder
    states = model.get_encoder()(inputs["input_ids"], attention_mask=mask).last_hidden_state
    before = BaseModelOutput(last_hidden_state=states) if kind == "output" else (states,)
    target = {"decoder_input_ids": inputs["decoder_input_ids"]}
    torch.testing.assert_close(model(encoder_outputs=before, attention_mask=mask, **target).logits, expected, **CLOSE)
    # The mask is that of the source in cross-attention.
    assert (model(encoder_outputs=before, **target).logits - expected)[1].abs().max() > 1e-3
    assert model.config.decoder_start_token_id == 2
    assert model.config.pad_token_id == 0


def test_48_labels_alone_are_enough_and_switch_the_cache_off(build, tokens):
    model = build("encoder-decoder")
    labels = tokens(2, 4, seed=1).index_put((torch.tensor(1), torch.tensor(3)), torch.tensor(-100))
    made = model.prepare_decoder_input_ids_from_labels(labels=labels)
    out = model(tokens(2, 5), labels=labels, use_cache=True)
    assert out.get(CACHE) is None
    torch.testing.assert_close(model(tokens(2, 5), decoder_input_ids=made).logits, out.logits)
