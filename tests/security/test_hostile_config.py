"""A config.json that somebody else wrote chooses numbers within limits, and nothing else."""

import json
import math
import re

import pytest
from transformers import AutoConfig, AutoModelForSeq2SeqLM
from transformers.utils.import_utils import is_kernels_available

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from modeling_vanilla.file_checks import LIMITS

KERNEL = "must be one of null, 'eager', 'sdpa', 'flex_attention' in config.json"
REFUSED = {
    # A kernel is code: transformers downloads "owner/name", and flash attention where it is not installed.
    "kernel": ({"attn_implementation": "owner/kernel"}, KERNEL),
    "kernel by its private name": ({"_attn_implementation": "owner/kernel"}, KERNEL),
    "kernel by its inner name": ({"_attn_implementation_internal": "owner/kernel"}, "must not be in config.json"),
    "kernel behind a prefix": ({"attn_implementation": "flash|owner/kernel@main:f"}, KERNEL),
    "kernel for a part": ({"attn_implementation": {"": "owner/kernel"}}, KERNEL),
    "kernel in a list": ({"attn_implementation": ["eager"]}, KERNEL),
    "flash attention": ({"attn_implementation": "flash_attention_2"}, KERNEL),
    "kernel of experts": ({"experts_implementation": "owner/kernel"}, "experts_implementation='owner/kernel'"),
    "experts by inner name": ({"_experts_implementation_internal": "o/k"}, "must not be in config.json"),
    "quantisation with kernels": ({"quantization_config": {"quant_method": "mxfp4"}}, "quant_method='mxfp4'"),
    "quantisation in words": ({"quantization_config": "int8"}, "quantization_config='int8' must be an object"),
    "activation": ({"activation": "owner/kernel"}, "activation='owner/kernel' must be one of"),
    # Fields that lead to other files, patches or processes.
    "other weights": ({"transformers_weights": "../x.safetensors"}, "transformers_weights="),
    "other weights inside": ({"transformers_weights": "x.safetensors.index.json"}, "transformers_weights="),
    "patches": ({"fusion_config": {"patch_embeddings": True}}, "fusion_config="),
    "processes": ({"distributed_config": {"tp_size": 2}}, "distributed_config="),
    "plan": ({"base_model_tp_plan": {"*": "colwise"}}, "base_model_tp_plan="),
    "layers": ({"per_layer_config": {"0": {"d_model": 1}}}, "per_layer_config="),
    # Names of the class, which would be replaced.
    "method": ({"check": 1}, "check=1 must not be"),
    "method of transformers": ({"to_dict": None}, "to_dict=None must not be"),
    "aliases": ({"attribute_map": {"d_model": "vocab_size"}}, "attribute_map="),
    "class": ({"__class__": "dict"}, "__class__='dict' must not be"),
    "all": ({"__dict__": {}}, "__dict__={} must not be"),
    # transformers looks these up in torch.
    "dtype that is a function": ({"dtype": "load"}, "dtype='load' must be one of"),
    "dtype that is a module": ({"torch_dtype": "os"}, "torch_dtype='os' must be one of"),
    "dtype of integers": ({"dtype": "int64"}, "dtype='int64' must be one of"),
    "dtype that is not there": ({"dtype": "nonsense"}, "dtype='nonsense' must be one of"),
    "dtype by path": ({"dtype": "__builtins__"}, "dtype='__builtins__' must be one of"),
    # Labels.
    "labels without end": ({"num_labels": 10**9}, "num_labels=1000000000 must be a whole number from 1 to 65536"),
    "labels in words": ({"num_labels": "3"}, "num_labels='3'"),
    "no labels": ({"num_labels": 0}, "num_labels=0"),
    "names in a list": ({"id2label": ["a"]}, "id2label=.* must be an object"),
    "names without number": ({"id2label": {"x": "y"}}, "id2label has 'x'"),
    "names below zero": ({"id2label": {"-1": "y"}}, "id2label has '-1'"),
    "names of long numbers": ({"id2label": {"9" * 5000: "y"}}, "id2label has"),
    "label that moves the cursor": ({"id2label": {"0": "a\x1b[2J"}}, r"id2label\[0\]='a\\x1b\[2J'"),
    "label of two lines": ({"id2label": {"0": "a\nERROR"}}, r"id2label\[0\]"),
    "label of a book": ({"id2label": {"0": "a" * 300}}, "at most 256 characters"),
    # Sizes of the file itself.
    "text": ({"variant": "a" * 10**6}, "has 1000000 characters, at most 10000"),
    "text inside": ({"extra": {"a": ["b" * 10**6]}}, "extra=.* has 1000000 characters"),
    "name of a field": ({"a" * 10**6: 1}, "field of 1000000 characters"),
    "depth": ({"extra": json.loads("[" * 200 + "]" * 200)}, "extra is nested more than 20 times"),
    # Numbers.
    "not a number": ({"dropout": math.nan}, "dropout=nan must be in"),
    "tagged not a number": ({"dropout": {"__float__": "NaN"}}, "dropout=nan must be in"),
    "infinite": ({"layer_norm_eps": math.inf}, "layer_norm_eps=inf"),
    "boolean": ({"num_layers": True}, "'num_layers' expected int, got bool"),
    "text for a number": ({"d_model": "512"}, "'d_model'"),
    "float for a number": ({"d_model": 24.0}, "'d_model'"),
    "list for a number": ({"d_model": [24]}, "'d_model'"),
    "null for a number": ({"d_model": None}, "'d_model'"),
    "below zero": ({"num_heads": -1}, "num_heads=-1 must be at least 1"),
    "text for an id": ({"pad_token_id": "x"}, "'pad_token_id'"),
    "text for true": ({"tie_word_embeddings": "yes"}, "'tie_word_embeddings'"),
}
REFUSED |= {
    f"huge {name}": ({name: most + 1}, f"{name}={most + 1} must be at most {most}") for name, most in LIMITS.items()
}
REFUSED["beyond 64 bits"] = ({"vocab_size": 10**40}, "vocab_size=1.* must be at most")


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_that_asks_for_more_is_refused(hostile, name):
    changes, message = REFUSED[name]
    folder = hostile(**changes)
    for load in (AutoConfig, AutoModelForSeq2SeqLM, VanillaConfig, VanillaForConditionalGeneration):
        with pytest.raises(ValueError, match=message) as caught:
            load.from_pretrained(folder)
        assert len(str(caught.value)) < 1000
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", str(caught.value)), "a terminal would obey it"


