"""The command line: `python -m train COMMAND ...`. It parses, calls, and turns errors into one line and a code."""

import contextlib
import os
import signal
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from train.errors import (
    DriftError,
    GenerationError,
    MissingDataError,
    NonFiniteError,
    UserError,
    bounded,
    plain,
    print_anything,
)
from train.processes.deadline import is_stuck, leave
from train.settings import get_it

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from train.settings.recipe import Recipe

# What `make venv` installs and no command does without.
NEEDED = frozenset(
    "accelerate datasets jsonargparse numpy pyarrow safetensors tokenizers torch transformers yaml".split()
)

USAGE = """usage: python -m train COMMAND ...

  fit RECIPE.yaml [--optim.lr 1e-3 ...]       train; the same command again goes on where it stopped
  plan RECIPE.yaml [--gpu NAME ...]       parameters, operations, memory, hours and money, without training
  evaluate RUN_OR_MODEL_OR_ID                 measure a run, a model folder or anyone's model of the Hub
  reproduce RUN_OR_ID                         train a published run again, compare every figure
  average RUN --last 5                        mean of the last checkpoints, as a model folder
  publish RUN --repo-id USER/NAME             check a finished run as a stranger would, send it to the Hugging Face Hub
  publish --mend MODEL_OR_ID                  give what an earlier version published the code of this one
  hub-check MODEL_OR_ID                       does it work for a stranger: code, files, card, numbers
  attention RUN_OR_MODEL TEXT                 draw where a translation looks
  curves RUN                                  draw the losses and the learning rate, also of a run under way

RUN is the folder of a run, MODEL that of a model, ID user/name on the Hugging Face Hub.
`python -m train COMMAND -h` explains one of them. On several processes: `accelerate launch -m train fit RECIPE.yaml`,
or on a CPU `ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m train fit RECIPE.yaml`.
Exit codes: 0 done, 1 the run failed, 2 a mistake in the input, 130 or 143 stopped by SIGINT or SIGTERM, all saved."""

ENVIRONMENT = """make the environment in the clone, and use it: make venv && source .venv/bin/activate"""

