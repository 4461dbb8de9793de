"""What the help says of the keys of `model`: the words of `VanillaConfig`, and what holds where a recipe leaves a key out."""

import inspect
from dataclasses import fields

from docstring_parser import parse
from jsonargparse import ArgumentParser

from modeling_vanilla import VanillaConfig
from train.settings.rules import as_written
from train.settings.sections import ModelSection

# What the model of a run gets from elsewhere than its preset.
_FROM_ELSEWHERE = {"vocab_size": "the tokenizer's"}


def of_model() -> dict[str, str]:
    """Return a sentence for each key of `model` that is a field of `VanillaConfig`."""
    descriptions = {one.arg_name: one.description for one in parse(inspect.getdoc(VanillaConfig)).params}
    config, meanings = VanillaConfig(), {}
    for name in (field.name for field in fields(ModelSection) if field.name in descriptions):
        # The config puts numbers in the place of None; its class says what was left open.
        value = getattr(VanillaConfig, name, getattr(config, name))
        default = _FROM_ELSEWHERE.get(name) or f"as in init_from or the preset; without them {as_written(value)}"
        meaning = " ".join(descriptions[name].split()).replace("None means", "null means")
        meanings[name] = f"{meaning} Left out: {default}."
    return meanings


def explain(parser: ArgumentParser) -> None:
    known = {f"model.{name}": text for name, text in of_model().items()}
    for action in parser._actions:
        if text := known.get(action.dest):
            action.help = text.replace("%", "%%")
