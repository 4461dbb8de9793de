"""What the text of a model card says: how to use the model, what of it was measured, and how the run came about."""

import re
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from train.errors import plain
from train.hub import fetch
from train.measure import results
from train.run import history
from train.settings.recipe import Recipe
from train.tasks import TASKS

SHOWN_SAMPLES = 5
OWN_LICENSE = "apache-2.0"

Results = dict[str, Any]
"""The content of results.json."""


def license_sentence(recipe: Recipe) -> str:
    """Say under which licence data and weights are."""
    if recipe.data.license:
        return f"Its licence is `{recipe.data.license}`, and the weights are made of it."
    if recipe.data.generator:
        return f"It is part of the training code, under `{OWN_LICENSE}` like the weights."
    return "The recipe states no licence for it: find out before you use the weights."


def data_sentence(recipe: Recipe) -> str:
    """Say where the data came from, without a path of the machine it was trained on."""
    data = recipe.data
    if fetch.is_id(data.hub):
        return f"The data set [{data.hub}](https://huggingface.co/datasets/{data.hub})."
    if data.generator:
        arguments = ", ".join(f"{name}={value!r}" for name, value in sorted(data.generator_args.items()))
        return f"Made by the generator `{data.generator}({arguments})` of the training code."
    names = [data.train] if isinstance(data.train, str) else data.train or []
    return f"Local files of the recipe `{recipe.name}`: {', '.join(f'`{Path(name).name}`' for name in names)}."


def _named(samples: list[dict], config: PreTrainedConfig) -> list[dict]:
    """Return the samples of a classifier with the names of their classes; earlier versions wrote their numbers."""
    return [
        {key: config.id2label.get(value, value) if key != "text" else value for key, value in sample.items()}
        if "label" in sample
        else sample
        for sample in samples
    ]


