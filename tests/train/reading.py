"""What the tests of reading data share: the rows that came out, or the line that says what is wrong."""

import pytest

from train.data.splits import load_splits
from train.errors import UserError
from train.settings.recipe import Recipe


def rows(split) -> list[tuple]:
    """Return the rows of a split as tuples."""
    return list(zip(*split[:].values(), strict=True))


def mistake(recipe: Recipe) -> str:
    """Return the message of the error that loading gives."""
    with pytest.raises(UserError) as caught:
        load_splits(recipe)
    assert "\n" not in str(caught.value)
    return str(caught.value)
