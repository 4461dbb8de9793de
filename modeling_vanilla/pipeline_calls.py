# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The forms of transformers 4 in which the pipelines that transformers 5 dropped are named, set up and called."""

import warnings
from typing import Any

# What `truncation` may be, as a tokenizer has it: None and the like leave a text as long as it is.
TRUNCATIONS = {
    None: False,
    False: False,
    "do_not_truncate": False,
    True: True,
    "longest_first": True,
    "only_first": True,
}


class PipelineNames(dict):
    """Pipelines by the name of their task, where translation_XX_to_YY is a translation, as in transformers 4."""

    def __contains__(self, task: object) -> bool:
        return super().__contains__(task) or (language_pair(task) is not None and super().__contains__("translation"))

    def __missing__(self, task: str) -> Any:
        if task not in self:
            raise KeyError(task)
        return self["translation"]


def language_pair(task: object) -> tuple[str, str] | None:
    """Return (XX, YY) of translation_XX_to_YY, and None of any other name."""
    words = task.split("_") if isinstance(task, str) else []
    return (words[1], words[3]) if len(words) == 4 and words[::2] == ["translation", "to"] else None


def settings_of_task(config: Any, task: str) -> tuple[str, str, dict]:
    """Return what config.json says of a task (`task_specific_params`, `prefix`): T5's and BART's folders do.

    Returns:
        The task; where it is "translation" alone, the first translation_XX_to_YY that the config knows.
        What stands before every text.
        Settings of `generate`, of which those that it does not know are to be left out.
    """
    known = getattr(config, "task_specific_params", None) or {}
    if task == "translation":
        task = next((name for name in known if name.startswith("translation")), task)
        if language_pair(task):
            warnings.warn(
                f"the model knows several languages, and is asked for {task}: name the task so", stacklevel=4
            )
    settings = dict(known.get(task) or {})
    prefix = settings.pop("prefix", getattr(config, "prefix", None))
    return task, prefix or "", settings


def only_given(arguments: dict) -> dict:
    """Leave out what was not given."""
    return {name: value for name, value in arguments.items() if value is not None}


def longest_input(model, tokenizer) -> int | None:
    """Return how many tokens of a text the model can read, special ones included; None where nothing says."""
    limits = [getattr(model.config, "max_position_embeddings", None), tokenizer.model_max_length]
    known = [limit for limit in limits if limit is not None and limit < 1 << 30]  # the tokenizer's "none" is 1e30
    return min(known) if known else None


def without_old_arguments(arguments: dict) -> dict:
    """Leave out arguments that transformers 4 took and that say nothing in 5.

    Raises:
        ValueError: one of them says something that has another form now.
    """
    rest = dict(arguments)
    framework, card = rest.pop("framework", None), rest.pop("modelcard", None)
    if framework not in (None, "pt"):
        raise ValueError(f"framework={framework!r} must be 'pt', or be left out: transformers 5 has PyTorch alone")
    if card is not None:
        raise ValueError(f"modelcard={card!r} must be left out: transformers 5 saves no card with a pipeline")
    if rest.pop("return_type", None) is not None:
        raise ValueError("return_type must be left out: return_tensors=True gives token ids, and its absence text")
    if isinstance(assistant := rest.get("assistant_model"), str):
        raise ValueError(f"assistant_model={assistant!r} must be a model: load it, and give what was loaded")  # noqa: TRY004
    return rest


def in_new_tokens(settings: dict) -> dict:
    """Say a maximum length in new tokens, less the start token: `generate` would rather follow the folder's."""
    if settings.get("max_length") is None or settings.get("max_new_tokens") is not None:
        return settings
    rest = {name: value for name, value in settings.items() if name != "max_length"}
    return rest | {"max_new_tokens": max(settings["max_length"] - 1, 1)}


def cuts(truncation: Any) -> bool:
    """Tell whether an argument `truncation` asks to cut a text that is too long.

    Raises:
        ValueError: it is nothing that a tokenizer knows for a single text.
    """
    value = getattr(truncation, "value", truncation)  # of a TruncationStrategy
    if value not in TRUNCATIONS:
        raise ValueError(f"truncation={value!r} must be one of {', '.join(map(repr, TRUNCATIONS))}")
    return TRUNCATIONS[value]


def end_of(stop_sequence: str, tokenizer: Any) -> int:
    """Return the token that ends a text as `stop_sequence` asks.

    Raises:
        ValueError: it is not one token. transformers 4 warned, and ended a text at the first of them.
    """
    ids = tokenizer(stop_sequence, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ValueError(
            f"stop_sequence={stop_sequence!r} must be one token of this tokenizer, and has {len(ids)}: give "
            f"stop_strings=[{stop_sequence!r}] and tokenizer="
        )
    return ids[0]


def example_of(inputs: tuple, named: dict, question: Any, context: Any) -> Any:
    """Return what the pipeline question-answering is asked, from any form of its call.

    Args:
        inputs: what was given without a name.
        named: of data=, X= and inputs=, those that were given.
        question: the argument question=.
        context: the argument context=.

    Returns:
        A dict with `question` and `context`, a list of such, or what was given in place of them.

    Raises:
        ValueError: nothing was given, or more than one thing; or questions and contexts do not match.
    """
    pair = question is not None or context is not None
    if bool(inputs) + len(named) + pair != 1:
        raise ValueError(
            "give question= and context=, or both in one argument: a dict, or many of them. They were given in "
            f"{bool(inputs) + len(named) + pair} ways"
        )
    if len(inputs) == 2 and all(isinstance(value, str) for value in inputs):
        question, context = inputs
        pair = True
    if pair:
        return pairs(question, context)
    if len(inputs) > 1:
        return list(inputs)
    return inputs[0] if inputs else next(iter(named.values()))


def pairs(question: Any, context: Any) -> dict | list[dict]:
    """Make examples of a question and a context, either of which may be a list."""
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    if question is None or context is None:
        raise ValueError("question= and context= must be given together")
    if isinstance(question, str):
        question = [question] * len(context)
    elif isinstance(context, str):
        context = [context] * len(question)
    if len(question) != len(context):
        raise ValueError(f"{len(question)} questions and {len(context)} contexts do not match")
    return [{"question": q, "context": c} for q, c in zip(question, context, strict=True)]
