# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The Transformer of "Attention Is All You Need" as a Hugging Face model, in three variants."""

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

from .bridges import assemble, cut, for_ctranslate2, from_transformers, to_transformers
from .configuration_vanilla import VanillaConfig
from .modeling_vanilla import (
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForMultipleChoice,
    VanillaForQuestionAnswering,
    VanillaForSequenceClassification,
    VanillaForTokenClassification,
    VanillaModel,
    VanillaPreTrainedModel,
)

__version__ = "0.1.0"

__all__ = [
    "VanillaConfig",
    "VanillaForCausalLM",
    "VanillaForConditionalGeneration",
    "VanillaForMaskedLM",
    "VanillaForMultipleChoice",
    "VanillaForQuestionAnswering",
    "VanillaForSequenceClassification",
    "VanillaForTokenClassification",
    "VanillaModel",
    "VanillaPreTrainedModel",
    "assemble",
    "cut",
    "for_ctranslate2",
    "from_transformers",
    "to_transformers",
]

# `exist_ok` makes a second import (a reload, a notebook) harmless.
AutoConfig.register(VanillaConfig.model_type, VanillaConfig, exist_ok=True)
AutoModel.register(VanillaConfig, VanillaModel, exist_ok=True)
AutoModelForSeq2SeqLM.register(VanillaConfig, VanillaForConditionalGeneration, exist_ok=True)
AutoModelForCausalLM.register(VanillaConfig, VanillaForCausalLM, exist_ok=True)
AutoModelForMaskedLM.register(VanillaConfig, VanillaForMaskedLM, exist_ok=True)
AutoModelForSequenceClassification.register(VanillaConfig, VanillaForSequenceClassification, exist_ok=True)
AutoModelForTokenClassification.register(VanillaConfig, VanillaForTokenClassification, exist_ok=True)
AutoModelForQuestionAnswering.register(VanillaConfig, VanillaForQuestionAnswering, exist_ok=True)
AutoModelForMultipleChoice.register(VanillaConfig, VanillaForMultipleChoice, exist_ok=True)