def samples(record: Results, config: PreTrainedConfig) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the first rows of the samples, fit for a Markdown table."""
    samples = _named(record.get("samples") or [], config)
    rows = [[cell(value) for value in sample.values()] for sample in samples[:SHOWN_SAMPLES]]
    return (list(samples[0]), rows) if samples else ([], [])


def cell(value: Any) -> str:
    """Return a text as it stands on a page: on one line, and neither Markdown, nor HTML, nor a link.

    Every character with a meaning becomes its entity, which a page shows as the character and does nothing else with.
    """
    text = plain(" ".join(str(value).split()))
    text = re.sub(r"[&<>\"'`*_\[\]()|\\~#!@$]", lambda character: f"&#{ord(character[0])};", text)
    return re.sub(r":(?=//)", "&#58;", re.sub(r"(?i)(?<=www)\.", "&#46;", text))


def first_text(record: Results, kind: str = "text") -> str:
    """Return the text of the first sample, or the question about it, to try the model with."""
    samples = record.get("samples") or []
    keys = ("source", "text") if kind == "text" else (kind,)
    return next((sample[key] for sample in samples[:1] for key in keys if key in sample), f"Some {kind}")


def _new_tokens(config: PreTrainedConfig) -> int:
    """Return how many tokens a language model may write on the card: a text that never ends must fit its positions."""
    return min(200, config.max_position_embeddings // 2)


def pipeline_usage(recipe: Recipe, record: Results, config: PreTrainedConfig) -> str:
    """Return the line of Python that uses the pipeline."""
    return _filled_in(TASKS[recipe.task].pipeline_call, record, config)


def usage(recipe: Recipe, record: Results, config: PreTrainedConfig) -> str:
    """Return the lines of Python that use the model."""
    return _filled_in(TASKS[recipe.task].model_call, record, config)


def _filled_in(lines: str, record: Results, config: PreTrainedConfig) -> str:
    """Put a number and texts, which may hold any word, in the place of NEW_TOKENS, TEXT and QUESTION."""
    values = {"NEW_TOKENS": str(_new_tokens(config))}
    values |= {mark: repr(first_text(record, mark.lower())) for mark in ("TEXT", "QUESTION")}
    return re.sub("|".join(values), lambda match: values[match[0]], lines)


def search_notes(recipe: Recipe, record: Results) -> list[str]:
    """Say how translations were searched."""
    settings = record["settings"]
    if not TASKS[recipe.task].generates:
        return []
    limit = f"at most {settings['max_extra_tokens']} tokens more than the input"
    if settings["beams"] == 1:
        return [f"greedy search, {limit}"]
    penalty = f"length penalty {settings['length_penalty']}, dividing the {settings['length_penalty_form']}"
    return [f"beam search of width {settings['beams']}, {limit}, {penalty}"]


def settings(recipe: Recipe, record: Results, config: PreTrainedConfig) -> list[tuple[str, str]]:
    """Return the table of the training settings."""
    optim, batch, loop, train = recipe.optim, recipe.batch, recipe.loop, record.get("train") or {}
    lr = f"{optim.lr:g}" if optim.lr is not None else "d_model^-0.5 x warm-up^-0.5 (equation 3)"
    layers = f"{config.num_layers} layers"
    if config.variant == "encoder-decoder":
        layers = f"{config.num_layers} encoder and {config.num_decoder_layers} decoder layers"
    rows = [
        ("architecture", f"{layers}, d_model {config.d_model}, d_ff {config.d_ff}, {config.num_heads} heads"),
        ("norm, positions, activation", f"{config.norm_order}, {config.positions}, {config.activation}"),
        ("vocabulary", f"{config.vocab_size:,} ({recipe.tokenizer.kind})"),
        ("dropout, label smoothing", f"{config.dropout:g}, {config.label_smoothing:g}"),
        ("optimiser", f"Adam, beta1 {optim.beta1:g}, beta2 {optim.beta2:g}, epsilon {optim.eps:g}"),
        ("peak learning rate, schedule", f"{lr}, {optim.schedule}, {optim.warmup_steps:,} steps of warm-up"),
        (
            "weight decay, clipping",
            f"{optim.weight_decay:g}, {'none' if optim.clip_norm is None else optim.clip_norm}",
        ),
        ("batch", f"{batch.max_tokens:,} tokens a side and step"),
        ("precision, seed", f"{loop.precision}, {loop.seed}"),
        ("weights", {"average": f"average of the last {loop.average_last} checkpoints"}.get(loop.final, loop.final)),
    ]
    if TASKS[recipe.task].label_column:
        rows.insert(0, ("classes", ", ".join(cell(name) for name in config.id2label.values())))
    if better := results.passed_over(train, recipe):
        rows.append(("best step", better))
    if train:
        rows.append(("steps, real tokens", f"{train.get('step', 0):,}, {train.get('tokens', 0):,}"))
    return rows


def receipts(record: Results) -> list[tuple[str, str]]:
    """Return the table of what identifies the run, all of it from results.json."""
    train = record.get("train") or {}
    stretches = history.of_results(record)
    rows = {
        "code": history.in_words(stretches, _code),
        "recipe, sha256": _quoted(record.get("recipe_hash")),
        "data, sha256 over its rows": _quoted(record["data_hash"]),
        **{f"{name}, sha256": _quoted(value) for name, value in (record.get("weights") or {}).items()},
        "seed": str(record.get("seed")),
        "hardware": history.in_words(stretches, _hardware),
        "versions": history.in_words(stretches, _versions) if len(stretches) > 1 else None,
        "training time": f"{train['seconds'] / 60:,.1f} minutes" if "seconds" in train else None,
        "arithmetic": f"{train['flops']:.3g} FLOPs of the model over the real tokens" if "flops" in train else None,
    }
    return [(name, value) for name, value in rows.items() if value is not None]


def _code(stretch: dict) -> str | None:
    """Return in words which code a run, or a part of it, was trained with; a release has no commit."""
    code = stretch.get("code") or {}
    if not code.get("version"):
        return None
    commit = f", commit `{code['commit']}`" if code.get("commit") else ""
    return f"version {code['version']}{commit}{', with changes that are not committed' if code.get('changed') else ''}"


def _hardware(stretch: dict) -> str | None:
    """Return in words what a run, or a part of it, was trained on."""
    known = "hardware" in stretch or "step" in stretch  # a part of the way knows its processes at least
    return f"{stretch.get('hardware', 'unknown')}, {stretch.get('processes', 1)} process(es)" if known else None


def _versions(stretch: dict) -> str | None:
    """Return the versions of the libraries of a part of a run."""
    return ", ".join(f"{name} {version}" for name, version in stretch.get("versions", {}).items()) or "unknown"


def _quoted(value: str | None) -> str | None:
    """Return a digest as code."""
    return f"`{value}`" if value else None


def limits(config: PreTrainedConfig) -> list[str]:
    """Say what the model cannot do."""
    return [
        f"At most {config.max_position_embeddings:,} tokens a text.",
        "It knows its training data and little else: text of another kind, language or length is outside what was measured.",
        "It repeats what its data says, mistakes and prejudices included; nothing was filtered.",
        "The figures above come from one run with one seed.",
    ]
