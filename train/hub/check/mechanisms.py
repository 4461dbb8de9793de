"""Everything beside a file of Python by which transformers, and what is built on it, loads code or leaves the folder.

Read from every JSON file of a folder, at any depth, and not only from config.json: each Auto class reads a file of its own.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modeling_vanilla.file_checks import QUANTIZATIONS, names_a_file
from train import files
from train.hub.check import listing

# Tables whose keys are words of a text, or figures: a word may be called anything, and no library reads settings there.
TABLES = ("tokenizer.json", "vocab.json", "added_tokens.json", files.RESULTS, files.MANIFEST)
# What config.json may name, and `code.py` looks up in the folder.
OF_THE_CONFIG = ("auto_map", "custom_pipelines")
RUNS = {
    "auto_map": "names classes that are imported",
    "custom_pipelines": "names pipelines that are imported",
    "custom_generate": "names a function that replaces generate",
    "chat_template": "is a program that is run on messages, and may run for hours",
    "kernel_config": "names kernels that are downloaded and run",
    "fusion_config": "patches modules",
    "transformers_weights": "leads to other weights",
    "base_model_name_or_path": "leads to another model",
}
# Files that lead to another model by being there.
LEADS = ("adapter_config.json",)


def mechanism_problems(folder: Path) -> Iterator[str]:
    """Yield every field, outside the two of config.json, that makes a library run code or read another file."""
    for path in listing.paths(folder):
        if path.suffix.lower() != ".json" or path.name in TABLES:
            continue
        name = listing.name_of(path, folder)
        try:
            document = files.parse_json(path.read_bytes())
        except files.JsonError:
            continue  # the check of the files reports it
        for field, value, depth in _fields(document):
            if name == files.CONFIG and depth == 1 and field in OF_THE_CONFIG:
                continue
            if reason := _reason(field, value):
                yield f"{name}: {field} {reason}"
        if path.name in LEADS:
            yield f"{name}: an adapter, which is loaded into another model"
        if path.name == "modules.json":
            yield from (f"{name}: type {kind!r} is imported" for kind in _foreign_modules(document))


def _fields(document: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield every field of a document with its depth, without recursion."""
    waiting = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, dict):
            yield from ((field, inner, depth) for field, inner in value.items())
            waiting += [(inner, depth + 1) for inner in value.values()]
        elif isinstance(value, list):
            waiting += [(inner, depth + 1) for inner in value]


def _reason(field: str, value: Any) -> str | None:
    """Say what a field makes a library do; None for one that is merely a value."""
    if not value or isinstance(value, bool | int | float):  # a label, or a token, may have the name of a field
        return None
    if field in RUNS:
        return RUNS[field]
    if field.removesuffix("_internal").endswith("_implementation"):
        chosen = list(value.values()) if isinstance(value, dict) else [value]
        if any(not isinstance(one, str) or "/" in one or "|" in one for one in chosen):
            return "names a kernel that is downloaded and run"
    if field == "quantization_config":
        method = value.get("quant_method") if isinstance(value, dict) else value
        if method is not None and method not in QUANTIZATIONS:
            return f"asks for {method!r}, whose kernels may be downloaded"
    if names_a_file(field, value):
        return "names a file that is not beside it"
    return None


def _foreign_modules(document: Any) -> Iterator[str]:
    """Yield the classes that sentence-transformers would import from elsewhere than its own package."""
    for entry in document if isinstance(document, list) else ():
        kind = entry.get("type") if isinstance(entry, dict) else None
        if isinstance(kind, str) and not kind.startswith("sentence_transformers."):
            yield kind
