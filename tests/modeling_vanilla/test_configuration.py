# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""VanillaConfig: what it refuses, what survives a round trip, and what a reader without this package finds in it."""

import importlib
import json
import logging
import math
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, BertConfig, GPT2Config

import modeling_vanilla
from modeling_vanilla import VanillaConfig, configuration_vanilla

ROOT = Path(__file__).resolve().parents[2]
VARIANTS = ("encoder-decoder", "encoder", "decoder")
PRESETS = ("transformer_base", "transformer_big", "bert_base", "gpt2", "marian", "tiny")
HEADS = {
    "VanillaForConditionalGeneration": {"encoder-decoder"},
    "VanillaForCausalLM": {"decoder"},
    "VanillaForMaskedLM": {"encoder"},
    "VanillaForSequenceClassification": set(VARIANTS),
    "VanillaForTokenClassification": set(VARIANTS),
    "VanillaForQuestionAnswering": set(VARIANTS),
    "VanillaForMultipleChoice": set(VARIANTS),
    "VanillaModel": set(VARIANTS),
}
SIZES = "vocab_size d_model d_ff num_heads head_dim num_layers num_decoder_layers max_position_embeddings".split()
RATES = "dropout attention_dropout activation_dropout label_smoothing".split()

OUT_OF_RANGE = [
    *((name, value) for name in SIZES for value in (0, -8)),
    *((name, value) for name in RATES for value in (-0.1, 1.0, 1, math.nan, math.inf)),
    *(("layer_norm_eps", value) for value in (0.0, -1e-5, math.nan, math.inf)),
    *(("initializer_range", value) for value in (0.0, -0.02, math.nan, math.inf)),
    ("type_vocab_size", -1),
    ("attention_window", 0),
    ("attention_window", -3),
    ("activation", "rleu"),
    ("d_model", 510),  # not a multiple of 8 heads
]


def message_of(**fields) -> str:
    """Build a config that must be refused, and return what the ValueError says."""
    with pytest.raises(ValueError) as caught:
        VanillaConfig(**fields)
    return str(caught.value)


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_out_of_range_is_a_value_error_with_field_value_and_rule(name, value):
    message = message_of(**{name: value})
    assert f"{name}={value!r}" in message and " must be " in message


@pytest.mark.parametrize("name", ["variant", "norm_order", "positions"])
def test_an_unknown_choice_is_a_value_error_too(name):
    message = message_of(**{name: "sideways"})
    assert name in message and "sideways" in message


@pytest.mark.parametrize(
    ("name", "value"), [("vocab_size", "many"), ("d_model", 24.5), ("num_layers", True), ("tie_word_embeddings", 3)]
)
def test_a_wrong_type_is_refused_with_field_and_value(name, value):
    """The types are checked by huggingface_hub's strict dataclass, which has an error of its own."""
    with pytest.raises((ValueError, StrictDataclassError)) as caught:
        VanillaConfig(**{name: value})
    assert name in str(caught.value) and str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("standard", "name", "value"),
    [
        ("hidden_size", "d_model", 0),
        ("hidden_size", "d_model", 510),
        ("num_hidden_layers", "num_layers", 0),
        ("num_attention_heads", "num_heads", 3),
        ("intermediate_size", "d_ff", -8),
    ],
)
def test_standard_names_are_checked_like_ours(standard, name, value):
    assert f"{name}={value}" in message_of(**{standard: value})


def test_contradictions_name_both_fields():
    assert "d_model=24" in (message := message_of(d_model=24, num_heads=5)) and "num_heads=5" in message
    assert "d_model=21" in (message := message_of(d_model=21, num_heads=7)) and "positions='sinusoidal'" in message


