"""The cache under both of its names, and what no forward may swallow."""

import contextlib
import inspect
import logging
import warnings

import pytest
import torch
from torch._dynamo import convert_frame
from torch._dynamo.utils import get_metrics_context
from transformers import DynamicCache, EncoderDecoderCache
from transformers.utils import logging as transformers_logging

import modeling_vanilla as mv
from modeling_vanilla.cache_name import CACHE, NAMES
from modeling_vanilla.input_checks import KERNEL_INPUTS

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
GENERATING = ("encoder-decoder", "decoder")
# Every class with every variant that it has.
CLASSES = [(mv.VanillaModel, variant) for variant in ("encoder-decoder", "encoder", "decoder")]
CLASSES += [(mv.VanillaForConditionalGeneration, "encoder-decoder"), (mv.VanillaForCausalLM, "decoder")]
CLASSES += [(mv.VanillaForMaskedLM, "encoder"), (mv.VanillaForMultipleChoice, "encoder")]
HEADS = (mv.VanillaForSequenceClassification, mv.VanillaForTokenClassification, mv.VanillaForQuestionAnswering)
CLASSES += [(head, variant) for head in HEADS for variant in ("encoder-decoder", "encoder", "decoder")]
every_class = pytest.mark.parametrize(
    ("model_class", "variant"), CLASSES, ids=lambda value: getattr(value, "__name__", value)
)


def output_of(out) -> torch.Tensor:
    return out.logits if "logits" in out else out.last_hidden_state


def inputs_for(model_class, variant, batch_of) -> dict[str, torch.Tensor]:
    """Return a batch; a multiple choice has several texts in a row."""
    batch = batch_of(variant)
    return {name: ids[:, None] for name, ids in batch.items()} if "MultipleChoice" in model_class.__name__ else batch


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("base", [False, True], ids=["head", "base"])
@pytest.mark.parametrize("variant", GENERATING)
def test_a_cache_is_read_by_either_name(build, tokens, variant, base, name):
    """The last token after a cache equals the last of one pass without a cache."""
    model, ids = build(variant, mv.VanillaModel if base else None), tokens(2, 6)
    fixed = {"input_ids": tokens(2, 5, seed=1)} if variant == "encoder-decoder" else {}
    key = "decoder_input_ids" if fixed else "input_ids"
    with torch.no_grad():
        whole = output_of(model(**fixed, **{key: ids}, use_cache=False))
        cache = model(**fixed, **{key: ids[:, :-1]}, use_cache=True)[CACHE]
        deprecated = name == "past_key_values" != CACHE
        with pytest.warns(FutureWarning, match=name) if deprecated else contextlib.nullcontext():
            got = output_of(model(**fixed, **{key: ids[:, -1:], name: cache}))
        alone = output_of(model(**fixed, **{key: ids[:, -1:]}))
    torch.testing.assert_close(got[:, -1], whole[:, -1], **CLOSE)
    assert (alone[:, -1] - whole[:, -1]).abs().max() > 1e-3, "the cache would not be missed"


@pytest.mark.parametrize("name", NAMES)
def test_layer_and_attention_take_either_name(build, name):
    """Both fill a cache, and the second call attends to it."""
    layer, states = build("decoder").model.decoder.layers[0], torch.randn(2, 3, 24)
    for module in (layer, layer.self_attn):
        cache = DynamicCache()
        for size in (3, 6):
            module(states, **{name: cache})
            assert cache.get_seq_length() == size


@pytest.mark.parametrize("variant", ["encoder", "decoder"])
def test_a_stack_is_one_graph_as_vllm_compiles_it(build, tokens, variant):
    """torch binds the inputs to the signature of the function that runs, which must not be the one that is shown."""
    stack = build(variant).base_model.get_submodule(variant)
    inputs = {"input_ids": tokens(2, 5)} | ({"use_cache": False} if variant == "decoder" else {})
    with get_metrics_context():
        captured = convert_frame.fullgraph_capture(stack, (), inputs)
    assert len(captured.backend_input.graph_module.graph.nodes) > 10


@pytest.mark.parametrize("variant", GENERATING)
def test_signature_and_output_have_the_installed_name(build, batch_of, variant):
    """torch.export names its inputs by the signature; generate looks for the output."""
    model = build(variant)
    for module in (model, model.model, model.model.decoder):
        parameters = inspect.signature(module.forward).parameters
        assert CACHE in parameters
        assert not set(NAMES) - {CACHE} & set(parameters)
    out = model(**batch_of(variant), use_cache=True)
    assert [name for name in out.keys() if name in NAMES] == [CACHE]  # noqa: SIM118 - `in` takes either name


