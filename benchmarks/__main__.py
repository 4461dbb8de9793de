"""Run the benchmarks one after another and write RESULTS.md beside them: `make bench`, about an hour.

python -m benchmarks                     all of them
python -m benchmarks step decoding       some; the results of the others stay
"""

import argparse
import datetime
import importlib
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import turns

NAMES = ("step", "precision", "allocation", "compiled", "decoding", "pipeline", "evaluation", "loss", "batches")
NAMES += ("window", "look", "look_page", "loading", "trainer")
MORE = {"step": ["--threads", "all", "--sizes", "small", "32k"], "decoding": ["--threads", "all"]}
"""Options of a second run of the same script, where this machine has more than one processor to give."""
NEEDS = {"pipeline": "runs/dates-en-ko/final", "evaluation": "data/multi30k", "batches": "data/multi30k"}
"""Left out where this is missing, unless they are named."""
HERE = Path(__file__).parent
HEAD = """# What the benchmarks said

Each section is what its command printed; `make bench` runs them all. Ratios are medians of paired turns within one run, with their
quartiles; absolute figures hold for the machine of their run only. What the figures mean, and which aims they reach, is in
[docs/speed.md](../docs/speed.md).
"""


def run(name: str, options: list[str]) -> str:
    """Run one benchmark and return what it printed, under its command."""
    command = ["python", "-m", f"benchmarks.{name}", *options]
    done = subprocess.run(
        [sys.executable, *command[1:]], check=False, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    day, output = datetime.date.today().isoformat(), done.stdout.strip()
    printed = output if output.startswith("|") else output.replace("\n", "\n\n", 1).replace("\n\n\n", "\n\n")
    gap = "\n\n" if output.startswith("|") else " "
    return f"`{' '.join(command)}`, {day}:{gap}{printed}\n"


def section(name: str) -> str:
    """Run one benchmark, on all processors too where it has such a run, and return its section."""
    title, *rest = (importlib.import_module(f"benchmarks.{name}").__doc__ or "").strip().splitlines()
    prose = "\n".join(rest).strip().partition("\n\n    python")[0]
    runs = [[], MORE[name]] if name in MORE and turns.threads("all") > 1 else [[]]
    return "\n".join([f"## {name}: {title}\n\n{prose}\n", *(run(name, options) for options in runs)])


def sections_of(path: Path) -> dict[str, str]:
    """Return the sections of an earlier run, by name."""
    parts = re.split(r"^(?=## \w+: )", path.read_text(encoding="utf-8"), flags=re.MULTILINE) if path.exists() else []
    return {part[3:].partition(":")[0]: part.rstrip("\n") + "\n" for part in parts if part.startswith("## ")}


def main() -> None:
    """Run what the command line names, and write all sections."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    missing = [name for name, path in NEEDS.items() if not (HERE.parent / path).exists()]
    asked = parser.parse_args().names
    names = asked or [name for name in NAMES if name not in missing]
    if unknown := set(names) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))} must be of {', '.join(NAMES)}")
    for name in () if asked else missing:
        print(f"without {name}, which needs {NEEDS[name]}", file=sys.stderr)
    target = HERE / "RESULTS.md"
    sections = sections_of(target)
    for number, name in enumerate(names, start=1):
        print(f"{number}/{len(names)} {name}", file=sys.stderr)
        sections[name] = section(name)
        known = [sections[key] for key in NAMES if key in sections]
        target.write_text("\n".join([HEAD, *known]), encoding="utf-8")


if __name__ == "__main__":
    main()
