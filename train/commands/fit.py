"""`python -m train fit`: train a recipe to its end."""

import contextlib
from typing import TYPE_CHECKING

from train.commands import console
from train.errors import DriftError, GenerationError, NonFiniteError
from train.processes import imports
from train.processes.deadline import leave

if TYPE_CHECKING:
    from train.settings.recipe import Recipe

HELP = """usage: python -m train fit RECIPE.yaml [--limit N] [--KEY VALUE ...]

Train the recipe to its end: checkpoints, validation, final/ (a Hugging Face folder) and results.json, all in
runs/<name>/ or --run_dir. The same command again resumes from the newest intact checkpoint. The command line overrides
the recipe, the recipe the defaults. --limit N is a quick try: the first N rows of training, validation and test data
(a text that is one row, data.text_unit: file, is read whole), at most 200 steps of at most 16 rows, one evaluation, and
nothing sent to the Hub, in a run folder of its own, <run folder>-limit-N. A key that is set beside it wins. The keys:
"""


def run(arguments: list[str]) -> int:
    """Train a recipe."""
    from train.settings import limit
    from train.settings.reading import parser  # here: the help of the other commands needs none of it

    if "-h" in arguments or "--help" in arguments:
        with imports.stay():
            from train.settings import meanings

        keys = parser()
        meanings.explain(keys)
        keys.usage = "python -m train fit RECIPE.yaml [--KEY VALUE ...]"
        print(HELP + keys.format_help().split("\n\n", 1)[-1])
        return 0
    return train(limit.load(arguments))


def train(recipe: "Recipe") -> int:
    """Train and return the exit code; whatever ends a run is reported in one line."""
    with imports.stay():
        from train.processes import peers, ranks, signals
        from train.run import loop

    publishing = None
    if recipe.loop.push_to is not None:
        from train.hub import push  # here: no other run needs the uploader

        publishing = push
    code = 0
    with contextlib.ExitStack() as end:
        try:
            loop.fit(recipe, publishing)
        except signals.Stopped as stopped:
            signals.ignore(end)
            code = console.report(stopped, 128 + stopped.signal)
        except (NonFiniteError, DriftError, GenerationError, peers.RankError, OSError) as error:
            return console.report(error, 1)
        except peers.LostPeerError as error:
            leave(f"error: {error}" if error.reports else None)
        except ranks.PeerError:
            leave(None)  # the rank that failed reports why
        peers.destroy_group(recipe.loop.timeout)
    return code
