"""`import modeling_vanilla` makes the Auto classes know the models, once and for all variants."""

import importlib

import pytest
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

import modeling_vanilla
from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForMultipleChoice,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaModel,
)

ALL = ("encoder-decoder", "encoder", "decoder")
PAIRS = [
    (AutoModel, VanillaModel, ALL),
    (AutoModelForSequenceClassification, VanillaForSequenceClassification, ALL),
    (AutoModelForTokenClassification, VanillaForTokenClassification, ALL),
    (AutoModelForQuestionAnswering, VanillaForQuestionAnswering, ALL),
    (AutoModelForMultipleChoice, VanillaForMultipleChoice, ALL),
    (AutoModelForSeq2SeqLM, VanillaForConditionalGeneration, ("encoder-decoder",)),
    (AutoModelForMaskedLM, VanillaForMaskedLM, ("encoder",)),
    (AutoModelForCausalLM, VanillaForCausalLM, ("decoder",)),
]
MATCHES = [(auto, model, variant) for auto, model, variants in PAIRS for variant in variants]
MISMATCHES = [(auto, variant) for auto, _, variants in PAIRS for variant in ALL if variant not in variants]


def name_of(value) -> str:
    return getattr(value, "__name__", str(value))


@pytest.mark.parametrize(("auto", "model", "variant"), MATCHES, ids=name_of)
def test_each_class_is_found_by_config_and_by_folder(config_of, build, tmp_path, auto, model, variant):
    assert type(auto.from_config(config_of(variant))) is model
    build(variant, model).save_pretrained(tmp_path)
    # The class that is installed wins over the copy in the folder, with and without the flag.
    for options in ({}, {"trust_remote_code": False}):
        assert type(auto.from_pretrained(tmp_path, **options)) is model
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is VanillaConfig
    assert config.variant == variant
    assert AutoConfig.for_model("vanilla").to_dict() == VanillaConfig().to_dict()


@pytest.mark.parametrize(("auto", "variant"), MISMATCHES, ids=name_of)
def test_a_head_that_the_variant_lacks_is_refused(config_of, auto, variant):
    with pytest.raises(ValueError, match=f"variant='{variant}'.*needs"):
        auto.from_config(config_of(variant))


def test_a_second_import_is_harmless(config_of):
    importlib.reload(modeling_vanilla)
    assert type(AutoModel.from_config(config_of("encoder"))) is VanillaModel
    assert modeling_vanilla.VanillaConfig is VanillaConfig


def test_all_names_exist():
    assert sorted(modeling_vanilla.__all__) == modeling_vanilla.__all__
    for name in modeling_vanilla.__all__:
        assert getattr(modeling_vanilla, name).__name__ == name
