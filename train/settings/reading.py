"""Recipes: the sections of `sections.py`, read from YAML and the command line, every value checked once.

Precedence: the default written here < the recipe file < the command line. An unknown key, a wrong type or a value out of
range is a `UserError` that names the file (or the command line), the field, the value and the rule.
"""

import itertools
import os
import re
from argparse import ArgumentError
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, set_loader

from train.errors import UserError
from train.settings import earlier
from train.settings.recipe import Recipe
from train.settings.rules import as_written, bleu_tokenizer, explain, problems, unknown_key, warmup_problems


def parser() -> ArgumentParser:
    """Return the parser of a recipe's keys, without the recipe's own path."""
    result = ArgumentParser(exit_on_error=False, parser_mode="recipe", allow_abbrev=False)
    result.add_class_arguments(Recipe, as_group=False)
    return result


def load_recipe(argv: Sequence[str] | str | Path) -> Recipe:
    """Read a recipe.

    Args:
        argv: a path, or the words of a command line: the path, then overrides like `--optim.lr 1e-3` or `--batch.max_rows=8`.

    Raises:
        UserError: the file is missing, is not YAML, or holds (or is overridden by) a key or a value that breaks a rule.
    """
    words = [str(argv)] if isinstance(argv, str | Path) else [str(word) for word in argv]
    if not words or words[0].startswith("-"):
        raise UserError(f"the recipe's file must come first, got {words[:1] or 'nothing'}")
    path, overrides = words[0], words[1:]
    if not Path(path).is_file():
        raise UserError(f"{path}: no such recipe; it must be an existing YAML file")
    reader = parser()
    given = _read_yaml(path)
    _refuse_unknown(path, given)
    _refuse_nested(path, _texts(given))
    _refuse_nested(f"{path}: command line", overrides)
    try:
        config = reader.parse_object(given, defaults=True)
    except (ArgumentError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {explain(error, _keys())}") from None
    if overrides:
        try:
            config = reader.parse_args(overrides, namespace=config)
        except (ArgumentError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{path}: command line: {explain(error, _keys())}") from None
    _refuse_misread(path, config.as_flat(), given, overrides)
    _at_home(config)
    is_judged = config.optim.warmup_steps is not None and not _is_of_a_run(given, overrides)
    _fill_in(config, given)
    sections = reader.instantiate(config)
    recipe = Recipe(**{item.name: getattr(sections, item.name) for item in fields(Recipe)})
    problem = next(itertools.chain(problems(recipe), warmup_problems(recipe) if is_judged else ()), None)
    if problem is not None:
        name, value, rule = problem
        place = "command line: " if any(word.split("=")[0] == f"--{name}" for word in overrides) else ""
        raise UserError(f"{path}: {place}{name}: {as_written(value)} {rule}")
    recipe.eval.bleu_tokenizer = bleu_tokenizer(recipe)
    return recipe


_PLACES = (
    *("run_dir", "model.init_from", "tokenizer.path"),
    *("data.root", "data.train", "data.validation", "data.test", "data.hub"),
)


def _at_home(config: Namespace) -> None:
    """Put the user's folder in the place of `~`, which a shell leaves alone in a file, and behind `=`."""
    for name in _PLACES:
        value = config[name]
        if isinstance(value, list):
            config[name] = [os.path.expanduser(one) for one in value]
        elif value is not None:
            config[name] = os.path.expanduser(value)


def _fill_in(config: Namespace, given: dict[str, Any]) -> None:
    """Take what nothing says from the recipe, if a run wrote it down, or else from the run that is gone on with."""
    folder = Path(config.run_dir) if config.run_dir else Path("runs") / config.name
    for name, value in (earlier.begun(folder) | earlier.meant(given)).items():
        if config[name] is None:
            config[name] = value


# YAML 1.1 reads 12:30 as 750, and jsonargparse asks it about every text that should be a number.
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-9]+)+(\.[0-9_]*)?")


def _refuse_misread(path: str, values: Namespace, given: dict[str, Any], overrides: Sequence[str]) -> None:
    """Refuse what jsonargparse takes: null where a value must be, and 12:30 where a number must be."""
    defaults = vars(parser().get_defaults().as_flat())
    texts = {
        f"{name}.{key}": one for name, part in given.items() if isinstance(part, dict) for key, one in part.items()
    }
    pairs = itertools.zip_longest(overrides, overrides[1:], fillvalue="")
    texts |= {word.lstrip("-").split("=")[0]: word.partition("=")[2] or after for word, after in pairs}
    for name, value in vars(values).items():
        if value is None and defaults.get(name) is not None:
            raise UserError(f"{path}: {name}: null must be a value, such as {as_written(defaults[name])}")
        text = texts.get(name)
        if isinstance(text, str) and not isinstance(value, str) and _SIXTIES.fullmatch(text):
            raise UserError(f"{path}: {name}: {text!r} must be a number, or text in quotes")


