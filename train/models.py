"""Models to measure: a folder of this project, anyone's folder, or anyone's repository of the Hub."""

from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoTokenizer

from modeling_vanilla import (
    VanillaConfig,
    VanillaForCausalLM,
    VanillaForConditionalGeneration,
    VanillaForMaskedLM,
    VanillaForSequenceClassification,
)
from train import hub_fetch
from train.errors import UserError

MODEL_OF_TASK = {
    "translation": VanillaForConditionalGeneration,
    "causal": VanillaForCausalLM,
    "masked": VanillaForMaskedLM,
    "classification": VanillaForSequenceClassification,
}
AUTO_OF_TASK = {
    "translation": "AutoModelForSeq2SeqLM",
    "causal": "AutoModelForCausalLM",
    "masked": "AutoModelForMaskedLM",
    "classification": "AutoModelForSequenceClassification",
}
# What a model and a tokenizer of any kind are read from. Pickle is not among it, nor is code, which has a flag of its own.
FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.spm", "*.jinja")


def fetched(repo_id: str, revision: str | None, trust_remote_code: bool) -> tuple[Path, dict[str, str]]:
    """Return the folder of a repository's model in the cache, and what identifies it.

    Raises:
        UserError: no such repository or revision, or the Hub cannot be reached.
    """
    commit = hub_fetch.commit_of(repo_id, revision)
    patterns = [*FILES, "*.py"] if trust_remote_code else [*FILES]
    return hub_fetch.cached(repo_id, commit, patterns), {"id": repo_id, "revision": commit}


def load(
    folder: Path, task: str, tokenizer_folder: Path | None = None, trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """Load the model of a task, and a tokenizer. No code of a folder runs where its model is ours, or one of transformers.

    Args:
        folder: with config.json and weights in safetensors.
        task: of the recipe; it decides the head.
        tokenizer_folder: None = the model's.
        trust_remote_code: run code of the folder, where the model is neither.

    Raises:
        UserError: it is no model of that task, lacks weights of its head, or needs code or a pickle.
    """
    trust: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(folder, **trust)
        ours = isinstance(config, VanillaConfig)
        head: Any = MODEL_OF_TASK[task] if ours else getattr(transformers, AUTO_OF_TASK[task])
        options = {"use_safetensors": True, "output_loading_info": True} | ({} if ours else trust)
        model, loaded = head.from_pretrained(folder, **options)
        if missing := sorted(loaded["missing_keys"]):
            rule = f"{missing[0]} is missing; task {task!r} needs that head"
            raise UserError(f"{folder}: has no weights for {type(model).__name__}: {rule}")
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder or folder, **({} if ours else trust))
    except UserError:
        raise
    except (ValueError, OSError, ImportError, KeyError) as error:
        message = " ".join(str(error).split())
        if "trust_remote_code" in message:
            message = "it holds its own code; read it, then run it with --trust-remote-code"
        raise UserError(f"{folder}: cannot be loaded as a model for {task}: {message}") from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token  # what lies under a mask has no meaning
    most = getattr(config, "max_position_embeddings", None)
    if not ours and most:
        tokenizer.model_max_length = min(tokenizer.model_max_length, most)
    return model, tokenizer


def check_classes(model: Any, names: list[str], folder: Path) -> None:
    """See that a classifier's classes are those of the data, number by number.

    Raises:
        UserError: they are others, or in another order: its accuracy would be about something else.
    """
    own = [model.config.id2label[number] for number in range(model.config.num_labels)]
    if own != names:
        raise UserError(
            f"{folder}: its classes are {', '.join(own[:8])}; those of the data are {', '.join(names[:8])}"
        )
