# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What transformers' own model tests require of a config and of a model, one test per requirement (1 to 26).

The numbers are those of the requirements; `test_requirements_forward.py` goes on with 27. Tested elsewhere:

| requirement                                     | where                                                              |
|-------------------------------------------------|--------------------------------------------------------------------|
| 4 standard names                                | test_configuration: standard names read, write, build              |
| 5 round trips through files                     | test_configuration: round trips lose nothing                       |
| 11 base and head checkpoints load both ways     | test_saving: base and heads load from each other                   |
| 15 checkpointed gradients, reentrant too        | test_invariances: gradient checkpointing gives the same gradients  |
| 16 every parameter learns (language, classes)   | test_invariances: every parameter learns                           |
| 17 late initialisation, buffers                 | test_initialisation: all                                           |
| 18 construction on "meta" (language, classes)   | test_initialisation: construction on the meta device               |
| 19 tied and untied weights, saved               | test_saving: tied weights stay tied and others apart               |
| 20 resizing up and down, every matrix           | test_saving: resizing                                              |
| 25 registration                                 | test_auto_classes: all                                             |
"""

import inspect
import re

import pytest
import torch
from accelerate import disk_offload
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

import modeling_vanilla
from modeling_vanilla import (
    VanillaConfig,
    VanillaForMultipleChoice,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaModel,
    VanillaPreTrainedModel,
)
from modeling_vanilla.cache_name import CACHE

VARIANTS = ("encoder-decoder", "encoder", "decoder")
TASKS = (
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaForQuestionAnswering,
    VanillaForMultipleChoice,
)
HEADS = (None, VanillaModel, *TASKS)  # None: the language model of the variant
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
variants = pytest.mark.parametrize("variant", VARIANTS)


def test_01_a_strict_config_without_an_init_of_its_own():
    assert issubclass(VanillaConfig, PreTrainedConfig)
    assert "def __init__" not in inspect.getsource(VanillaConfig)
    with pytest.raises((TypeError, ValueError), match="positional"):
        VanillaConfig("encoder")
    with pytest.raises(Exception, match="vocab_size"):
        VanillaConfig(vocab_size="many")


@variants
def test_02_defaults_work_and_log_nothing(variant, caplog, recwarn):
    assert VanillaConfig().variant == "encoder-decoder"
    VanillaConfig(variant=variant, vocab_size=99)
    assert not caplog.records
    assert not list(recwarn)


@variants
def test_03_fields_may_be_assigned_after_construction(config_of, variant):
    config = config_of(variant)
    values = {
        "vocab_size": 4,
        "pad_token_id": 3,
        "is_decoder": True,
        "use_cache": False,
        "max_position_embeddings": 5,
        "initializer_range": 1e-10,
        "dropout": 0,
        "dtype": "bfloat16",
    }
    for name, value in values.items():
        setattr(config, name, value)
        assert getattr(config, name) == value
    for eos in (None, 5, [5, 6]):
        config.eos_token_id = eos
        assert config.eos_token_id == eos


@variants
def test_04_caches_see_the_depth_of_the_decoder(config_of, variant):
    config = config_of(variant, num_layers=3, num_decoder_layers=2)
    depth = config.get_text_config(decoder=True).num_hidden_layers
    assert depth == (2 if variant == "encoder-decoder" else 3)
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (24, 4, 3)


@variants
def test_05_rebuilt_from_its_differences(config_of, variant):
    config = config_of(variant, attention_window=3)
    for keys in (config.to_diff_dict(), config.to_dict()):
        assert type(config)(**keys).to_dict() == config.to_dict()
    # What follows from other fields may be taken out.
    base = config_of(variant, head_dim=None)
    left = {k: v for k, v in base.to_diff_dict().items() if k not in ("head_dim", "num_decoder_layers", "auto_map")}
    assert type(config)(**left).to_dict() == base.to_dict()


def test_06_common_arguments_reach_the_base_class(config_of):
    given = {
        "return_dict": False,
        "output_hidden_states": True,
        "dtype": "float16",
        "chunk_size_feed_forward": 5,
        "architectures": ["VanillaModel"],
        "problem_type": "regression",
    }
    config = config_of("encoder", id2label={0: "no", 1: "yes", 2: "maybe"}, **given)
    for name, value in given.items():
        found = getattr(config, name)
        assert (str(found).removeprefix("torch.") if name == "dtype" else found) == value
    assert (config.num_labels, config.id2label[2]) == (3, "maybe")
    assert config_of("encoder", output_attentions=True, attn_implementation="eager").output_attentions
    config.num_labels = 7
    assert len(config.id2label) == 7


@variants
def test_07_runs_with_a_config_of_the_architecture_alone(config_of, batch_of, variant):
    common = ("tie_word_embeddings", "use_cache", "is_decoder", "is_encoder_decoder", "auto_map")
    tokens = [f"{n}_token_id" for n in ("pad", "bos", "eos", "decoder_start")]
    fields = {k: v for k, v in config_of(variant).to_dict().items() if k not in (*common, *tokens)}
    config = VanillaConfig(**fields)
    assert config.is_encoder_decoder == (variant == "encoder-decoder")
    assert VanillaModel(config)(**batch_of(variant)).last_hidden_state.shape[-1] == 24


def test_08_names_that_tools_look_for():
    assert {"cache", "past_key_values"} <= set(VanillaConfig.keys_to_ignore_at_inference)
    assert "initializer_range" in VanillaConfig().to_dict()


def test_09_a_decoder_has_no_encoder_fields(config_of):
    assert not [name for name in config_of("decoder").to_dict() if name.startswith("encoder")]


def test_10_the_config_file_has_a_copyright_year():
    assert re.match(r"# Copyright 20(2[3-9]|[3-9]\d)", inspect.getsource(inspect.getmodule(VanillaConfig)))


@variants
def test_11_heads_hold_their_base_under_its_prefix(build, variant):
    assert VanillaPreTrainedModel.config_class is VanillaConfig
    for head in (None, *TASKS):
        model = build(variant, head)
        assert model.base_model is getattr(model, VanillaPreTrainedModel.base_model_prefix)
        assert type(model.base_model) is VanillaModel


@pytest.mark.parametrize("tied", [True, False])
@variants
def test_12_post_init_may_be_called_again(build, variant, tied):
    model = build(variant, tie_word_embeddings=tied)
    before = {n: p.detach().clone() for n, p in model.state_dict().items()}
    plans = (dict(model.tp_plan), dict(model.fsdp_plan))
    for module in [m for m in model.modules() if isinstance(m, PreTrainedModel)]:
        module.post_init()
    assert (model.tp_plan, model.fsdp_plan) == plans
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@variants
def test_13_layers_stay_in_one_piece_and_work_from_disk(build, batch_of, tmp_path, variant):
    model = build(variant)
    kinds = {type(m).__name__ for m in model.modules()}
    assert set(VanillaPreTrainedModel._no_split_modules) == {"EncoderLayer", "DecoderLayer"}
    assert kinds & set(VanillaPreTrainedModel._no_split_modules)
    assert VanillaPreTrainedModel._skip_keys_device_placement == ["cache", "past_key_values"]
    expected = model(**batch_of(variant)).logits
    model = disk_offload(model, tmp_path, execution_device=torch.device("cpu"), offload_buffers=True)
    assert all(p.is_meta for p in model.parameters())
    torch.testing.assert_close(model(**batch_of(variant)).logits, expected, **CLOSE)


def test_14_no_capability_is_left_off():
    flags = "_supports_sdpa _supports_flash_attn _supports_flex_attn _supports_attention_backend".split()
    flags += ["_can_compile_fullgraph", "supports_gradient_checkpointing"]
    for name in (n for n in modeling_vanilla.__all__ if n.startswith("Vanilla") and n != "VanillaConfig"):
        assert all(getattr(getattr(modeling_vanilla, name), flag) for flag in flags), name


@variants
def test_15_checkpointing_keeps_no_cache(build, batch_of, variant):
    model = build(variant).train()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    out = model(**batch_of(variant), use_cache=True)
    assert out.get(CACHE) is None or out[CACHE].get_seq_length() == 0
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing


def inputs_with_labels(head, tokens) -> dict[str, torch.Tensor]:
    if head is VanillaForMultipleChoice:
        return {"input_ids": tokens(6, 5).view(2, 3, 5), "labels": torch.tensor([2, 0])}
    inputs = {"input_ids": tokens(2, 5)}
    if head is VanillaForQuestionAnswering:
        return inputs | {"start_positions": torch.tensor([1, 4]), "end_positions": torch.tensor([3, 4])}
    return inputs | {
        "labels": inputs["input_ids"] % 3 if head is VanillaForTokenClassification else torch.tensor([2, 0])
    }


@pytest.mark.parametrize("head", TASKS, ids=lambda h: h.__name__)
@variants
def test_16_every_parameter_of_every_task_learns(build, tokens, variant, head):
    model = build(variant, head, num_labels=3, tie_word_embeddings=False, type_vocab_size=2, norm_order="pre").train()
    model(**inputs_with_labels(head, tokens)).loss.backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    # A constant added to all scores is lost in the softmax: those of a query, and those of the choices.
    still = [n for n, p in model.named_parameters() if p.grad.abs().max() < 1e-9]
    assert not [n for n in still if not n.endswith(("k_proj.bias", "choice.out_proj.bias"))]


@variants
def test_17_every_tensor_is_a_parameter_or_a_buffer(build, variant):
    for head in HEADS:
        for module in build(variant, head).modules():
            assert not [name for name, value in vars(module).items() if torch.is_tensor(value)]


@variants
def test_18_every_head_is_made_on_meta(config_of, variant):
    with torch.device("meta"):
        models = [head(config_of(variant)) for head in (VanillaModel, *TASKS)]
    for model in models:
        assert all(t.is_meta for t in [*model.parameters(), *model.buffers()])


@pytest.mark.parametrize("head", HEADS, ids=lambda h: getattr(h, "__name__", "language"))
@variants
def test_19_tied_weights_keys_name_parameters(build, variant, head):
    model = build(variant, head)
    names = {n for n, _ in model.named_parameters(remove_duplicate=False)}
    for tied, source in (model.all_tied_weights_keys or {}).items():
        assert {tied, source} <= names
        assert model.get_parameter(tied) is model.get_parameter(source)
    shared = {n for n, _ in model.named_parameters(remove_duplicate=False)} - {n for n, _ in model.named_parameters()}
    assert len(shared) == len(model.all_tied_weights_keys or {})


@pytest.mark.parametrize("tied", [True, False])
@variants
def test_20_resizing_to_four_ids_and_to_a_multiple(build, variant, tied):
    model = build(variant, tie_word_embeddings=tied, pad_token_id=3)
    assert model.get_input_embeddings().num_embeddings == 31
    model.resize_token_embeddings(4)
    ids = torch.tensor([[1, 2, 0]])
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids} if variant == "encoder-decoder" else {})
    assert model(**inputs, labels=ids).logits.shape == (1, 3, 4)
    model.resize_token_embeddings(33, pad_to_multiple_of=8, mean_resizing=False)
    rows = {n: p.shape[0] for n, p in model.named_parameters() if "embed_tokens" in n or "lm_head" in n}
    assert set(rows.values()) == {model.config.vocab_size} == {40}
    assert len([n for n in rows if n.endswith("weight")]) == (1 if tied else 3 if variant == "encoder-decoder" else 2)
    assert model.get_output_embeddings() is model.lm_head
    new = torch.nn.Embedding(40, 24)
    model.set_input_embeddings(new)
    assert model.get_input_embeddings() is new


@variants
def test_21_the_main_input_is_input_ids(config_of, variant):
    for name in (n for n in modeling_vanilla.__all__ if n.startswith(("VanillaFor", "VanillaModel"))):
        head = getattr(modeling_vanilla, name)
        assert head.main_input_name == list(inspect.signature(head.forward).parameters)[1] == "input_ids"


@variants
def test_22_modules_kept_in_fp32_exist(build, variant):
    model = build(variant)
    for entry in [*(model._keep_in_fp32_modules or []), *(model._keep_in_fp32_modules_strict or [])]:
        assert any(entry in name for name, _ in model.named_modules())


@variants
def test_23_the_kernel_can_be_changed_at_run_time(build, batch_of, variant):
    model = build(variant, attn_implementation="eager")
    expected = model(**batch_of(variant)).logits
    for kernel in ("sdpa", "eager"):
        model.set_attn_implementation(kernel)
        found = {m.config._attn_implementation for m in model.modules() if type(m).__name__ == "MultiHeadAttention"}
        assert found == {kernel}
        torch.testing.assert_close(model(**batch_of(variant)).logits, expected, **CLOSE)
    with pytest.raises(ValueError, match="fast_and_wrong"):
        model.set_attn_implementation("fast_and_wrong")


@pytest.mark.parametrize("head", HEADS, ids=lambda h: getattr(h, "__name__", "language"))
@variants
def test_24_every_rule_of_the_parallel_plans_names_a_module(build, variant, head):
    model = build(variant, head)
    names = {re.sub(r"\.\d+", ".*", n) for n, _ in model.named_modules()}
    assert model.supports_tp_plan
    assert set(model.tp_plan) <= names
    assert set(model.fsdp_plan) <= names
    # Each matrix of a layer is split, and each token matrix.
    matrices = {re.sub(r"\.\d+", ".*", n.removesuffix(".weight")) for n, p in model.named_parameters() if p.dim() == 2}
    left = {n for n in matrices - set(model.tp_plan) if ".layers." in n or "embed_tokens" in n or "lm_head" in n}
    assert not left
    if head is None:
        assert model.tp_plan["lm_head"] == "colwise_gather_output"
    assert "base_model_tp_plan" not in model.config.to_dict()


@variants
def test_26_a_classifier_s_config_gives_the_base_of_its_variant(build, batch_of, variant):
    base = AutoModel.from_config(build(variant, VanillaForSequenceClassification).config)
    assert (base.encoder is not None, base.decoder is not None) == (variant != "decoder", variant != "encoder")
    assert base(**batch_of(variant)).last_hidden_state.shape[0] == 2
