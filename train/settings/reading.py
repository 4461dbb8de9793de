"""Recipes: the sections of `sections.py`, read from YAML and the command line, every value checked once.

Precedence: the default written here < the recipe file < the command line. An unknown key, a wrong type or a value out of
range is a `UserError` that names the file (or the command line), the field, the value and the rule.
"""

import contextlib
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
from train.settings.recipe import Recipe, flat
from train.settings.rules import as_written, bleu_tokenizer, explain, problems, unknown_key, warmup_problems
from train.settings.sections import WEIGHTLESS


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
    path = words[0]
    if not Path(path).is_file():
        raise UserError(f"{path}: no such recipe; it must be an existing YAML file")
    reader = parser()
    written = _read_yaml(path)
    _refuse_unknown(path, written)
    overrides = _overrides(f"{path}: command line", words[1:])
    _refuse_nested(path, _texts(written))
    _refuse_nested(f"{path}: command line", (text for _, text in overrides))
    with _explained(path):
        config = reader.parse_object(written, defaults=True)
    if overrides:
        with _explained(f"{path}: command line"):
            config = reader.parse_args([f"--{key}={text}" for key, text in overrides], namespace=config)
        _leave_to_start(config, dict(overrides))
    _refuse_misread(path, config.as_flat(), written, dict(overrides))
    _at_home(config)
    is_judged = config.optim.warmup_steps is not None and not _is_of_a_run(written, dict(overrides))
    _fill_in(config, written)
    sections = reader.instantiate(config)
    recipe = Recipe(**{item.name: getattr(sections, item.name) for item in fields(Recipe)})
    problem = next(itertools.chain(problems(recipe), warmup_problems(recipe) if is_judged else ()), None)
    if problem is not None:
        name, value, rule = problem
        origin = "command line: " if name in dict(overrides) else ""
        raise UserError(f"{path}: {origin}{name}: {as_written(value)} {rule}")
    recipe.eval.bleu_tokenizer = bleu_tokenizer(recipe)
    return recipe


