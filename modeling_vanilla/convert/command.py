# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla convert`: a folder in, a folder out."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..base import VanillaPreTrainedModel
from . import gguf, graphs
from .architectures import from_transformers, load, to_transformers
from .ctranslate2 import for_ctranslate2
from .folders import check_target, complete_folder, copy_tokenizer, write_folder
from .js import write_for_js
from .variants import cut


def convert(parser: ArgumentParser, words: Sequence[str]) -> int:
    """Convert one model folder into another, as the words of a command line say, and print what it is now.

    Raises:
        ValueError: A word is wrong, the model has no place on the other side, or the target is not empty.
    """
    parser.description = (
        "Convert BERT, RoBERTa, GPT-2, BART or Marian to Vanilla, or Vanilla to BERT, GPT-2, BART or Marian, with "
        "tokenizer, special ids and generation settings."
    )
    parser.epilog = "example: python -m modeling_vanilla convert openai-community/gpt2 runs/my-gpt2"
    parser.add_argument("source", metavar="SOURCE", help="a model folder, a run folder (its final/), or a Hub id")
    parser.add_argument("target", metavar="TARGET", type=Path, help="a new or an empty folder")
    parser.add_argument(
        "--to",
        choices=TARGETS,
        help="default: the model of transformers, or Vanilla where the source is none; ctranslate2: the Marian model of "
        "which ct2-transformers-converter makes the same translator; onnx: graphs; js: the folder that transformers.js reads; "
        "gguf: the file that llama.cpp reads",
    )
    parser.add_argument(
        "--ctranslate2", dest="to", action="store_const", const="ctranslate2", help="the same as --to ctranslate2"
    )
    parser.add_argument(
        "--part",
        choices=("encoder", "decoder"),
        help="of a translator, one half alone, in the layout of Vanilla: the encoder as in BERT, the decoder as in GPT",
    )
    options = parser.parse_args(words)
    check_target(options.target)
    if options.part and options.to in ("ctranslate2", "transformers"):
        raise ValueError(f"--part and --to {options.to} exclude each other: a half alone is a Vanilla model")
    model = load(options.source)
    converted = _converted(model, options)
    check, write = WRITERS.get(options.to, (lambda model: None, lambda model, folder: model.save_pretrained(folder)))
    check(converted)

    def fill(folder: Path) -> None:
        copy_tokenizer(complete_folder(options.source, lambda config: None), folder)
        write(converted, folder)

    write_folder(options.target, fill)
    paths = [path for ending in ("onnx", "gguf") for path in options.target.rglob(f"*.{ending}")]
    files = sorted(str(path.relative_to(options.target)) for path in paths)
    print(f"{options.target}: {', '.join(files) or type(converted).__name__}, from {type(model).__name__}")
    return 0


def _graphs(model: VanillaPreTrainedModel, folder: Path) -> None:
    """Write graphs beside our own config."""
    graphs.write_graphs(model, folder)
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


# What other programs read: whether a model fits, and how it is written beside its tokenizer.
WRITERS: dict[str, Any] = {
    "onnx": (graphs.check, _graphs),
    "js": (graphs.check, write_for_js),
    "gguf": (gguf.check, gguf.write_gguf),
}
TARGETS = ("transformers", "ctranslate2", *WRITERS)


def _converted(model: PreTrainedModel, options: Namespace) -> PreTrainedModel:
    is_vanilla = isinstance(model, VanillaPreTrainedModel)
    if options.to == "ctranslate2" and not is_vanilla:
        raise ValueError(f"--to ctranslate2 needs a Vanilla model, {options.source} holds a {type(model).__name__}")
    if options.to == "ctranslate2":
        return for_ctranslate2(model)
    if options.to == "transformers" and not is_vanilla:
        raise ValueError(f"--to transformers needs a Vanilla model, {options.source} holds a {type(model).__name__}")
    if options.part:
        return cut(model if is_vanilla else from_transformers(model), options.part)
    if options.to in WRITERS:
        return model if is_vanilla else from_transformers(model)
    return to_transformers(model) if is_vanilla else from_transformers(model)
