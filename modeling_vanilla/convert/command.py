# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla convert`: a folder in, a folder out."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from ..base import VanillaPreTrainedModel
from .architectures import from_transformers, load, to_transformers
from .ctranslate2 import for_ctranslate2
from .folders import check_target, complete_folder, copy_tokenizer, write_folder
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
        "--ctranslate2",
        action="store_true",
        help="the Marian model of which ct2-transformers-converter makes the same translator",
    )
    parser.add_argument(
        "--part",
        choices=("encoder", "decoder"),
        help="of a translator, one half alone, in the layout of Vanilla: the encoder as in BERT, the decoder as in GPT",
    )
    options = parser.parse_args(words)
    check_target(options.target)
    model = load(options.source)
    converted = _converted(model, options)

    def fill(folder: Path) -> None:
        converted.save_pretrained(folder)
        copy_tokenizer(complete_folder(options.source, lambda config: None), folder)

    write_folder(options.target, fill)
    print(f"{options.target}: {type(converted).__name__}, from {type(model).__name__}")
    return 0


def _converted(model: PreTrainedModel, options: Namespace) -> PreTrainedModel:
    is_vanilla = isinstance(model, VanillaPreTrainedModel)
    if options.part and options.ctranslate2:
        raise ValueError("--part and --ctranslate2 exclude each other: CTranslate2 is given a whole translator")
    if options.part:
        return cut(model if is_vanilla else from_transformers(model), options.part)
    if options.ctranslate2 and not is_vanilla:
        raise ValueError(f"--ctranslate2 needs a Vanilla model, {options.source} holds a {type(model).__name__}")
    if options.ctranslate2:
        return for_ctranslate2(model)
    return to_transformers(model) if is_vanilla else from_transformers(model)
