# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Check the front matter of a README.md, as the Hub does before it takes a commit with one."""

import re

import yaml
from hub_protocol import Reply, Request, route

# What the Hub knows, as far as models of text need it.
LICENSES = (
    "apache-2.0 mit openrail bigscience-openrail-m bsd bsd-2-clause bsd-3-clause cc cc0-1.0 cc-by-2.0 cc-by-3.0 cc-by-4.0 "
    "cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-nc-nd-4.0 cc-by-nd-4.0 gfdl odc-by gpl gpl-2.0 gpl-3.0 lgpl lgpl-3.0 "
    "agpl-3.0 mpl-2.0 epl-2.0 isc unlicense wtfpl afl-3.0 artistic-2.0 bsl-1.0 ms-pl ofl-1.1 odbl pddl postgresql "
    "ncsa unknown other"
).split()
PIPELINES = (
    "text-classification token-classification table-question-answering question-answering zero-shot-classification "
    "translation summarization feature-extraction text-generation text2text-generation fill-mask sentence-similarity "
    "text-ranking other"
).split()
REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)?")
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)*|multilingual|code")


@route("POST", "/api/validate-yaml")
def validate(hub, request: Request) -> Reply:
    """Say what is wrong with a card."""
    content = request.json(("content", "repoType"))
    errors, warnings = check_card(content["content"]) if content["repoType"] == "model" else ([], [])
    messages = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return Reply(messages, 400 if errors else 200)


def check_card(text: str) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings of a README.md."""
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    if found is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(found[1])
    except yaml.YAMLError as error:
        return [f"yaml metadata: {' '.join(str(error).split())}"], []
    if data is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(data, dict):
        return ["yaml metadata is not a mapping"], []
    return [*check_fields(data), *check_index(data.get("model-index", []))], []


def as_list(value) -> list:
    """Return a value that may stand alone or in a list."""
    return value if isinstance(value, list) else [value]


def check_fields(data: dict) -> list[str]:
    """Return the errors of the plain fields."""
    errors = []

    def each(name: str, fits, rule: str) -> None:
        values = as_list(data[name]) if name in data else []
        errors.extend(f'"{name}": {value!r} {rule}' for value in values if not fits(value))

    each("license", LICENSES.__contains__, f"must be one of {', '.join(LICENSES)}")
    each("pipeline_tag", PIPELINES.__contains__, f"must be one of {', '.join(PIPELINES)}")
    each("tags", lambda v: isinstance(v, str), "must be a string")
    each("language", lambda v: isinstance(v, str) and LANGUAGE.fullmatch(v), "must be an ISO 639 code")
    each("library_name", lambda v: isinstance(v, str), "must be a string")
    for name in ("datasets", "base_model"):
        each(name, lambda v: isinstance(v, str) and REPOSITORY.fullmatch(v), "must be the id of a repository")
    if data.get("license") == "other" and "license_name" not in data:
        errors.append('"license_name" is needed beside "license: other"')
    return errors


def check_index(models) -> list[str]:
    """Return the errors of the measured figures: models with results, each with a task, a data set and metrics."""
    errors = []
    if not isinstance(models, list):
        return ['"model-index" must be a list']
    for place, model in enumerate(models):
        start = f'"model-index[{place}]'
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            errors.append(f'{start}.name" is required')
            continue
        if not isinstance(model.get("results"), list):
            errors.append(f'{start}.results" must be a list')
            continue
        for number, result in enumerate(model["results"]):
            errors += [f'{start}.results[{number}].{name}" is required' for name in lacking(result)]
    return errors


def lacking(result) -> list[str]:
    """Return the fields that a result lacks."""
    if not isinstance(result, dict):
        return ["task"]
    names = [("task", "type"), ("dataset", "type"), ("dataset", "name")]
    found = [f"{a}.{b}" for a, b in names if not isinstance((result.get(a) or {}).get(b), str)]
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        return [*found, "metrics"]
    for number, metric in enumerate(metrics):
        found += [f"metrics[{number}].{name}" for name in ("type", "value") if (metric or {}).get(name) is None]
    return found
