"""The model card: what a finished run is, put into the template model_card.md."""

import re
from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from modeling_vanilla.configuration_vanilla import TESTED
from train.errors import plain
from train.hub import fetch
from train.measure import results
from train.run import history
from train.tasks import FIGURES, TASKS, in_words

TEMPLATE = Path(__file__).resolve().parents[2] / "model_card.md"
SHOWN_SAMPLES, WIDGET_SAMPLES = 5, 3
OWN_LICENSE = "apache-2.0"


def render(repo_id: str, recipe, content: dict, model, pictures=()) -> ModelCard:
    """Return the card of a run.

    Args:
        repo_id: "user/name" on the Hub.
        recipe: the run's resolved recipe.
        content: the run's results.json.
        model: the model that is published.
        pictures: names of the pictures beside the card, of curves.png and attention.png.
    """
    task = TASKS[recipe.task]
    columns, rows = _samples(_named(content.get("samples") or [], model.config))
    notes = [f"{name}: `{signature}`" for name, signature in content["settings"]["signatures"].items()]
    values = {
        "summary": task.summary,
        "intended_use": task.intended_use,
        "auto_class": TASKS[recipe.task].auto_class,
        "tested": " to ".join(TESTED),
        "needed": TESTED[0],
        "own_class": type(model).__name__,
        "task": task.pipeline,
        "parameters": f"{content['parameters']:,}",
        "variant": model.config.variant,
        "pipeline_usage": _pipeline_usage(recipe, content),
        "usage": _usage(recipe, content),
        "split_sentence": f"On {content['settings']['examples']:,} examples of the split `{content['split']}`.",
        "figures": [
            (in_words(name, recipe.task), f"{value:.{FIGURES[name].digits}f}")
            for name, value in content["metrics"].items()
        ],
        "figure_notes": notes + _search_notes(recipe, content),
        "command": content["command"],
        "versions": ", ".join(f"{name} {version}" for name, version in content["versions"].items()),
        "tolerance": ", ".join(
            f"{in_words(name, recipe.task)} {value}" for name, value in (content.get("tolerance") or {}).items()
        ),
        "sample_columns": columns,
        "samples": rows,
        "first_source": _cell(_first_text(content)),
        "data_sentence": _data_sentence(recipe),
        "license_sentence": _license_sentence(recipe),
        "base": _base(recipe),
        "settings": _settings(recipe, content, model.config),
        "receipts": _receipts(content),
        "curves": "curves.png" if "curves.png" in pictures else None,
        "attention": "attention.png" if "attention.png" in pictures else None,
        "limits": _limits(model.config),
    }
    return ModelCard.from_template(
        _card_data(repo_id, recipe, content), template_path=str(TEMPLATE), repo_id=repo_id, **values
    )


def _card_data(repo_id: str, recipe, content: dict) -> ModelCardData:
    """Return the front matter, measured figures as the model index included."""
    task, names = TASKS[recipe.task], list(content["metrics"])
    source = _source(recipe)
    results = [
        EvalResult(
            task_type=task.pipeline,
            dataset_type=source,
            dataset_name=source,
            dataset_config=recipe.data.hub_config,
            dataset_split=content["split"],
            metric_type=FIGURES[name].metric,
            metric_name=in_words(name, recipe.task),
            metric_value=round(content["metrics"][name], 6),
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
        widget=_widget(recipe, content) or None,
    )


def of_checkpoint(repo_id: str, recipe, step: int) -> ModelCard:
    """Return the short card of a checkpoint that is sent while its run goes on: nothing of it is measured."""
    task = TASKS[recipe.task]
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
        f"measured. `{TASKS[recipe.task].auto_class}.from_pretrained` loads it with `trust_remote_code=True`.\n"
    )


def tags(recipe) -> list[str]:
    """Return the tags of a repository."""
    return [
        "vanilla",
        "transformer",
        *([] if recipe.model.init_from else ["from-scratch"]),
        "custom_code",
        recipe.task,
    ]


def license_of(recipe) -> str:
    """Return the licence of the weights by its identifier on the Hub.

    Text that a generator of this project made is under this project's licence; weights from any other text are under
    that of the text, which is unknown where the recipe does not state it.
    """
    return recipe.data.license or (OWN_LICENSE if recipe.data.generator else "unknown")


