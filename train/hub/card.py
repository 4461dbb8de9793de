"""The model card: its front matter, and what a finished run is, put into the template model_card.md."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from modeling_vanilla.configuration_vanilla import TESTED
from train import files
from train.hub import card_text, fetch
from train.settings.recipe import Recipe
from train.tasks import FIGURES, TASKS, in_words, shown_as

TEMPLATE = Path(__file__).resolve().parents[2] / "model_card.md"
WIDGET_SAMPLES = 3


def render(
    repo_id: str, recipe: Recipe, record: dict[str, Any], model: PreTrainedModel, pictures: Collection[str] = ()
) -> ModelCard:
    """Return the card of a run.

    Args:
        repo_id: "user/name" on the Hub.
        recipe: the run's resolved recipe.
        record: the run's results.json.
        model: the model that is published.
        pictures: names of the pictures beside the card, of curves.png and attention.png.
    """
    task = shown_as(recipe.task, recipe.eval.metrics, recipe.data.language)
    columns, rows = card_text.samples(record, model.config)
    notes = [f"{name}: `{signature}`" for name, signature in record["settings"]["signatures"].items()]
    values = {
        "summary": task.summary,
        "intended_use": task.intended_use,
        "auto_class": task.auto_class,
        "tested": " to ".join(TESTED),
        "needed": TESTED[0],
        "own_class": type(model).__name__,
        "task": task.pipeline,
        "parameters": f"{record['parameters']:,}",
        "variant": model.config.variant,
        "pipeline_usage": card_text.pipeline_usage(recipe, record, model.config),
        "usage": card_text.usage(recipe, record, model.config),
        "split_sentence": f"On {record['settings']['examples']:,} examples of the split `{record['split']}`.",
        "figures": [
            (in_words(name, recipe.task), f"{value:.{FIGURES[name].digits}f}")
            for name, value in record["metrics"].items()
        ],
        "figure_notes": notes + card_text.search_notes(recipe, record),
        "command": record["command"],
        "versions": ", ".join(f"{name} {version}" for name, version in record["versions"].items()),
        "tolerance": ", ".join(
            f"{in_words(name, recipe.task)} {value}" for name, value in (record.get("tolerance") or {}).items()
        ),
        "sample_columns": columns,
        "samples": rows,
        "first_source": card_text.cell(card_text.first_text(record)),
        "data_sentence": card_text.data_sentence(recipe),
        "license_sentence": card_text.license_sentence(recipe),
        "base": _base(recipe),
        "settings": card_text.settings(recipe, record, model.config),
        "receipts": card_text.receipts(record),
        "curves": files.CURVES if files.CURVES in pictures else None,
        "attention": files.ATTENTION if files.ATTENTION in pictures else None,
        "limits": card_text.limits(model.config),
    }
    return ModelCard.from_template(
        _card_data(repo_id, recipe, record), template_path=str(TEMPLATE), repo_id=repo_id, **values
    )


def _card_data(repo_id: str, recipe: Recipe, record: dict[str, Any]) -> ModelCardData:
    """Return the front matter, measured figures as the model index included."""
    task = shown_as(recipe.task, recipe.eval.metrics, recipe.data.language)
    names = list(record["metrics"])
    source = _source(recipe)
    results = [
        EvalResult(
            task_type=task.pipeline,
            dataset_type=source,
            dataset_name=source,
            dataset_config=recipe.data.hub_config,
            dataset_split=record["split"],
            metric_type=FIGURES[name].metric,
            metric_name=in_words(name, recipe.task),
            metric_value=round(record["metrics"][name], 6),
        )
        for name in names
    ]
    return ModelCardData(
        language=languages(recipe),
        license=license_of(recipe),
        library_name="transformers",
        pipeline_tag=task.pipeline,
        tags=tags(recipe),
        datasets=[recipe.data.hub] if fetch.is_id(recipe.data.hub) else None,
        base_model=_base(recipe),
        metrics=sorted({FIGURES[name].metric for name in names}),
        model_name=repo_id.split("/")[-1],
        eval_results=results,
        widget=_widget(recipe, record) or None,
    )


def of_checkpoint(repo_id: str, recipe: Recipe, step: int) -> ModelCard:
    """Return the short card of a checkpoint that is sent while its run goes on: nothing of it is measured."""
    task = shown_as(recipe.task, recipe.eval.metrics, recipe.data.language)
    data = ModelCardData(
        language=languages(recipe),
        license=license_of(recipe),
        library_name="transformers",
        pipeline_tag=task.pipeline,
        tags=[*tags(recipe), "checkpoint"],
    )
    return ModelCard(
        f"---\n{data.to_yaml()}\n---\n\n# {repo_id}, step {step:,}\n\n{task.summary} This is a checkpoint of the run "
        f"`{recipe.name}`, after {step:,} of {recipe.loop.max_steps:,} steps, sent while the run went on. Nothing of it was "
        f"measured. `{task.auto_class}.from_pretrained` loads it with `trust_remote_code=True`.\n"
    )


def tags(recipe: Recipe) -> list[str]:
    """Return the tags of a repository."""
    return [
        "vanilla",
        "transformer",
        *([] if recipe.model.init_from else ["from-scratch"]),
        "custom_code",
        recipe.task,
    ]


def license_of(recipe: Recipe) -> str:
    """Return the licence of the weights by its identifier on the Hub.

    Text that a generator of this project made is under this project's licence; weights from any other text are under
    that of the text, which is unknown where the recipe does not state it.
    """
    return recipe.data.license or (card_text.OWN_LICENSE if recipe.data.generator else "unknown")


def _widget(recipe: Recipe, record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return texts to try on the page of the model, with what the model answered where that was measured."""
    samples = (record.get("samples") or [])[:WIDGET_SAMPLES]
    if TASKS[recipe.task].has_pairs:
        return [{"text": one["source"], "output": {"text": one["prediction"]}} for one in samples if "source" in one]
    if TASKS[recipe.task].has_spans:
        return [{"text": one["question"], "context": one["text"]} for one in samples if "question" in one]
    return [{"text": one["text"]} for one in samples if "text" in one]


def languages(recipe: Recipe) -> list[str] | None:
    """Return the languages: those the recipe states, else those a translation's name ends in (`dates-en-ko`)."""
    if recipe.data.language:
        return recipe.data.language
    pair = re.search(r"-([a-z]{2})-([a-z]{2})(?=-|$)", recipe.name)
    return list(pair.groups()) if pair and TASKS[recipe.task].has_pairs else None


def _base(recipe: Recipe) -> str | None:
    """Return the model of the Hub that the weights began as; None for another start."""
    return recipe.model.init_from if fetch.is_id(recipe.model.init_from) else None


def _source(recipe: Recipe) -> str:
    """Return in one word what the data is: its id on the Hub, its generator, or the name of the recipe."""
    if fetch.is_id(recipe.data.hub):
        return recipe.data.hub
    return recipe.data.generator or re.sub(r"-cpu$", "", recipe.name)
