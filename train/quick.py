"""`--limit N`: a quick try of a recipe on its first rows, in a run folder of its own."""

from collections.abc import Sequence

from train.errors import UserError
from train.recipe import Recipe, load_recipe

LIMITED = ("data.limit_train", "data.limit_eval", "eval.limit")
"""The keys that `--limit` sets; each can be set to another value behind it."""


def load(argv: Sequence[str]) -> Recipe:
    """Read a recipe as `load_recipe` does, and `--limit N` or `--limit=N` among the overrides.

    The try goes to `<run folder>-limit-N`: in the folder of the recipe itself, the whole run would be refused later.
    `--run_dir` names another one.

    Raises:
        UserError: as `load_recipe`; the number is missing, or is none, or is below 1.
    """
    words, limit = _taken(list(argv))
    if limit is None:
        return load_recipe(words)
    path, overrides = words[:1], words[1:]
    words = [*path, *(f"--{key}={limit}" for key in LIMITED), *overrides]
    recipe = load_recipe(words)
    if any(word.split("=")[0] == "--run_dir" for word in overrides):
        return recipe
    # Once more: what a recipe leaves open is read from the run that its folder holds.
    return load_recipe([*words, f"--run_dir={recipe.folder.with_name(f'{recipe.folder.name}-limit-{limit}')}"])


def _taken(words: list[str]) -> tuple[list[str], int | None]:
    """Return the words without `--limit`, and its number."""
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--limit":
            end = place + 1 if equals else place + 2
            value = value if equals else " ".join(words[place + 1 : end])
            if not value.isdecimal() or int(value) < 1:
                raise UserError(f"--limit: {value or None!r}: must be a number of rows, at least 1")
            return words[:place] + words[end:], int(value)
    return words, None
