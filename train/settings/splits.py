"""Which splits a recipe's data have, and which of them is measured."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
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
