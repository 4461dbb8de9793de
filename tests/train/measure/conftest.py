"""What every test of evaluation begins with."""

import pytest

from train.measure import evaluate


@pytest.fixture(autouse=True)
def not_warned():
    """Forget which warnings were given: a process gives each once."""
    evaluate._warn.cache_clear()
