"""`--limit N`: a quick try of a recipe on its first rows, for a few steps, in a run folder of its own (decision 040)."""

from collections.abc import Sequence

from train.errors import UserError
from train.settings.reading import load_recipe
from train.settings.recipe import Recipe, warmup_for

MOST_STEPS = 200
MOST_ROWS = 16
"""Rows of a step. Full steps of the largest recipes for CPUs take 0.8 s each, and 200 of them longer than a try may."""


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
    overridden = {word.split("=")[0].removeprefix("--") for word in overrides if word.startswith("--")}
    # A number of steps beside the limit is often below the recipe's warm-up, which is then that of a run so short.
    is_cut = "loop.max_steps" in overridden and "optim.warmup_steps" not in overridden
    whole = load_recipe([*words, "--optim.warmup_steps=null"] if is_cut else words)
    settings = _settings(whole, limit, overridden, is_cut)
    if "run_dir" not in overridden:
        settings["run_dir"] = whole.folder.with_name(f"{whole.folder.name}-limit-{limit}")
    # Once more: what a recipe leaves open is read from the run that its folder holds.
    return load_recipe([*path, *(f"--{key}={value}" for key, value in settings.items()), *overrides])


def _settings(whole: Recipe, limit: int, overridden: set[str], is_cut: bool) -> dict[str, object]:
    """Return the keys that a try sets; each can be set to another value behind it.

    Args:
        whole: the recipe without the limit.
        limit: rows to read of each split.
        overridden: the keys that the command line sets.
        is_cut: whether it sets the steps and leaves the warm-up to the try.
    """
    loop, steps = whole.loop, whole.loop.max_steps
    if "loop.max_steps" not in overridden:
        steps = min(steps, MOST_STEPS)
    settings: dict[str, object] = dict.fromkeys(("data.limit_train", "data.limit_eval", "eval.limit"), limit)
    settings |= {
        "loop.max_steps": steps,
        "loop.eval_every": max(loop.eval_every, steps),
        "loop.push_to": "null",  # a branch of the Hub that holds the run itself stays as it is
        "batch.max_rows": min(whole.batch.max_rows or MOST_ROWS, MOST_ROWS),
    }
    if steps < loop.max_steps or is_cut:
        settings["optim.warmup_steps"] = min(whole.optim.warmup_steps, warmup_for(steps))
    return settings


def _taken(words: list[str]) -> tuple[list[str], int | None]:
    """Return the words without `--limit`, and its number."""
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--limit":
            end = index + 1 if equals else index + 2
            value = value if equals else " ".join(words[index + 1 : end])
            if not value.isdecimal() or int(value) < 1:
                raise UserError(f"--limit: {value or None!r}: must be a number of rows, at least 1")
            return words[:index] + words[end:], int(value)
    return words, None
