"""The card of a Hub folder: front matter that the Hub takes, links that lead somewhere, figures that were measured."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import yaml
from huggingface_hub import ModelCard

from train import files, hub_fetch, receipts, results
from train.errors import UserError

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
LINK = re.compile(r"""\]\(\s*<?([^)\s>]+)>?[^)]*\)|\b(?:src|href)=["']([^"']+)["']""")
DIGITS = 6  # to which a card may round a figure


def front_matter(folder: Path) -> dict:
    """Return what stands above a card's text, {} where nothing there can be read."""
    try:
        return _load(folder).data.to_dict()
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _load(folder: Path) -> ModelCard:
    """Parse a card; a missing front matter is told by the check, not by a warning."""
    logger = logging.getLogger("huggingface_hub.repocard")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return ModelCard((folder / "README.md").read_text(encoding="utf-8"))
    finally:
        logger.setLevel(level)


def card_problems(folder: Path) -> Iterator[str]:
    """Yield what the Hub would refuse in the card, what it would not find, and links that lead nowhere."""
    try:
        card = _load(folder)
    except FileNotFoundError:
        yield "README.md: missing"
        return
    except (OSError, ValueError, yaml.YAMLError) as error:
        yield f"README.md: front matter: {' '.join(str(error).split())}"
        return
    data = card.data.to_dict()
    for field in REQUIRED:
        if not data.get(field):
            yield f"README.md: {field}: missing in the front matter"
    yield from (f"README.md: {problem}" for problem in _field_problems(data))
    text = re.sub(r"```.*?```|`[^`\n]*`", "", card.text, flags=re.DOTALL)
    for target in (match[1] or match[2] for match in LINK.finditer(text)):
        path = target.split("#")[0]
        if not path or re.match(r"[a-z][a-z0-9+.-]*:|//", path, re.IGNORECASE):
            continue
        if not (folder / path).is_file() or not (folder / path).resolve().is_relative_to(folder.resolve()):
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
            elif field in ("datasets", "base_model") and not hub_fetch.is_repo_id(value):
                yield f"{field}: {value!r} must be an id of the Hub"


def figure_problems(folder: Path) -> Iterator[str]:
    """Yield what cannot be traced: figures of the card that results.json lacks, receipts that belong to something else."""
    content = files.read_object(folder / results.FILE)
    if not isinstance(content.get("metrics"), dict):
        return  # a folder without receipts claims nothing
    known = {round(value, DIGITS) for part in results.parts(content).values() for value in part["metrics"].values()}
    for entry in _eval_results(folder):
        if not isinstance(entry.metric_value, int | float) or round(entry.metric_value, DIGITS) not in known:
            name = entry.metric_name or entry.metric_type
            yield f"README.md: model-index: {name} is {entry.metric_value}, a figure that {results.FILE} does not have"
    for field in ("weights", "tokenizer"):
        for name, wanted in (content.get(field) or {}).items():
            found = files.sha256(folder / name) if (folder / name).is_file() else None
            if found != wanted:
                yield f"{results.FILE}: {field}: {name} was measured as {wanted[:12]}, here it is {str(found)[:12]}"
    if (folder / "recipe.yaml").is_file() and (wanted := content.get("recipe_hash")):
        try:
            found = receipts.hash_of_file(folder / "recipe.yaml")
        except UserError as error:
            yield str(error).replace(f"{folder}/", "")
            return
        if found != wanted:
            yield f"{results.FILE}: recipe_hash is {wanted[:12]}, that of recipe.yaml is {found[:12]}"


def _eval_results(folder: Path) -> list:
    try:
        return getattr(_load(folder).data, "eval_results", None) or []
    except (OSError, ValueError, yaml.YAMLError):
        return []


def sample_text(folder: Path) -> str | None:
    """Return the first text that the model was measured on, None where the folder does not say."""
    try:
        sample = (files.read_object(folder / results.FILE).get("samples") or [{}])[0]
        text = sample.get("source") or sample.get("text")
    except (AttributeError, LookupError, TypeError):
        return None
    return text if isinstance(text, str) and text else None
