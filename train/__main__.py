"""The command line: `python -m train COMMAND ...`. It parses, calls, and turns errors into one line and a code."""

import importlib
import signal
import sys
from collections.abc import Sequence

from train.commands.console import report
from train.errors import GenerationError, MissingDataError, UserError, print_anything
from train.processes import allocation, imports
from train.processes.deadline import is_stuck, leave
from train.settings import get_it

# What `make venv` installs and no command does without.
NEEDED = frozenset(
    "accelerate datasets jsonargparse numpy pyarrow safetensors tokenizers torch transformers yaml".split()
)

COMMANDS = {
    name: f"train.commands.{name.replace('-', '_')}"
    for name in "fit plan evaluate reproduce average publish hub-check attention curves".split()
}
"""The words of the command line, and the module that does each: `run` takes the rest of the words and returns the exit code."""

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
        with imports.stay():
            module = importlib.import_module(COMMANDS[command])
        return module.run(rest)
    except MissingDataError as error:
        how = get_it.command_among(rest)
        return report(error, 2, f"get it: {how}" if how else "")
    except UserError as error:
        return report(error, 2)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDED:
            raise
        return report(f"{error.name}: not installed for {sys.executable}", 2, ENVIRONMENT)
    except (GenerationError, OSError) as error:  # of a full disk, or a folder that is not ours: it names the path
        return report(error, 1)
    except KeyboardInterrupt:
        return report("interrupted; whatever was saved before stays", 130)


if __name__ == "__main__":
    if sys.argv[1:2] in (["fit"], ["plan"], ["reproduce"]):  # what trains, or times a step
        allocation.settle()
    code = main()
    if code > 128:  # stopped by a signal: the same one, sent on by a launcher, must not change the code
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(code)