@pytest.mark.parametrize(
    "changes",
    [
        {"attn_implementation": "eager"},
        {"_attn_implementation": "sdpa"},
        {"dtype": "bfloat16"},
        {"torch_dtype": "float16"},
        {"id2label": {"0": "가", "1": "👩‍💻 b"}},
        {"note": {"by": ["a", {"friend": 1.5}]}},
        {"_name_or_path": "me/mine", "_commit_hash": "0" * 40, "transformers_version": "9.9"},
        {"auto_map": {"AutoModelForSeq2SeqLM": "owner/other--modeling.Other"}},
        {"custom_pipelines": {"translation": {"impl": "other.Other", "pt": ["AutoModel"]}}},
        {"architectures": ["os.system"]},
        {name: most for name, most in LIMITS.items() if name == "attention_window"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_a_config_that_is_merely_different_loads(hostile, changes):
    folder = hostile(**changes)
    assert type(AutoModelForSeq2SeqLM.from_pretrained(folder)) is VanillaForConditionalGeneration
    config = AutoConfig.from_pretrained(folder)
    assert "configuration_vanilla.VanillaConfig" in config.auto_map.values(), "the class decides, not the file"
    assert "other" not in json.dumps([config.auto_map, config.to_dict().get("custom_pipelines", {})])


@pytest.mark.skipif(is_kernels_available(), reason="it would be downloaded")
def test_the_caller_may_name_a_kernel(hostile):
    """As far as transformers gets without its package `kernels`: the rule is for files."""
    with pytest.raises(ImportError, match="`kernels` is either not installed"):
        AutoModelForSeq2SeqLM.from_pretrained(hostile(), attn_implementation="owner/kernel")


def test_the_last_of_two_values_is_the_one_that_is_checked(hostile):
    folder = hostile()
    text = (folder / "config.json").read_text("utf-8")
    path = folder / "config.json"
    path.write_text('{"d_model": 999999999,' + text.lstrip()[1:], encoding="utf-8")
    assert AutoConfig.from_pretrained(folder).d_model == 24
    path.write_text(text.rstrip()[:-1] + ', "attn_implementation": "owner/kernel"}', encoding="utf-8")
    with pytest.raises(ValueError, match=KERNEL):
        AutoConfig.from_pretrained(folder)


@pytest.mark.parametrize("version", ["4.0.0", "1.0/../../x"])
def test_another_config_of_the_folder_is_checked_as_well(hostile, version):
    """transformers reads the file that `configuration_files` names for its version."""
    folder = hostile(configuration_files=[f"config.{version}.json"])
    content = json.loads((folder / "config.json").read_text("utf-8")) | {"attn_implementation": "owner/kernel"}
    (folder / "config.4.0.0.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=KERNEL if version == "4.0.0" else "Invalid version"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '"text"', "[" * 100_000, '{"a":' * 100_000, "\xff", '{"model_type": 3}'],
    ids=["empty", "cut", "list", "number", "null", "text", "deep list", "deep object", "latin-1", "type"],
)
def test_what_is_no_config_ends_in_an_exception(hostile, text):
    """Raised by transformers, before this package is asked."""
    folder = hostile()
    (folder / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises((ValueError, OSError, TypeError, AttributeError, RecursionError)):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_beams": 10**6}, "generation_config.num_beams=1000000 must be a whole number from 1 to 1024"),
        ({"num_return_sequences": 10**6, "do_sample": True}, "generation_config.num_return_sequences=1000000"),
        ({"max_new_tokens": 10**9}, "generation_config.max_new_tokens=1000000000"),
        ({"max_length": 10**9}, "generation_config.max_length=1000000000"),
        ({"max_cache_len": 10**10}, "generation_config.max_cache_len=10000000000"),
        ({"cache_implementation": "static", "max_length": 2**24}, "from 1 to 64 with cache_implementation='static'"),
        ({"cache_implementation": "static", "max_cache_len": 65}, "generation_config.max_cache_len=65"),
        ({"num_beams": 1024, "max_length": 2**24}, "1024 beams of 16777216 tokens"),
        ({"num_beams": 2.5}, "num_beams"),
        ({"max_new_tokens": -1}, "max_new_tokens"),
    ],
)
def test_generation_without_end_is_refused(hostile, changes, message):
    with pytest.raises(ValueError, match=message):
        AutoModelForSeq2SeqLM.from_pretrained(hostile(file="generation_config.json", **changes))
