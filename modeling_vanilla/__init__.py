# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The Transformer of "Attention Is All You Need" as a Hugging Face model, in three variants."""

from typing import TYPE_CHECKING, Any

import transformers
from transformers import AutoConfig
from transformers.pipelines import PIPELINE_REGISTRY

from .configuration_vanilla import PIPELINES, VERSION, VanillaConfig
from .modeling_vanilla import (
    AUTO_CLASSES,
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
from .pipeline_calls import PipelineNames
from .pipeline_question_answering import QuestionAnsweringPipeline
from .pipeline_text2text import SummarizationPipeline, Text2TextGenerationPipeline, TranslationPipeline

if TYPE_CHECKING:
    from .convert import assemble, cut, for_ctranslate2, from_transformers, to_transformers

__version__ = VERSION

__all__ = [
    "QuestionAnsweringPipeline",
    "SummarizationPipeline",
    "Text2TextGenerationPipeline",
    "TranslationPipeline",
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


def __getattr__(name: str) -> Any:
    """Import the bridges to other models when they are asked for: few programs cross one, and they import much."""
    if name in ("assemble", "cut", "for_ctranslate2", "from_transformers", "to_transformers"):
        from . import convert

        return getattr(convert, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# `exist_ok` makes a second import (a reload, a notebook) harmless.
AutoConfig.register(VanillaConfig.model_type, VanillaConfig, exist_ok=True)
for _name, _model in AUTO_CLASSES.items():
    getattr(transformers, _name).register(VanillaConfig, _model, exist_ok=True)

# Where the package is imported, `pipeline(task, model=...)` needs no remote code. transformers 5.23 refuses the names of
# the pipelines that it removed before it looks whether another package has registered them, and no version of 5 knows
# translation_XX_to_YY.
PIPELINE_REGISTRY.supported_tasks = PipelineNames(PIPELINE_REGISTRY.supported_tasks)
for _task, _pipeline in {
    "translation": TranslationPipeline,
    "summarization": SummarizationPipeline,
    "text2text-generation": Text2TextGenerationPipeline,
    "question-answering": QuestionAnsweringPipeline,
}.items():
    getattr(transformers.pipelines, "REMOVED_TASKS", {}).pop(_task, None)
    _known = PIPELINE_REGISTRY.supported_tasks.get(_task, {}).get("impl")
    if getattr(_known, "__module__", None) == _pipeline.__module__:  # from an earlier import: no warning
        del PIPELINE_REGISTRY.supported_tasks[_task]
    _auto = getattr(transformers, PIPELINES[_task][1])
    PIPELINE_REGISTRY.register_pipeline(_task, pipeline_class=_pipeline, pt_model=_auto, type="text")
VanillaConfig.has_registered_pipelines = True
