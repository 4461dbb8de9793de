# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What vLLM calls when it starts, by the entry point `vllm.general_plugins`: no flag and no remote code is needed then.

The import of this package has made the config and the classes known to transformers; here vLLM learns which of its own
models runs them. A translator is not among them: vLLM runs no encoder-decoder of this kind.
"""

BACKEND = "vllm.model_executor.models.transformers"
# vLLM's model for each of ours. It pools a classifier's first token, which is an encoder's way.
MODELS = {
    "VanillaForCausalLM": "TransformersForCausalLM",
    "VanillaForSequenceClassification": "TransformersForSequenceClassification",
    "VanillaModel": "TransformersEmbeddingModel",
}


def register() -> None:
    """Register these models with vLLM, by name, so that nothing is imported before it is used."""
    from vllm import ModelRegistry

    known = ModelRegistry.get_supported_archs()
    for ours, theirs in MODELS.items():
        if ours not in known:  # vLLM loads its plugins in each of its processes
            ModelRegistry.register_model(ours, f"{BACKEND}:{theirs}")
