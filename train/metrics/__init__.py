"""The figures a run is judged by, as local `evaluate.Metric` modules that need no network.

`evaluate.load("accuracy")` fetches a script from the Hub: the wheel of `evaluate` holds none. So each figure has its own
script in this folder, loaded by its path.
"""

import functools
from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__"))


@functools.cache
def load(name: str):
    """Return the metric module of that name, loaded from this folder.

    Args:
        name: one of `NAMES`, e.g. "bleu".

    Raises:
        ValueError: the name is not one of `NAMES`.
    """
    if name not in NAMES:
        raise ValueError(f"metric {name!r}: must be one of {', '.join(NAMES)}")
    # Imported late: a run that only watches its loss need not pay for pandas and friends.
    import evaluate

    # In memory: several ranks, or several runs on one machine, would otherwise fight for one cache file.
    return evaluate.load(str(FOLDER / f"{name}.py"), keep_in_memory=True)