@pytest.mark.parametrize(
    "fields",
    [
        dict(dropout=0, attention_dropout=0.999, label_smoothing=0.0),
        dict(d_model=21, num_heads=7, positions="learned"),
        dict(d_model=22, num_heads=5, head_dim=3),
        dict(vocab_size=1, d_ff=1, num_heads=1, num_layers=1, max_position_embeddings=1, attention_window=1),
        dict(pad_token_id=None, bos_token_id=None, eos_token_id=[3, 4], decoder_start_token_id=None),
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_the_edges_of_the_ranges_are_allowed(fields):
    config = VanillaConfig(**fields)
    assert {name: getattr(config, name) for name in fields} == fields


def test_standard_names_read_write_and_build_the_same_fields():
    config = VanillaConfig(hidden_size=96, num_attention_heads=6, num_hidden_layers=3, intermediate_size=40)
    assert (config.d_model, config.num_heads, config.num_layers, config.d_ff) == (96, 6, 3, 40)
    ours = VanillaConfig(d_model=96, num_heads=6, num_layers=3, d_ff=40)
    assert config.to_dict() == ours.to_dict()
    assert (ours.hidden_size, ours.num_attention_heads, ours.num_hidden_layers, ours.intermediate_size) == (
        96,
        6,
        3,
        40,
    )
    ours.hidden_size = 48
    assert ours.d_model == 48 and "hidden_size" not in ours.to_dict()


def test_numbers_that_follow_from_others():
    config = VanillaConfig(d_model=24, num_heads=4, num_layers=3)
    assert (config.head_dim, config.num_decoder_layers) == (6, 3)
    for variant in VARIANTS:
        config = VanillaConfig.tiny(variant=variant)
        assert config.is_encoder_decoder == (variant == "encoder-decoder")
        assert config.is_decoder == (variant == "decoder")
    config = VanillaConfig.tiny(num_decoder_layers=5)
    assert config.get_text_config(decoder=True).num_layers == 5 and config.num_layers == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_round_trips_lose_nothing(preset, tmp_path):
    config = getattr(VanillaConfig, preset)(dropout=0.25, num_layers=3, num_decoder_layers=4, attention_window=7)
    whole = config.to_dict()
    assert VanillaConfig(**whole).to_dict() == whole
    difference = config.to_diff_dict()
    assert VanillaConfig(**difference).to_dict() == whole
    assert difference["dropout"] == 0.25
    config.save_pretrained(tmp_path)
    for loaded in (VanillaConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is VanillaConfig
        assert {k: v for k, v in loaded.to_dict().items() if k != "_name_or_path"} == {
            k: v for k, v in whole.items() if k != "_name_or_path"
        }


def test_presets_take_overrides_and_are_the_published_numbers():
    base, big = VanillaConfig.transformer_base(), VanillaConfig.transformer_big(dropout=0.1)
    assert (base.num_layers, base.d_model, base.d_ff, base.num_heads, base.head_dim) == (6, 512, 2048, 8, 64)
    assert (base.dropout, base.label_smoothing, base.vocab_size) == (0.1, 0.1, 37000)
    assert (big.num_layers, big.d_model, big.d_ff, big.num_heads, big.head_dim) == (6, 1024, 4096, 16, 64)
    assert VanillaConfig.transformer_big().dropout == 0.3 and big.dropout == 0.1
    for ours, theirs, pairs in (
        (
            VanillaConfig.bert_base(),
            BertConfig(),
            {
                "d_ff": "intermediate_size",
                "activation": "hidden_act",
                "dropout": "hidden_dropout_prob",
                "attention_dropout": "attention_probs_dropout_prob",
                "layer_norm_eps": "layer_norm_eps",
                "type_vocab_size": "type_vocab_size",
                "pad_token_id": "pad_token_id",
            },
        ),
        (
            VanillaConfig.gpt2(),
            GPT2Config(),
            {
                "activation": "activation_function",
                "dropout": "resid_pdrop",
                "attention_dropout": "attn_pdrop",
                "layer_norm_eps": "layer_norm_epsilon",
                "bos_token_id": "bos_token_id",
                "eos_token_id": "eos_token_id",
            },
        ),
    ):
        same = "vocab_size hidden_size num_hidden_layers num_attention_heads max_position_embeddings initializer_range"
        for name, standard in (
            pairs | {n: n for n in same.split()} | {"tie_word_embeddings": "tie_word_embeddings"}
        ).items():
            assert getattr(ours, name) == getattr(theirs, standard), name


SPECIAL = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")


@pytest.mark.parametrize("name", PRESETS)
def test_no_special_id_of_a_preset_lies_outside_a_smaller_vocabulary(name, caplog):
    preset = getattr(VanillaConfig, name)
    whole, small = preset(), preset(vocab_size=65)
    for field in SPECIAL:
        value = getattr(whole, field)
        assert getattr(small, field) == (value if value is not None and value < 65 else None)
    assert caplog.messages == []


def test_a_special_id_that_the_caller_gives_is_kept(caplog):
    config = VanillaConfig.gpt2(vocab_size=65, bos_token_id=7, eos_token_id=50256)
    assert (config.bos_token_id, config.eos_token_id) == (7, 50256)
    assert "eos_token_id must be" in caplog.text  # it is a mistake, and stays one that is reported


def expected_auto_map(variant: str) -> dict[str, str]:
    """What the design promises: AutoConfig, AutoModel and every head that works with the variant."""
    auto = {
        "encoder-decoder": {"AutoModelForSeq2SeqLM": "VanillaForConditionalGeneration"},
        "encoder": {"AutoModelForMaskedLM": "VanillaForMaskedLM"},
        "decoder": {"AutoModelForCausalLM": "VanillaForCausalLM"},
    }[variant]
    auto = {
        "AutoModel": "VanillaModel",
        "AutoModelForSequenceClassification": "VanillaForSequenceClassification",
        "AutoModelForTokenClassification": "VanillaForTokenClassification",
        "AutoModelForQuestionAnswering": "VanillaForQuestionAnswering",
        "AutoModelForMultipleChoice": "VanillaForMultipleChoice",
    } | auto
    return {"AutoConfig": "configuration_vanilla.VanillaConfig"} | {
        k: f"modeling_vanilla.{v}" for k, v in auto.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_saved_config_carries_the_whole_auto_map(variant, tmp_path):
    """save_pretrained of a custom class writes only that class; a reader of the Hub would find nothing else."""
    want = expected_auto_map(variant)
    VanillaConfig.tiny(variant=variant).save_pretrained(tmp_path / "config")
    assert json.loads((tmp_path / "config" / "config.json").read_text())["auto_map"] == want
    for name in (name for name, variants in HEADS.items() if variant in variants):
        folder = tmp_path / name
        getattr(modeling_vanilla, name)(VanillaConfig.tiny(variant=variant)).save_pretrained(folder)
        assert json.loads((folder / "config.json").read_text())["auto_map"] == want
        for target in want.values():
            file, class_name = target.split(".")
            assert (folder / f"{file}.py").is_file()
            assert hasattr(importlib.import_module(f"modeling_vanilla.{file}"), class_name)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("head", HEADS)
def test_a_head_refuses_the_variants_it_cannot_use(head, variant):
    config = VanillaConfig.tiny(variant=variant)
    if variant in HEADS[head]:
        assert getattr(modeling_vanilla, head)(config).config.variant == variant
        return
    with pytest.raises(ValueError, match=f"variant='{variant}'.*{head}.*'{next(iter(HEADS[head]))}'"):
        getattr(modeling_vanilla, head)(config)


def test_auto_classes_refuse_them_too():
    with pytest.raises(ValueError, match="variant='encoder'.*VanillaForCausalLM"):
        AutoModelForCausalLM.from_config(VanillaConfig.tiny(variant="encoder"))


@pytest.mark.parametrize("claimed", ["0.0.1", "9.9.9", 5, None])
def test_the_version_is_that_of_the_code_that_writes(claimed, tmp_path):
    """Whatever a file said of the code that wrote that file."""
    old = VanillaConfig.tiny().to_dict() | {"modeling_vanilla_version": claimed}
    config = VanillaConfig.from_dict(old)
    config.modeling_vanilla_version = claimed
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())["modeling_vanilla_version"]
    here = modeling_vanilla.__version__
    assert [written, config.modeling_vanilla_version, config.to_diff_dict()["modeling_vanilla_version"]] == [here] * 3
    again = VanillaConfig.from_pretrained(tmp_path)
    assert again == VanillaConfig.from_dict(old) and again.to_diff_dict() == config.to_diff_dict()
    assert VanillaConfig(modeling_vanilla_version=claimed) == VanillaConfig()


@pytest.fixture
def warned(monkeypatch):
    """Return a function that says what is logged where a version of transformers is installed."""
    logger, lines = logging.getLogger("transformers.modeling_vanilla"), []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger.addHandler(handler)

    def ask(version: str) -> list[str]:
        monkeypatch.setattr(transformers, "__version__", version)
        configuration_vanilla.warn_of_untested()
        return lines

    yield ask
    logger.removeHandler(handler)


@pytest.mark.parametrize("version", ["5.17.0", "5.24.0", "5.24.9", "5.25.0", "5.100.2", "6.0.0.dev0", "unknown"])
def test_a_transformers_newer_than_any_tested_is_logged_once(version, warned):
    expected = int(version in ("5.25.0", "5.100.2", "6.0.0.dev0"))
    assert [len(warned(version)), len(warned(version))] == [expected] * 2
    assert all(
        re.search(rf"tested with transformers 5.17 to 5.24, this is {version}: .*doctor", l) for l in warned(version)
    )


@pytest.mark.parametrize("process", ["another rank", "a worker"])
def test_only_the_first_process_of_a_machine_logs_it(process, warned, monkeypatch):
    if process == "another rank":
        monkeypatch.setenv("LOCAL_RANK", "1")
    else:
        monkeypatch.setattr(multiprocessing, "parent_process", lambda: object())
    assert warned("5.26.0") == []


def test_it_is_logged_on_import_in_one_line():
    # Some of its parts, when they are imported, put another object in the place of transformers.
    patch = "import sys, transformers.pipelines; sys.modules['transformers'].__version__ = '5.27.0'"
    script = f"{patch}; import modeling_vanilla"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert [("this is 5.27.0" in line) for line in done.stderr.splitlines() if "modeling_vanilla" in line] == [True]


def test_readme_promises_what_was_tested():
    first, last = configuration_vanilla.TESTED
    assert f"transformers {first} to {last}" in (ROOT / "README.md").read_text("utf-8")
    assert f"transformers {first}~{last}" in (ROOT / "README.ko.md").read_text("utf-8")
