# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What a config, an index or a file of weights may ask for that others have written.

Everything here reads names and numbers before anything is opened, downloaded or allocated because of them.
"""

import json
import os
import re
import reprlib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import torch
from transformers import PreTrainedConfig

# The largest number that a config may hold, an order of magnitude above any model known: beyond it lie typing mistakes,
# and memory or time without end.
LIMITS = {
    "vocab_size": 2**24,
    "d_model": 2**17,
    "d_ff": 2**20,
    "num_heads": 2**13,
    "head_dim": 2**17,
    "v_head_dim": 2**17,
    "num_layers": 2**10,
    "num_decoder_layers": 2**10,
    "max_position_embeddings": 2**24,
    "type_vocab_size": 2**20,
    "attention_window": 2**31,
}
# A number of labels costs a few letters, their names cost a file of that size; `save_pretrained` writes the names.
NUM_LABELS = 2**16
LABELS = 2**20
LABEL_LENGTH = 256
TEXT_LENGTH = 10_000
DEPTH = 20

# Numbers that a model may hold beyond two for each byte of its files (four bits each): what is in no file, like
# sinusoids and a new head, takes up to 256 MiB, and sinusoids some six times that while they are computed.
FREE_NUMBERS = 2**26
INDEX_BYTES = 2**26

BEAMS = ("num_beams", "num_return_sequences")
LENGTHS = ("max_length", "max_new_tokens", "max_cache_len")
GENERATION_LIMITS = dict.fromkeys(BEAMS, 2**10) | dict.fromkeys(LENGTHS, 2**24)
BEAM_IDS = 2**26
FIXED_LENGTH = 2**17
GROWING_CACHES = ("dynamic", "offloaded", "quantized")

# The kernels that torch has itself. transformers downloads others, "owner/name", and runs them; flash attention too,
# where it is not installed. A user may ask for those as an argument, a file may not.
KERNELS = (None, "eager", "sdpa", "flex_attention")
DTYPES = (None, "float32", "bfloat16", "float16", "float64")
# Methods that need an installed library and nothing from elsewhere; other ones download kernels.
QUANTIZATIONS = ("bitsandbytes", "torchao")
# Fields that lead `from_pretrained` to other files, to other code or to other processes.
STEERING = (
    "_attn_implementation_internal",
    "_experts_implementation_internal",
    "distributed_config",
    "fusion_config",
    "kernel_config",
    "per_layer_config",
    "transformers_weights",
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_fields(config_class: type[PreTrainedConfig], settings: Any) -> None:
    """Check what a config.json says, before a config is built of it.

    Raises:
        ValueError: Names the field, its value and the rule.
    """
    if not isinstance(settings, dict):
        raise ValueError(f"config.json holds {reprlib.repr(settings)}, which must be an object")  # noqa: TRY004
    _check_sizes(settings)
    declared = {field.name for field in fields(config_class)}
    for name in settings:
        attribute = getattr(config_class, name, None)
        settable = isinstance(attribute, property) and attribute.fset is not None
        taken = hasattr(config_class, name) and not settable and name not in declared and name != "model_type"
        if name in STEERING or name.startswith("__") or taken:
            raise ValueError(f"{name}={reprlib.repr(settings[name])} must not be in config.json")
    for name in ("attn_implementation", "_attn_implementation"):
        _check_choice(name, settings, KERNELS, "; give another kernel as an argument of from_pretrained")
    for name in ("experts_implementation", "_experts_implementation"):
        _check_choice(name, settings, (None,))
    for name in ("dtype", "torch_dtype"):
        if not isinstance(settings.get(name), torch.dtype):
            _check_choice(name, settings, DTYPES)
    _check_quantization(settings.get("quantization_config"))
    _check_labels(settings)


def _check_choice(name: str, settings: dict[str, Any], choices: Iterable[str | None], hint: str = "") -> None:
    value = settings.get(name)
    if not (value is None or isinstance(value, str)) or value not in choices:
        expected = ", ".join("null" if choice is None else f"'{choice}'" for choice in choices)
        raise ValueError(f"{name}={reprlib.repr(value)} must be one of {expected} in config.json{hint}")


def _check_sizes(settings: Any) -> None:
    """Look into every list and object, without recursion: a file may nest deeper than Python's stack."""
    waiting = [("config.json", settings, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > DEPTH:
            raise ValueError(f"{name} is nested more than {DEPTH} times")
        if isinstance(value, str) and len(value) > TEXT_LENGTH:
            raise ValueError(f"{name}={reprlib.repr(value)} has {len(value)} characters, at most {TEXT_LENGTH} may be")
        if isinstance(value, dict):
            for key in value:
                if len(str(key)) > TEXT_LENGTH:
                    raise ValueError(f"{name} has a field of {len(str(key))} characters, at most {TEXT_LENGTH} may be")
            # The name of a field at the top is enough to find what is wrong below it.
            waiting += [(str(key) if depth == 0 else name, inner, depth + 1) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(name, inner, depth + 1) for inner in value]


def _check_quantization(value: Any) -> None:
    if value is None or hasattr(value, "quant_method"):  # not from a file
        return
    if not isinstance(value, dict):
        raise ValueError(f"quantization_config={reprlib.repr(value)} must be an object")  # noqa: TRY004
    method = value.get("quant_method", "bitsandbytes" if "load_in_4bit" in value or "load_in_8bit" in value else None)
    if method not in QUANTIZATIONS:
        raise ValueError(
            f"quantization_config.quant_method={reprlib.repr(method)} must be one of "
            f"{', '.join(map(repr, QUANTIZATIONS))} in config.json; give another one as an argument of from_pretrained"
        )


def _check_labels(settings: dict[str, Any]) -> None:
    number, names = settings.get("num_labels"), settings.get("id2label")
    if number is not None and not (type(number) is int and 1 <= number <= NUM_LABELS):
        raise ValueError(f"num_labels={reprlib.repr(number)} must be a whole number from 1 to {NUM_LABELS}")
    for field in ("id2label", "label2id"):
        value = settings.get(field)
        if value is not None and not (isinstance(value, dict) and len(value) <= LABELS):
            raise ValueError(f"{field}={reprlib.repr(value)} must be an object of at most {LABELS} labels")
    for number, name in (names or {}).items():
        if not (str(number).isdecimal() and len(str(number)) < 10):
            raise ValueError(f"id2label has {reprlib.repr(number)}, which must be the number of a label")
        if isinstance(name, str) and (len(name) > LABEL_LENGTH or CONTROL.search(name)):
            raise ValueError(
                f"id2label[{number}]={reprlib.repr(name)} must be at most {LABEL_LENGTH} characters and no control "
                "character"
            )


def check_folder(folder: str | os.PathLike | None, subfolder: str = "", variant: str | None = None) -> None:
    """Check the index of a local folder whose weights are in several files, before one of them is opened.

    Raises:
        ValueError: The index is not one, or names a file that is not in the folder.
    """
    if folder is None or not os.path.isdir(folder):
        return  # a repository on the Hub: its client refuses names that lead out of it, and `check_files` does
    name = "model.safetensors.index.json" if variant is None else f"model.safetensors.index.{variant}.json"
    path = os.path.join(folder, subfolder or "", name)
    if os.path.isfile(path):
        _check_index(path, str(folder))


def _check_index(path: str, folder: str) -> None:
    size = os.path.getsize(path)
    if size > INDEX_BYTES:
        raise ValueError(f"{path} has {size} bytes, at most {INDEX_BYTES} may be")
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {type(error).__name__}") from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places or not isinstance(index.get("metadata"), dict):
        raise ValueError(f"{path} must hold the objects 'metadata' and 'weight_map'")
    check_shard_names(places.values(), path)
    for name in sorted(set(places.values())):
        if target := outside(os.path.join(os.path.dirname(path), name), folder):
            raise ValueError(f"{path}: shard {name!r} is a link to {target}, outside of {folder}")


def outside(path: str | os.PathLike, folder: str | os.PathLike) -> str | None:
    """Return where a file of a folder leads, if that is not a file of the folder; None else."""
    root, target = os.path.realpath(folder), os.path.realpath(path)
    # In the cache of the Hub a snapshot consists of links to the blobs beside it.
    blobs = os.path.join(os.path.dirname(os.path.dirname(root)), "blobs")
    cached = os.path.basename(os.path.dirname(root)) == "snapshots"
    leaves = os.path.commonpath([root, target]) != root and not (cached and os.path.dirname(target) == blobs)
    return target if leaves else None


def check_shard_names(names: Iterable[Any], source: str) -> None:
    """Check that an index names files of weights beside itself.

    Raises:
        ValueError: A name is a path, or that of another kind of file.
    """
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[^/\\:\x00]+\.safetensors", name):
            raise ValueError(f"{source}: shard {reprlib.repr(name)} must be the name of a .safetensors file beside it")


def check_files(model: torch.nn.Module, files: list[str] | None, index: dict | None) -> None:
    """Check the files found for `model`, which is on the meta device still, before their weights are read.

    Raises:
        ValueError: A file is pickled or not beside its index; or the config asks for far more numbers than they hold.
    """
    if not files:
        return
    if index is not None:
        check_shard_names(index.get("weight_map", {}).values(), "model.safetensors.index.json")
    pickled = [file for file in files if not str(file).endswith((".safetensors", ".gguf"))]
    if pickled:
        raise ValueError(f"{pickled[0]} must be a .safetensors file: pickled weights are not read")
    asked = sum(tensor.numel() for tensors in (model.parameters(), model.buffers()) for tensor in tensors)
    held = sum(os.path.getsize(file) for file in files)
    if asked > FREE_NUMBERS + 2 * held:
        raise ValueError(
            f"the config describes a model of {asked} numbers, but its files have {held} bytes: at most "
            f"{FREE_NUMBERS} numbers and two for each byte may be"
        )


def check_tokenizer(settings: dict[str, Any]) -> None:
    """Check what a tokenizer_config.json says, before a tokenizer is built of it.

    Raises:
        ValueError: It names a file that is not beside it, whose lines would become tokens, and be saved with the next model.
    """
    for name, value in settings.items():
        if names_a_file(name, value):
            raise ValueError(f"{name}={reprlib.repr(value)} must not name a file in tokenizer_config.json")


def names_a_file(field: str, value: Any) -> bool:
    """Say whether a field makes a library read a file that is not beside its own."""
    names = [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]
    if field in ("vocab", "merges"):  # a table or a list, or the path of a file, which begins at the working folder
        return isinstance(value, str)
    return field.endswith(("_file", "_files")) and any(
        name in ("", "..") or re.search(r"[/\\]", name) for name in names
    )


def check_generation(settings: Any, positions: int) -> None:
    """Check the numbers of a generation config that decide over memory and time.

    Args:
        settings: The generation config; None for a model that does not generate.
        positions: Of the model.

    Raises:
        ValueError: Names the setting, its value and the largest that may be.
    """
    cache = getattr(settings, "cache_implementation", None)
    # A cache of a fixed size is made as long as the output may get, before the first token.
    fixed = cache not in (None, *GROWING_CACHES)
    positions = min(positions, FIXED_LENGTH)
    for name, most in GENERATION_LIMITS.items():
        value = getattr(settings, name, None)
        most, why = (positions, f" with cache_implementation={cache!r}") if fixed and name in LENGTHS else (most, "")
        if value is not None and not (type(value) is int and 1 <= value <= most):
            raise ValueError(
                f"generation_config.{name}={reprlib.repr(value)} must be a whole number from 1 to {most}{why}"
            )
    # So are the rows of a beam search.
    beams, length = (max(getattr(settings, name, None) or 1 for name in names) for names in (BEAMS, LENGTHS))
    if beams > 1 and beams * length > BEAM_IDS:
        raise ValueError(f"generation_config asks for {beams} beams of {length} tokens, at most {BEAM_IDS} ids may be")
