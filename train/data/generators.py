"""Data sets that are made, not read: named by `data.generator` in a recipe, with `data.generator_args`."""

import inspect
from collections.abc import Callable

from train.data.dates import dates
from train.data.made import Rows, require
from train.data.sentences import sentences
from train.errors import UserError

GENERATORS: dict[str, Callable[..., dict[str, Rows]]] = {"dates": dates, "sentences": sentences}


def generate(name: str, arguments: dict[str, bool | int | float | str]) -> dict[str, Rows]:
    """Call a generator by name.

    Raises:
        UserError: the name or an argument is unknown, or an argument has the wrong type.
    """
    if name not in GENERATORS:
        raise UserError(f"data.generator: {name!r} must be one of {', '.join(GENERATORS)}")
    known = inspect.signature(GENERATORS[name]).parameters
    for key, value in arguments.items():
        require(key in known, key, value, f"is no argument of {name}; its arguments are {', '.join(known)}")
        kind = known[key].annotation
        fits = isinstance(value, kind) or (kind is float and isinstance(value, int))
        require(fits and not isinstance(value, bool), key, value, f"must be {kind.__name__}")
    return GENERATORS[name](**arguments)
