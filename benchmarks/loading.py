"""What it costs to import the package behind transformers' own base class, and to load a model, over MarianMT.

CPU milliseconds, each in fresh processes, in turns: an import counts once in a process, and that of the package what it takes where the
base class is imported already. The model is the paper's base, with random
weights; both load the same ones from a folder.

    python -m benchmarks.loading
"""

import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import transformers

from benchmarks.turns import machine, milliseconds, parser, ratio
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from modeling_vanilla.convert import to_transformers

BASE = "from transformers import PreTrainedModel, PreTrainedConfig"
IMPORTS = {"transformers' base class": ("", BASE), "modeling_vanilla": (BASE, "import modeling_vanilla")}
"""What stands before, and what is timed."""
LOADS = {
    "MarianMTModel": "from transformers import MarianMTModel as Model",
    "VanillaForConditionalGeneration": "from modeling_vanilla import VanillaForConditionalGeneration as Model",
}
TIMED = "import time; start = time.process_time(); {code}; print(time.process_time() - start)"


def seconds(before: str, code: str) -> float:
    """Run code in a fresh process, and return its CPU time without that of what stands before it."""
    command = [sys.executable, "-c", f"{before}\n{TIMED.format(code=code)}"]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def in_turns(work: dict, rounds: int) -> dict[str, list[float]]:
    """Call functions that return seconds, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, function in work.items():
            taken[name].append(function())
    return taken


def main() -> None:
    """Print the table."""
    options = parser(__doc__, 9).parse_args()
    rounds = 1 if options.smoke else options.rounds
    print(f"{machine(1)}, transformers {transformers.__version__}\n")
    print("| what | ms | over the first |\n|---|---|---|")
    imports = in_turns({name: partial(seconds, *codes) for name, codes in IMPORTS.items()}, rounds)
    with tempfile.TemporaryDirectory() as folder:
        config = VanillaConfig.tiny() if options.smoke else VanillaConfig()
        ours = VanillaForConditionalGeneration(config)
        ours.save_pretrained(Path(folder) / "VanillaForConditionalGeneration")
        to_transformers(ours).save_pretrained(Path(folder) / "MarianMTModel")
        loads = {
            name: partial(seconds, code, f"Model.from_pretrained({str(Path(folder) / name)!r})")
            for name, code in LOADS.items()
        }
        loads = in_turns(loads, rounds)
    for title, taken in (("import", imports), ("load", loads)):
        first, second = taken.values()
        for name, values in taken.items():
            relative = "1" if values is first else f"+{milliseconds(second)} ms"
            if values is second and title == "load":
                relative = f"1 / {ratio(first, second)}"
            print(f"| {title}: {name} | {milliseconds(values)} | {relative} |")


if __name__ == "__main__":
    main()