FIT_HELP = """usage: python -m train fit RECIPE.yaml [--limit N] [--KEY VALUE ...]

Train the recipe to its end: checkpoints, validation, final/ (a Hugging Face folder) and results.json, all in
runs/<name>/ or --run_dir. The same command again resumes from the newest intact checkpoint. The command line overrides
the recipe, the recipe the defaults. --limit N is a quick try: the first N rows of training, validation and test data
(a text that is one row, data.text_unit: file, is read whole), at most 200 steps of at most 16 rows, one evaluation, and
nothing sent to the Hub, in a run folder of its own, <run folder>-limit-N. A key that is set beside it wins. The keys:
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    print_anything()
    code = _run(list(sys.argv[1:] if argv is None else argv))
    if is_stuck():
        leave(None, code)
    return code


def _run(words: list[str]) -> int:
    """Run one command; whatever ends it becomes one line and a code."""
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    command, *rest = words
    try:
        if command not in COMMANDS:
            raise UserError(f"{command}: no such command; one of {', '.join(COMMANDS)}")
        return COMMANDS[command](rest)
    except MissingDataError as error:
        how = get_it.command_among(rest)
        return _report(error, 2, f"get it: {how}" if how else "")
    except UserError as error:
        return _report(error, 2)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        return _report(f"{error.name}: not installed for {sys.executable}", 2, ENVIRONMENT)
    except (GenerationError, OSError) as error:  # of a full disk, or a folder that is not ours: it names the path
        return _report(error, 1)
    except KeyboardInterrupt:
        return _report("interrupted; whatever was saved before stays", 130)


def fit(words: list[str]) -> int:
    """Train a recipe."""
    from train.settings import limit
    from train.settings.reading import parser  # here: the help of the other commands needs none of it

    if "-h" in words or "--help" in words:
        from train.settings import meanings

        own = parser()
        meanings.explain(own)
        own.usage = "python -m train fit RECIPE.yaml [--KEY VALUE ...]"
        print(FIT_HELP + own.format_help().split("\n\n", 1)[-1])
        return 0
    return _train(limit.load(words))


def _train(recipe: "Recipe") -> int:
    """Train and return the exit code; whatever ends a run is said in one line."""
    from train.processes import peers, random_state, signals
    from train.run import loop

    code = 0
    with contextlib.ExitStack() as end:
        try:
            loop.fit(recipe)
        except signals.Stopped as stopped:
            signals.ignore(end)
            code = _report(stopped, 128 + stopped.signal)
        except (NonFiniteError, DriftError, GenerationError, peers.RankError, OSError) as error:
            return _report(error, 1)
        except peers.LostPeerError as error:
            leave(f"error: {error}" if error.speaks else None)
        except random_state.PeerError:
            leave(None)  # the rank that failed has said why
        peers.part(recipe.loop.timeout)
    return code


def plan(words: list[str]) -> int:
    """Say what a run will take."""
    from train.cost import plan as planning

    return planning.main(words)


def evaluate(words: list[str]) -> int:
    """Measure a run or a model folder."""
    parser = _parser(
        "evaluate", "Measure a run, a model folder or a repository of the Hub; print a table and write results.json."
    )
    parser.add_argument(
        "folder",
        metavar="RUN_OR_MODEL_OR_ID",
        type=str,
        help="a run (its final/ is measured), a model folder, or user/name",
    )
    parser.add_argument("--recipe", type=str | None, help="recipe with the data; default: the run's own recipe.yaml")
    parser.add_argument("--split", type=str | None, help="train, validation or test; default: the recipe's eval.split")
    parser.add_argument("--revision", type=str | None, help="branch, tag or commit of a repository; default: main")
    parser.add_argument(
        "--output", type=str | None, help="folder for results.json; of a repository: runs/evaluated/..."
    )
    _add_trust(parser, "run code of the folder, where its model is neither ours nor one of transformers")
    given = _parse(parser, words)

    from train.measure.evaluate import evaluate_folder

    _without_bars()
    evaluate_folder(
        given.folder,
        given.recipe,
        given.split,
        revision=given.revision,
        output=given.output,
        trust_remote_code=given.trust,
    )
    return 0


def reproduce(words: list[str]) -> int:
    """Train a published run again and compare."""
    parser = _parser(
        "reproduce",
        "Train the recipe of a published run into a run folder of its own, on data with the same hash, and compare every "
        "figure of its results.json. The same command again goes on. Exit code 1: a figure is not within its tolerance.",
    )
    parser.add_argument(
        "place", metavar="RUN_OR_ID", type=str, help="a run, a published folder, or user/name on the Hub"
    )
    parser.add_argument("--revision", type=str | None, help="branch, tag or commit; default: the main branch")
    parser.add_argument("--run_dir", type=str | None, help="folder of the new run; default: runs/<name>-reproduced")
    parser.add_argument("--data.root", dest="root", type=str | None, help="folder of the data; default: the recipe's")
    parser.add_argument(
        "--tolerance", type=str | None, help="bleu=1,loss=2%: instead of ours, which results.json may narrow"
    )
    given = _parse(parser, words)

    from train.commands import reproduce as reproducing

    return reproducing.reproduce(given.place, given.revision, given.run_dir, given.root, given.tolerance, train=_train)


def average(words: list[str]) -> int:
    """Average the last checkpoints of a run."""
    parser = _parser("average", "Write the mean of the last checkpoints' weights as a model folder, RUN/average.")
    parser.add_argument("run_dir", metavar="RUN", type=str, help="folder of the run")
    parser.add_argument("--last", type=int, default=5, help="how many checkpoints")
    given = _parse(parser, words)

    from train import files
    from train.run import checkpoint

    files.refuse_missing(given.run_dir)
    if not (Path(given.run_dir) / "checkpoints").is_dir():
        raise UserError(f"{given.run_dir}: not the folder of a run, it has no checkpoints/")
    folder = checkpoint.average(Path(given.run_dir), given.last)
    print(f"average of the last {given.last} checkpoints: {folder}")
    return 0


def publish(words: list[str]) -> int:
    """Send a run to the Hub."""
    request = "open a pull request instead of changing main"
    about = (
        "Write the complete folder of a Hugging Face model repository for a finished run, check it, and send it. With "
        "--mend: give a published folder or repository the code of this version, and leave all else as it is."
    )
    mends = "mend what is published: new code, same weights; RUN is then a model folder, or user/name on the Hub"
    parser = _parser("publish", about)
    parser.add_argument("run_dir", metavar="RUN", type=str, help="folder of the run")
    parser.add_argument("--repo-id", "--repo_id", dest="repo_id", type=str | None, help="user/name on the Hub")
    parser.add_argument("--mend", action="store_true", help=mends)
    parser.add_argument("--private", action="store_true", help="make the repository private, where it has to be made")
    parser.add_argument("--revision", type=str, default="main", help="branch; it is made where it is missing")
    parser.add_argument("--create-pr", "--create_pr", dest="create_pr", action="store_true", help=request)
    parser.add_argument("--tag", type=str | None, help="name for the commit, such as v1")
    parser.add_argument(
        "--dry-run", "--dry_run", dest="dry_run", action="store_true", help="write, check, send nothing"
    )
    given = _parse(parser, words)

    from train.errors import PublishError

    _without_bars()
    try:
        _mend(given) if given.mend else _publish(given)
    except PublishError as error:
        return _report(error, 1)
    except KeyboardInterrupt:
        whole = "a commit is on the Hub as a whole or not at all; the same command again tells, and goes on"
        return _report(f"interrupted; {whole}", 130)
    return 0


def _publish(given: "Namespace") -> None:
    """Publish a run."""
    from train.hub import publish as publishing
    from train.hub.upload import Target

    if given.repo_id is None:
        raise UserError("publish: --repo-id USER/NAME is missing; to mend what is published already, add --mend")
    target = Target(given.repo_id, given.revision, given.private, given.create_pr, given.tag)
    publishing.publish(given.run_dir, target, given.dry_run)


def _mend(given: "Namespace") -> None:
    """Mend a folder, or a repository of the Hub."""
    from train import files
    from train.hub import fetch, mend
    from train.hub.upload import Target

    if given.repo_id is not None or given.private:
        raise UserError("publish --mend: takes neither --repo-id nor --private; what is mended stays where it is")
    place = Path(given.run_dir)
    files.recover(place)
    if not place.is_dir():
        if not fetch.is_id(given.run_dir):
            raise UserError(f"{given.run_dir}: neither a folder nor an id of the Hub (user/name)")
        mend.mend_repository(Target(given.run_dir, given.revision, False, given.create_pr, given.tag), given.dry_run)
    elif given.create_pr or given.tag or given.revision != "main":
        raise UserError(f"publish --mend {place}: a folder here has no branches, tags or pull requests")
    else:
        mend.mend_folder(place, given.dry_run)


def hub_check(words: list[str]) -> int:
    """Check that a repository works for a stranger."""
    parser = _parser(
        "hub-check",
        "Check a folder or a repository of the Hub in an empty cache, offline, in a process without this project: files, "
        "weights, code, card, every Auto class, the same numbers, pipelines, a step of the Trainer. Exit code 1: it fails.",
    )
    parser.add_argument("place", metavar="MODEL_OR_ID", type=str, help="a model folder, or user/name on the Hub")
    parser.add_argument("--revision", type=str | None, help="branch, tag or commit; default: the main branch")
    _add_trust(parser, "run code that is not that of the installed package")
    given = _parse(parser, words)

    from train.hub.check import report as checking

    _without_bars()
    report = checking.check(given.place, given.revision, given.trust)
    print(report)
    return int(report.failed)


def attention(words: list[str]) -> int:
    """Draw the cross-attention of one translation."""
    parser = _parser("attention", "Translate a text and draw where each output token looked, one panel per head.")
    parser.add_argument(
        "folder", metavar="RUN_OR_MODEL", type=str, help="a run, or a model folder of an encoder-decoder"
    )
    parser.add_argument("text", metavar="TEXT", type=str, help="the source text")
    parser.add_argument(
        "--output", type=str | None, help="the picture to write; default: attention.png in the run, or model, folder"
    )
    given = _parse(parser, words)

    from train.model import loading
    from train.pictures import plots

    run, model = loading.locate(Path(given.folder))
    print(plots.attention(given.folder, given.text, given.output or (run or model) / "attention.png"))
    return 0


def curves(words: list[str]) -> int:
    """Draw the course of a run."""
    parser = _parser("curves", "Draw losses, learning rate and gradient norm of a run over its steps, as a PNG.")
    parser.add_argument("run_dir", metavar="RUN", type=str, help="folder of the run; it may still be training")
    parser.add_argument(
        "--output", type=str | None, help="the picture to write; default: curves.png in the run folder"
    )
    given = _parse(parser, words)

    from train.pictures import plots

    print(plots.curves_of(given.run_dir, given.output))
    return 0


COMMANDS = {
    "fit": fit,
    "plan": plan,
    "evaluate": evaluate,
    "reproduce": reproduce,
    "average": average,
    "publish": publish,
    "hub-check": hub_check,
    "attention": attention,
    "curves": curves,
}


def _parser(command: str, description: str) -> "ArgumentParser":
    """Return an empty parser for one command."""
    from jsonargparse import ArgumentParser

    return ArgumentParser(
        prog=f"python -m train {command}", description=description, exit_on_error=False, allow_abbrev=False
    )


def _without_bars() -> None:
    """Keep the bars of transformers away, which stay on the screen; those of uploads are for people at a terminal."""
    from huggingface_hub import constants
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    if sys.stderr.isatty() and not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()


def _add_trust(parser: "ArgumentParser", what: str) -> None:
    """Add the flag that runs code of a repository."""
    names = ("--trust-remote-code", "--trust_remote_code")
    parser.add_argument(*names, dest="trust", action="store_true", help=f"{what}; read it first")


def _parse(parser: "ArgumentParser", words: list[str]) -> "Namespace":
    """Parse a command's words; a wrong one is the user's error."""
    try:
        return parser.parse_args(words)
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"{parser.prog.rsplit(maxsplit=1)[-1]}: {error}") from None


def _report(error: Exception | str, code: int, remedy: str = "") -> int:
    """Print an error as one line, once per machine, and what may help as another; return the exit code."""
    rank, local = os.environ.get("RANK", "0"), os.environ.get("LOCAL_RANK", "0")
    if local == "0":
        prefix = "" if rank == "0" else f"rank {rank}: "
        line = bounded(" ".join(str(error).split()))
        kind = "error: " if code <= 2 else "" if line.startswith("stopped") else "stopped: "
        print(f"{kind}{prefix}{plain(line)}", file=sys.stderr)
        if remedy:
            print(plain(remedy), file=sys.stderr)
    return code


if __name__ == "__main__":
    code = main()
    if code > 128:  # stopped by a signal: the same one, sent on by a launcher, must not change the code
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)
