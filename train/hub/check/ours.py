"""What the installed package makes of a stranger's folder, as confined as the stranger itself. A script: `ours.py JOB.json`.

A tokenizer that takes all memory, or a model that takes all time, ends this process and not the one that reports.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def main(path: str) -> None:
    """Do the job that a JSON file describes, see `use.of_the_package`."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    work = Path(path).parent
    sys.path[:0] = [str(ROOT), *job["paths"]]
    from train.hub.check import confine
    from train.processes import imports

    alone = confine.leave_network()
    watch = confine.Watch(work, [*job["paths"], *job["own_paths"]], [])

    with imports.stay():
        from train.hub.check import use

    bound = confine.limit(job["memory"])
    watch.forbid()
    findings = list(use.of_the_package(job))
    # The stranger's process reports what held; here it matters when something did not.
    findings += [
        (f"installed {name}", held, detail) for name, held, detail in watch.findings(alone, bound) if not held
    ]
    (work / "findings.json").write_text(json.dumps(findings), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