@contextlib.contextmanager
def _explained(origin: str) -> Iterator[None]:
    """Turn what jsonargparse refuses into a line that names where it stands."""
    try:
        yield
    except (ArgumentError, TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{origin}: {explain(error, _keys())}") from None


# A word that is no value of the key before it: another key. A negative number is a value.
_KEY = re.compile(r"-[^\d.\s]\S*")


def _overrides(origin: str, words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the keys of a command line, each of which a recipe has, and the text of their values.

    Args:
        origin: what an error names first.
        words: `--KEY VALUE` or `--KEY=VALUE`; `--KEY+ VALUE` adds to a list.
    """
    keys, pairs, rest = _keys(), [], list(words)
    while rest:
        name, equals, text = rest.pop(0).partition("=")
        key = name.removeprefix("--")
        if not name.startswith("--") or not key:
            rule = "neither a key nor its value; overrides are written --KEY VALUE, such as --optim.lr 1e-3"
            raise UserError(f"{origin}: {name}{equals}{text}: {rule}")
        if key not in keys and key not in _lists() and not key.startswith("data.generator_args."):
            raise UserError(f"{origin}: {unknown_key(key, keys)}")
        if not equals:
            if not rest or _KEY.fullmatch(rest[0]):
                raise UserError(f"{origin}: {key}: no value given; write --{key} VALUE")
            text = rest.pop(0)
        pairs.append((key, text))
    return pairs


def _leave_to_start(config: Namespace, overrides: dict[str, str]) -> None:
    """Forget the file's architecture where the command line names a start, which brings its own (decision 059)."""
    if "model.init_from" not in overrides or config.model.init_from is None:
        return
    for name in vars(config.model):
        if name not in ("init_from", *WEIGHTLESS) and f"model.{name}" not in overrides:
            config.model[name] = None


_PATHS = (
    *("run_dir", "model.init_from", "tokenizer.path"),
    *("data.root", "data.train", "data.validation", "data.test", "data.hub"),
)


def _at_home(config: Namespace) -> None:
    """Put the user's folder in the place of `~`, which a shell leaves alone in a file, and behind `=`."""
    for name in _PATHS:
        value = config[name]
        if isinstance(value, list):
            config[name] = [os.path.expanduser(one) for one in value]
        elif value is not None:
            config[name] = os.path.expanduser(value)


def _fill_in(config: Namespace, written: dict[str, Any]) -> None:
    """Take what nothing says from the recipe, if a run wrote it down, or else from the run that is gone on with."""
    folder = Path(config.run_dir) if config.run_dir else Path("runs") / config.name
    for name, value in (earlier.begun(folder) | earlier.meant(written)).items():
        if config[name] is None:
            config[name] = value


# YAML 1.1 reads 12:30 as 750, and jsonargparse asks it about every text that should be a number.
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(:[0-9]+)+(\.[0-9_]*)?")


def _refuse_misread(path: str, values: Namespace, written: dict[str, Any], overrides: dict[str, str]) -> None:
    """Refuse what jsonargparse takes: null where a value must be, and 12:30 where a number must be."""
    defaults = vars(parser().get_defaults().as_flat())
    texts = flat(written) | overrides
    for name, value in vars(values).items():
        if value is None and defaults.get(name) is not None:
            raise UserError(f"{path}: {name}: null must be a value, such as {as_written(defaults[name])}")
        text = texts.get(name)
        if isinstance(text, str) and not isinstance(value, str) and _SIXTIES.fullmatch(text):
            raise UserError(f"{path}: {name}: {text!r} must be a number, or text in quotes")


def _is_of_a_run(written: dict[str, Any], overrides: dict[str, str]) -> bool:
    """Tell whether the warm-up is that of a recipe that a run wrote down: 0.1.0 trained with any."""
    return earlier.is_resolved(written, "optim") and not overrides.keys() & {"optim.warmup_steps", "loop.max_steps"}


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
        written = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}:{line}: {error.problem}; a recipe must be valid YAML") from None
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:  # ValueError: also a number of 5000 digits
        raise UserError(f"{path}: {error}; a recipe must be valid YAML in UTF-8") from None
    if written is None:
        raise UserError(f"{path}: empty; a recipe must hold keys and values")
    if not isinstance(written, dict):
        raise UserError(f"{path}: {type(written).__name__} found, a recipe must hold keys and values")
    for section in {key.partition(".")[0] for key in _keys() if "." in key} & written.keys():
        written[section] = {} if written[section] is None else written[section]
        if not isinstance(written[section], dict):
            raise UserError(f"{path}: {section}: {written[section]!r} must be a section of keys and values")
    return written


def _refuse_unknown(path: str, written: dict[str, Any]) -> None:
    """Refuse every key that no recipe has, in every section, before jsonargparse sees it; and a recipe without its two.

    It takes more keys than its arguments: it imports the module that a `class_path` names, also in `model.class_path`.
    """
    keys = _keys()
    inner = {f"{name}.{key}": key for name, section in written.items() if isinstance(section, dict) for key in section}
    for name, key in ({name: name for name in written} | inner).items():
        if not isinstance(key, str) or "." in key or name not in keys:
            raise UserError(f"{path}: {unknown_key(str(name), keys)}")
    if missing := [key for key in ("name", "task") if written.get(key) is None]:
        raise UserError(f"{path}: {', '.join(missing)}: missing; a recipe must have it")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in nested values."""
    left = [value]
    while left:
        inner = left.pop()
        if isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict | list):
            left += inner.values() if isinstance(inner, dict) else inner


def _refuse_nested(origin: str, texts: Iterable[str]) -> None:
    """Refuse what would end the interpreter: jsonargparse reads a text as YAML once more, with a parser that overflows."""
    for text in texts:
        if sum(map(text.count, _NESTING)) > _MOST_NESTED:
            rule = f"more than {_MOST_NESTED} brackets or dashes; it must not be nested"
            raise UserError(f"{origin}: {text[:40]!r}...: {rule}")


def _types() -> dict[str, Any]:
    """Return every key of a recipe, sections included, with its type."""
    types = {}
    for item in fields(Recipe):
        inner = fields(item.default_factory) if isinstance(item.default_factory, type) else ()
        types |= {item.name: item.type} | {f"{item.name}.{one.name}": one.type for one in inner}
    return types


def _keys() -> list[str]:
    """List every key of a recipe, sections included."""
    return list(_types())


def _lists() -> list[str]:
    """List the keys that add to a list, as they stand on a command line: with a plus behind them."""
    return [f"{key}+" for key, kind in _types().items() if "list[" in str(kind)]
