# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Folders of models: complete before they are read, whole once they are written."""

import json
import os
import shutil
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ..file_checks import check_shard_names, outside

# Which class reads the tokenizer files of a checkpoint so old that it names none.
TOKENIZERS = {
    "bert": "BertTokenizer",
    "roberta": "RobertaTokenizer",
    "gpt2": "GPT2Tokenizer",
    "bart": "BartTokenizer",
    "marian": "MarianTokenizer",
}
TOKENIZER_FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt vocab.json merges.txt "
    "source.spm target.spm sentencepiece.bpe.model chat_template.jinja"
).split()
INDEX = "model.safetensors.index.json"
MOST_HEADER = 10**8  # bytes; the format's own limit


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        ValueError: No file, or something else in it.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not a readable JSON file ({error})") from error
    if type(value) is not dict:
        raise ValueError(f"{path}: holds a {type(value).__name__}, expected a JSON object")
    return value


def complete_folder(path: str | PathLike, check: Callable[[dict[str, Any]], Any]) -> Path:
    """Return the folder of a model with all its weights in place; a Hub id is downloaded.

    Args:
        path: A folder, or an id on the Hub. Of the folder of a run, its final/ is taken.
        check: Called with the content of config.json before any weights are fetched or read.

    Raises:
        ValueError: No such model; config.json, the index or a file of weights is missing, cut off or malformed; or
            what `check` raises.
    """
    folder = Path(path)
    if (folder / "final" / "config.json").is_file() and not (folder / "config.json").exists():
        folder = folder / "final"
    if not folder.exists():
        folder = _download(str(path), ["config.json"])
        check(read_json(folder / "config.json"))
        folder = _download(str(path), ["*.json", "*.safetensors", *TOKENIZER_FILES])
    check(read_json(folder / "config.json"))
    names = ["model.safetensors"]
    if (folder / INDEX).exists():
        places = read_json(folder / INDEX).get("weight_map")
        if not isinstance(places, dict):
            raise ValueError(f"{folder / INDEX}: weight_map must be an object of tensors and their files")
        check_shard_names(places.values(), str(folder / INDEX))
        names = sorted(set(places.values()))
    for name in names:
        _check_weights(folder / name)
    return folder


def _download(name: str, patterns: list[str]) -> Path:
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(f"{name}: neither a folder nor a model that the Hub gives out ({error})") from error


def _check_weights(path: Path) -> None:
    """See that a safetensors file is as long as its header says: 8 bytes of length, the header, the tensors."""
    if not path.is_file():
        others = ", ".join(sorted(p.name for p in path.parent.glob("*.bin")))
        also = f"; {others} is pickle: load it yourself and give from_transformers the model" if others else ""
        raise ValueError(f"{path}: no such file, the folder is incomplete{also}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(length)) if 0 < length <= min(size - 8, MOST_HEADER) else {}
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, TypeError, KeyError, LookupError, AttributeError, RecursionError, OverflowError) as error:
            raise ValueError(f"{path}: no safetensors file, its header cannot be read ({error})") from error
    if not ends or size != 8 + length + max(ends):
        raise ValueError(f"{path}: {size} bytes are not what its header announces, the file is truncated or damaged")


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy the tokenizer as it is, and name its class where the model's type was enough to find it.

    Raises:
        ValueError: One of its files is a link out of the folder: what it leads to must not come to lie beside the model.
    """
    names = [name for name in TOKENIZER_FILES if (source / name).is_file()]
    for name in names:
        if target_of_link := outside(source / name, source):
            raise ValueError(f"{source / name}: a link to {target_of_link}, which is not of this folder")
        shutil.copyfile(source / name, target / name)
    if names:
        path = target / "tokenizer_config.json"
        settings = read_json(path) if path.exists() else {}
        kind = read_json(source / "config.json").get("model_type")
        if "tokenizer_class" not in settings and kind in TOKENIZERS:
            path.write_text(json.dumps(settings | {"tokenizer_class": TOKENIZERS[kind]}, indent=2), encoding="utf-8")


def check_target(target: Path) -> None:
    """See that nothing would be overwritten.

    Raises:
        ValueError: `target` is a file or a folder that is not empty.
    """
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise ValueError(f"{target}: exists and is not an empty folder; nothing is overwritten")


def make_parents(target: Path) -> None:
    """Make the folders that a file or folder is to lie in.

    Raises:
        ValueError: One of them is a file, or cannot be made.
    """
    for folder in target.parents:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{target}: {folder} is a file, not a folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{target}: its folder cannot be made ({error.strerror})") from error


def write_folder(target: Path, fill: Callable[[Path], Any]) -> None:
    """Let `fill` write a folder beside `target`, and give it that name once it is whole.

    Raises:
        ValueError: See `check_target` and `make_parents`.
    """
    check_target(target)
    make_parents(target)
    staging = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        staging.mkdir()
    except OSError as error:
        raise ValueError(f"{target}: cannot be written ({error.strerror})") from error
    try:
        fill(staging)
        check_target(target)  # once more: conversion takes its time
        if target.exists():
            target.rmdir()  # empty; not every system renames onto it
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
