"""The card of a Hub folder: front matter that the Hub takes, links that lead somewhere, figures that were measured."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from train import files
from train.errors import UserError
from train.hub import fetch
from train.measure import provenance, results

# What a search on the Hub and the page of a model need.
REQUIRED = ("license", "library_name", "pipeline_tag", "tags")
# Licences by the names that the Hub takes (its "Licenses" page); any other is refused with the whole commit.
LICENSES = set(
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5 "
    "cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 "
    "cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 "
    "cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 "
    "lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl mpl-2.0 odc-by odbl open-mdw openrail++ osl-3.0 "
    "postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr gemma llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 unknown "
    "other".split()
)
LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z]+)?|code|multilingual")
# Text fields that may hold one value or a list of them.
LISTS = ("language", "tags", "datasets", "metrics", "base_model")
SOURCE = re.compile(r"""\b(?:src|href)=["']([^"'\n]+)["']""")
MOST_FRONT, MOST_SAMPLE = 1 << 16, 10_000  # characters of a front matter, and of a text to try
DIGITS = 6  # to which a card may round a figure


class _WithoutAliases(yaml.SafeLoader):
    """YAML without aliases: nine lines of ten aliases each would fill the memory."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Build a node, refusing an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "an alias must be written out", None)
        return super().compose_node(parent, index)


def front_matter(folder: Path) -> dict:
    """Return what stands above a card's text, {} where nothing there can be read."""
    try:
        return _load(folder)[0].to_dict()
    except Exception:  # noqa: BLE001 - its fields may be of any type; the check of the card says of which
        return {}


def _load(folder: Path) -> tuple[ModelCardData, str]:
    """Return the front matter and the text of a card; it is cut line by line, for the Hub's own pattern is quadratic.

    Raises:
        ValueError: a front matter without end, too long, or not of keys and values.
    """
    text = (folder / files.CARD).read_text(encoding="utf-8").lstrip("\ufeff") + "\n"
    if not text.startswith("---\n"):
        return ModelCardData(), text
    end = text.find("\n---\n", 3, MOST_FRONT)
    if end < 0:
        raise ValueError(f"must end with a line '---' within {MOST_FRONT:,} characters")
    try:
        values = yaml.load(text[4 : end + 1], Loader=_WithoutAliases)
    except RecursionError:
        raise ValueError("is nested too deep") from None
    if not isinstance(values or {}, dict):
        raise ValueError(f"must hold keys and values, not a {type(values).__name__}")  # noqa: TRY004
    return ModelCardData(**{str(name): value for name, value in (values or {}).items()}), text[end + 5 :]


def _targets(text: str) -> Iterator[str]:
    """Yield what the links of a text lead to, in one pass: a pattern with two open ends takes its length cubed."""
    for piece in text.split("](")[1:]:
        if target := piece.partition(")")[0].split():
            yield target[0].strip("<>")
    yield from SOURCE.findall(text)


def card_problems(folder: Path) -> Iterator[str]:
    """Yield what the Hub would refuse in the card, what it would not find, and links that lead nowhere."""
    try:
        card, text = _load(folder)
    except FileNotFoundError:
        yield "README.md: missing"
        return
    except (OSError, ValueError, yaml.YAMLError) as error:
        yield f"README.md: front matter: {' '.join(str(error).split())}"
        return
    data = card.to_dict()
    for field in REQUIRED:
        if not data.get(field):
            yield f"README.md: {field}: missing in the front matter"
    yield from (f"README.md: {problem}" for problem in _field_problems(data))
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    for target in _targets(text):
        path = target.split("#")[0]
        if not path or re.match(r"[a-z][a-z0-9+.-]{0,30}:|//", path, re.IGNORECASE):
            continue
        linked = files.inside(folder, path)
        if linked is None or not linked.is_file():
            yield f"README.md: link to {path}, which is not a file of the repository"


def _field_problems(data: dict) -> Iterator[str]:
    """Yield the fields whose values the Hub does not take."""
    licence = data.get("license")
    if licence and licence not in LICENSES:
        yield f"license: {licence!r} must be a name of the Hub's list, or other"
    if licence == "other" and not (data.get("license_name") and data.get("license_link")):
        yield "license: other needs license_name and license_link"
    for field in LISTS:
        values = data.get(field) or []
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or not value:
                yield f"{field}: {value!r} must be a text"
            elif field == "language" and not LANGUAGE.fullmatch(value):
                yield f"language: {value!r} must be a code of ISO 639"
            elif field in ("datasets", "base_model") and not fetch.is_repo_id(value):
                yield f"{field}: {value!r} must be an id of the Hub"


def figure_problems(folder: Path) -> Iterator[str]:
    """Yield what cannot be traced: figures of the card that results.json lacks, receipts that belong to something else."""
    record = files.read_object(folder / files.RESULTS)
    if not isinstance(record.get("metrics"), dict):
        return  # a folder without receipts claims nothing
    figures = [value for evaluation in results.by_split(record).values() for value in evaluation["metrics"].values()]
    if odd := [value for value in figures if not is_figure(value)]:
        yield f"{files.RESULTS}: metrics: {str(odd[0])[:40]!r} must be a finite number"
        return
    known = {round(value, DIGITS) for value in figures}
    for entry in _eval_results(folder):
        if not is_figure(entry.metric_value) or round(entry.metric_value, DIGITS) not in known:
            name = entry.metric_name or entry.metric_type
            yield f"README.md: model-index: {name} is {entry.metric_value}, a figure that {files.RESULTS} does not have"
    unnamed = sorted({path.name for path in folder.glob("*.safetensors")} - set(record.get("weights") or {}))
    if unnamed:
        yield f"{files.RESULTS}: weights: lacks the sha256 of {unnamed[0]}: its figures may be those of other weights"
    for field in ("weights", "tokenizer"):
        for name, expected in (record.get(field) or {}).items():
            path = files.inside(folder, name)
            actual = files.sha256(path) if path and path.is_file() else None
            if actual != expected:
                yield f"{files.RESULTS}: {field}: {name} was measured as {str(expected)[:12]}, here it is {str(actual)[:12]}"
    if (folder / files.RECIPE).is_file() and (expected := record.get("recipe_hash")):
        try:
            actual = provenance.hash_of_file(folder / files.RECIPE)
        except UserError as error:
            yield str(error).replace(f"{folder}/", "")
            return
        if actual != expected:
            yield f"{files.RESULTS}: recipe_hash is {str(expected)[:12]}, that of recipe.yaml is {actual[:12]}"


def is_figure(value: Any) -> bool:
    """Say whether a value is a number that can be compared."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float holds
        return False


def _eval_results(folder: Path) -> list:
    try:
        return getattr(_load(folder)[0], "eval_results", None) or []
    except (OSError, ValueError, yaml.YAMLError):
        return []


def sample_text(folder: Path) -> str | None:
    """Return the first text that the model was measured on, None where the folder does not say."""
    try:
        sample = (files.read_object(folder / files.RESULTS).get("samples") or [{}])[0]
        text = sample.get("source") or sample.get("text")
    except (AttributeError, LookupError, TypeError):
        return None
    return text[:MOST_SAMPLE] if isinstance(text, str) and text else None