def _license_sentence(recipe) -> str:
    """Say under which licence data and weights are."""
    if recipe.data.license:
        return f"Its licence is `{recipe.data.license}`, and the weights are made of it."
    if recipe.data.generator:
        return f"It is part of the training code, under `{OWN_LICENSE}` like the weights."
    return "The recipe states no licence for it: find out before you use the weights."


def _widget(recipe, content: dict) -> list[dict]:
    """Return texts to try on the page of the model, with what the model answered where that was measured."""
    samples = (content.get("samples") or [])[:WIDGET_SAMPLES]
    if TASKS[recipe.task].has_pairs:
        return [{"text": one["source"], "output": {"text": one["prediction"]}} for one in samples if "source" in one]
    return [{"text": one["text"]} for one in samples if "text" in one]


def languages(recipe) -> list[str] | None:
    """Return the languages: those the recipe states, else those a translation's name ends in (`dates-en-ko`)."""
    if recipe.data.language:
        return recipe.data.language
    pair = re.search(r"-([a-z]{2})-([a-z]{2})(?=-|$)", recipe.name)
    return list(pair.groups()) if pair and TASKS[recipe.task].has_pairs else None


def _base(recipe) -> str | None:
    """Return the model of the Hub that the weights began as; None for another start."""
    return recipe.model.init_from if fetch.is_id(recipe.model.init_from) else None


def _source(recipe) -> str:
    """Return in one word what the data is: its id on the Hub, its generator, or the name of the recipe."""
    if fetch.is_id(recipe.data.hub):
        return recipe.data.hub
    return recipe.data.generator or re.sub(r"-cpu$", "", recipe.name)


def _data_sentence(recipe) -> str:
    """Say where the data came from, without a path of the machine it was trained on."""
    data = recipe.data
    if fetch.is_id(data.hub):
        return f"The data set [{data.hub}](https://huggingface.co/datasets/{data.hub})."
    if data.generator:
        arguments = ", ".join(f"{name}={value!r}" for name, value in sorted(data.generator_args.items()))
        return f"Made by the generator `{data.generator}({arguments})` of the training code."
    files = [data.train] if isinstance(data.train, str) else data.train or []
    return f"Local files of the recipe `{recipe.name}`: {', '.join(f'`{Path(name).name}`' for name in files)}."


def _named(samples: list[dict], config) -> list[dict]:
    """Return the samples of a classifier with the names of their classes; earlier versions wrote their numbers."""
    return [
        {key: config.id2label.get(value, value) if key != "text" else value for key, value in sample.items()}
        if "label" in sample
        else sample
        for sample in samples
    ]


def _samples(samples: list[dict]) -> tuple[list[str], list[list[str]]]:
    """Return the columns and the first rows of the samples, fit for a Markdown table."""
    rows = [[_cell(value) for value in sample.values()] for sample in samples[:SHOWN_SAMPLES]]
    return (list(samples[0]), rows) if samples else ([], [])


def _cell(value) -> str:
    """Return a text as it stands on a page: on one line, and neither Markdown, nor HTML, nor a link.

    Every character with a meaning becomes its entity, which a page shows as the character and does nothing else with.
    """
    text = plain(" ".join(str(value).split()))
    text = re.sub(r"[&<>\"'`*_\[\]()|\\~#!@$]", lambda found: f"&#{ord(found[0])};", text)
    return re.sub(r":(?=//)", "&#58;", re.sub(r"(?i)(?<=www)\.", "&#46;", text))


def _first_text(content: dict) -> str:
    """Return the text of the first sample, to try the model with."""
    samples = content.get("samples") or []
    return next((sample[key] for sample in samples[:1] for key in ("source", "text") if key in sample), "Some text")


def _pipeline_usage(recipe, content: dict) -> str:
    """Return the line of Python that uses the pipeline."""
    if recipe.task == "masked":
        return 'print(pipe(f"Some text with a {pipe.tokenizer.mask_token} in it"))'
    return f"print(pipe({_first_text(content)!r}{', max_new_tokens=200' if recipe.task == 'causal' else ''}))"


