"""Which splits a recipe's data have, and which of them it needs."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

from train.errors import UserError

if TYPE_CHECKING:
    from train.settings.recipe import Recipe
    from train.settings.sections import DataSection

NAMES = ("train", "validation", "test")


def of(data: "DataSection") -> list[str]:
    """Return the names of the splits that a recipe names, cuts off or makes."""
    has = {name: bool(data.generator or getattr(data, name)) for name in NAMES}
    has["validation"] |= data.validation_fraction > 0
    return [name for name in NAMES if has[name]]


def measured(data: "DataSection") -> Literal["validation", "test"]:
    """Return the split of the final figures where a recipe does not say: test, or else validation."""
    found = of(data)
    return "validation" if "validation" in found and "test" not in found else "test"


def check(recipe: "Recipe", found: Collection[str]) -> None:
    """Refuse at the start what would fail hours later, at the end.

    Args:
        recipe: its `eval` and `loop` sections say what they need.
        found: the splits that there are.

    Raises:
        UserError: names the key and the split that is missing.
    """
    needed = {"eval.split": str(recipe.eval.split)} if recipe.eval.metrics else {}
    if recipe.loop.final == "best":
        needed["loop.final: best"] = "validation"
    if recipe.loop.early_stopping is not None:
        needed["loop.early_stopping"] = "validation"
    for key, split in needed.items():
        if split not in found:
            remedy = "; data.validation_fraction: 0.05 keeps some for validation" if "validation" not in found else ""
            raise UserError(
                f"{key}: needs split {split!r}; the data of this recipe has {', '.join(found)} (data.{split}{remedy})"
            )