def _is_of_a_run(given: dict[str, Any], overrides: Sequence[str]) -> bool:
    """Tell whether the warm-up is that of a recipe that a run wrote down: 0.1.0 trained with any."""
    changed = ("--optim.warmup_steps", "--loop.max_steps")
    return earlier.is_resolved(given, "optim") and not any(word.split("=")[0] in changed for word in overrides)


# What begins something nested in YAML, and how often a text of a recipe may hold it.
_NESTING, _MOST_NESTED = ("[", "{", "- ", "? ", ":\n"), 500


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which every key is a text that stands once, where its value is.

    A key that is written twice would lose its first value. `<<` is a key like any other, which no recipe has: a merge would
    bring in keys that were not looked at. Nine lines of ten aliases each would fill the memory.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Build a node, refusing an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.constructor.ConstructorError(
                None, None, f"alias *{event.anchor} must be written out", event.start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Build a mapping, refusing a repeated key."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key.value!r} is written twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


# What a plain word stands for, as YAML 1.2 has it. For YAML 1.1 the language `no` is false, 12:30 is 750, 0123 is 83, 2024-01-01
# is a date, and 1e-9 is text.
_PLAIN = {
    "null": (r"~|null|Null|NULL|", "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"[-+]?(?:0|[1-9][0-9_]*)|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*\.[0-9]*|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_UniqueKeys.yaml_implicit_resolvers = {}
for _tag, (_words, _first) in _PLAIN.items():
    _UniqueKeys.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_words})$"), [*_first, ""])


def _read_value(text: str) -> Any:
    """Read a value of the command line as one of a file; `a:` is a text, and no mapping."""
    value = yaml.load(text, Loader=_UniqueKeys)
    is_mapping = isinstance(value, dict) and any(one is not None for one in value.values())
    return value if is_mapping or value == {} or not isinstance(value, dict) else text


set_loader("recipe", _read_value, (yaml.YAMLError, ValueError))


def _read_yaml(path: str) -> dict[str, Any]:
    """Read a file of keys and values, naming the line of what is not YAML."""
    try:
        given = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: {error.problem}; a recipe must be valid YAML") from None
    except (
        yaml.YAMLError,
        ValueError,
        OSError,
        RecursionError,
    ) as error:  # ValueError: also a date, a number of 5000 digits
        raise UserError(f"{path}: {error}; a recipe must be valid YAML in UTF-8") from None
    if given is None:
        raise UserError(f"{path}: empty; a recipe must hold keys and values")
    if not isinstance(given, dict):
        raise UserError(f"{path}: {type(given).__name__} found, a recipe must hold keys and values")
    for item in fields(Recipe):
        if isinstance(item.default_factory, type) and item.name in given:
            given[item.name] = {} if given[item.name] is None else given[item.name]
            if not isinstance(given[item.name], dict):
                raise UserError(f"{path}: {item.name}: {given[item.name]!r} must be a section of keys and values")
    return given


def _refuse_unknown(path: str, given: dict[str, Any]) -> None:
    """Refuse every key that no recipe has, in every section, before jsonargparse sees it.

    It takes more keys than its arguments: it imports the module that a `class_path` names, also in `model.class_path`.
    """
    keys = _keys()
    inner = {f"{name}.{key}": key for name, part in given.items() if isinstance(part, dict) for key in part}
    for name, key in ({name: name for name in given} | inner).items():
        if not isinstance(key, str) or "." in key or name not in keys:
            raise UserError(f"{path}: {unknown_key(str(name), keys)}")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in nested values."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict | list):
            left += part.values() if isinstance(part, dict) else part


def _refuse_nested(place: str, texts: Iterable[str]) -> None:
    """Refuse what would end the interpreter: jsonargparse reads a text as YAML once more, with a parser that overflows."""
    for text in texts:
        if sum(map(text.count, _NESTING)) > _MOST_NESTED:
            rule = f"more than {_MOST_NESTED} brackets or dashes; it must not be nested"
            raise UserError(f"{place}: {text[:40]!r}...: {rule}")


def _keys() -> list[str]:
    """List every key of a recipe, sections included."""
    keys = []
    for item in fields(Recipe):
        section = item.default_factory
        inner = fields(section) if isinstance(section, type) else ()
        keys += [item.name, *(f"{item.name}.{one.name}" for one in inner)]
    return keys