def _usage(recipe, content: dict) -> str:
    """Return the lines of Python that use the model."""
    # User text is text: `</s>` typed by somebody must not become the end of the sentence.
    encode = f'inputs = tokenizer({_first_text(content)!r}, return_tensors="pt", split_special_tokens=True)'
    if TASKS[recipe.task].has_pairs:
        return f"{encode}\nprint(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))"
    if recipe.task == "causal":
        generate = "model.generate(**inputs, max_new_tokens=200, do_sample=True)"
        return f"{encode}\nprint(tokenizer.decode({generate}[0], skip_special_tokens=True))"
    if TASKS[recipe.task].has_classes:
        return f"{encode}\nprint(model.config.id2label[model(**inputs).logits.argmax(-1).item()])"
    return (
        'inputs = tokenizer(f"Some text with a {tokenizer.mask_token} in it", return_tensors="pt")\n'
        'hidden = inputs["input_ids"][0] == tokenizer.mask_token_id\n'
        "print(tokenizer.decode(model(**inputs).logits[0, hidden].argmax(-1)))"
    )


def _search_notes(recipe, content: dict) -> list[str]:
    """Say how translations were searched."""
    settings = content["settings"]
    if not TASKS[recipe.task].generates:
        return []
    limit = f"at most {settings['max_extra_tokens']} tokens more than the input"
    if settings["beams"] == 1:
        return [f"greedy search, {limit}"]
    penalty = f"length penalty {settings['length_penalty']}, dividing the {settings['length_penalty_form']}"
    return [f"beam search of width {settings['beams']}, {limit}, {penalty}"]


def _settings(recipe, content: dict, config) -> list[tuple[str, str]]:
    """Return the table of the training settings."""
    optim, batch, loop, train = recipe.optim, recipe.batch, recipe.loop, content.get("train") or {}
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
    if better := results.passed_over(train, recipe):
        rows.append(("best step", better))
    if train:
        rows.append(("steps, real tokens", f"{train.get('step', 0):,}, {train.get('tokens', 0):,}"))
    return rows


def _receipts(content: dict) -> list[tuple[str, str]]:
    """Return the table of what identifies the run, all of it from results.json."""
    train = content.get("train") or {}
    parts = history.of_results(content)
    found = {
        "code": history.in_words(parts, _code),
        "recipe, sha256": _quoted(content.get("recipe_hash")),
        "data, sha256 over its rows": _quoted(content["data_hash"]),
        **{f"{name}, sha256": _quoted(value) for name, value in (content.get("weights") or {}).items()},
        "seed": str(content.get("seed")),
        "hardware": history.in_words(parts, _hardware),
        "versions": history.in_words(parts, _versions) if len(parts) > 1 else None,
        "training time": f"{train['seconds'] / 60:,.1f} minutes" if "seconds" in train else None,
        "arithmetic": f"{train['flops']:.3g} FLOPs of the model over the real tokens" if "flops" in train else None,
    }
    return [(name, value) for name, value in found.items() if value is not None]


def _code(part: dict) -> str | None:
    """Return in words which code a run, or a part of it, was trained with; a release has no commit."""
    code = part.get("code") or {}
    if not code.get("version"):
        return None
    commit = f", commit `{code['commit']}`" if code.get("commit") else ""
    return f"version {code['version']}{commit}{', with changes that are not committed' if code.get('changed') else ''}"


def _hardware(part: dict) -> str | None:
    """Return in words what a run, or a part of it, was trained on."""
    known = "hardware" in part or "step" in part  # a part of the way knows its processes at least
    return f"{part.get('hardware', 'unknown')}, {part.get('processes', 1)} process(es)" if known else None


def _versions(part: dict) -> str | None:
    """Return the versions of the libraries of a part of a run."""
    return ", ".join(f"{name} {version}" for name, version in part.get("versions", {}).items()) or "unknown"


def _quoted(value: str | None) -> str | None:
    """Return a digest as code."""
    return f"`{value}`" if value else None


def _limits(config) -> list[str]:
    """Say what the model cannot do."""
    return [
        f"At most {config.max_position_embeddings:,} tokens a text.",
        "It knows its training data and little else: text of another kind, language or length is outside what was measured.",
        "It repeats what its data says, mistakes and prejudices included; nothing was filtered.",
        "The figures above come from one run with one seed.",
    ]