@pytest.mark.parametrize("variant", GENERATING)
def test_our_own_calls_use_no_deprecated_name(build, tokens, variant, monkeypatch):
    """Neither a FutureWarning nor a line in the log of transformers, in generation and in checkpointed training."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = transformers_logging.get_logger()
    logger.addHandler(handler)
    transformers_logging.get_logger("transformers.utils.generic").warning_once.__func__.cache_clear()
    try:
        model = build(variant, eos_token_id=None)
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            for settings in ({}, {"num_beams": 2}, {"cache_implementation": "static"}, {"use_cache": False}):
                model.generate(tokens(2, 5), max_new_tokens=3, do_sample=False, **settings)
            # transformers 5.17 has the old name alone.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
            model.train()(input_ids=tokens(2, 5), labels=tokens(2, 5)).loss.backward()
    finally:
        logger.removeHandler(handler)
    assert [line for line in lines if "deprecated" in line] == []


@pytest.mark.parametrize("variant", GENERATING)
def test_both_names_at_once_are_refused(build, batch_of, variant):
    model = build(variant)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if variant == "encoder-decoder" else DynamicCache()
    with pytest.raises(ValueError, match="two names of one input"):
        model(**batch_of(variant), cache=cache, past_key_values=cache)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_cache_is_refused(build, batch_of, name):
    """A tuple was a cache years ago; a cache of one side would mix the source's keys with the target's."""
    pair = ((torch.zeros(2, 4, 3, 5), torch.zeros(2, 4, 3, 5)),) * 2
    for variant in GENERATING:
        with pytest.raises(ValueError, match=f"{CACHE} must be .* got a tuple"):
            build(variant)(**batch_of(variant), **{name: pair})
    with pytest.raises(ValueError, match=f"{CACHE} must be a EncoderDecoderCache .* got a DynamicCache"):
        build("encoder-decoder")(**batch_of("encoder-decoder"), **{name: DynamicCache()})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("atention_mask", torch.ones(2, 5, dtype=torch.long)),
        ("head_mask", torch.ones(2, 4)),
        ("state", DynamicCache()),
        ("layer_past", ((torch.zeros(2, 4, 3, 5),) * 2,)),
        ("memory", {"layer": [torch.zeros(2)]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@every_class
def test_what_a_model_does_not_know_is_refused_by_name(build, batch_of, model_class, variant, name, value):
    model = build(variant, model_class)
    with pytest.raises(ValueError, match=f"{name} is not an input of this model"):
        model(**inputs_for(model_class, variant, batch_of), **{name: value})


@every_class
def test_switches_and_what_kernels_know_are_left_alone(build, batch_of, model_class, variant):
    """None of them changes a number: eager attention reads no input of the fused kernels."""
    model, inputs = build(variant, model_class), inputs_for(model_class, variant, batch_of)
    more = {name: torch.zeros(2, dtype=torch.int32) for name in KERNEL_INPUTS}
    switches = {"output_router_logits": False, "some_switch": "on", "nothing": None}
    key = "start_logits" if "QuestionAnswering" in model_class.__name__ else None
    with torch.no_grad():
        got, expected = model(**inputs, **more, **switches), model(**inputs)
    assert torch.equal(got[key] if key else output_of(got), expected[key] if key else output_of(expected))


@pytest.mark.parametrize("variant", ["encoder", "decoder"])
@pytest.mark.parametrize(
    "name", ["decoder_input_ids", "decoder_attention_mask", "encoder_outputs", "cross_attention_mask"]
)
def test_one_stack_refuses_what_only_two_read(build, batch_of, tokens, variant, name):
    with pytest.raises(ValueError, match=f"{name} must be None with variant='{variant}'"):
        build(variant)(**batch_of(variant), **{name: tokens(2, 5)})


def test_labels_need_a_head(build, batch_of):
    """The base model has no loss: labels that it was given by mistake are no reason to train on nothing."""
    with pytest.raises(ValueError, match="labels is not an input"):
        build("decoder", mv.VanillaModel)(**batch_of("decoder"), labels=batch_of("decoder")["input_ids"])
