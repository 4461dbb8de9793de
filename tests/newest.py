"""`make test-newest`: a short selection of the tests with the oldest and with the newest of what pyproject.toml allows.

torch is the build of constraints.txt in both. The oldest: the lower bounds of pyproject.toml, and constraints.txt for what has
none. The newest: whatever the index has today, asked once a day. Both environments lie beside .venv and are kept until
what belongs into them changes.
"""

import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ["pytest", "pytest-xdist"]
# Loading, generation, the Trainer, training and publishing, folders of earlier releases, the doctor.
SELECTION = (
    "tests/modeling_vanilla/test_auto_classes.py",
    "tests/modeling_vanilla/test_saving.py",
    "tests/modeling_vanilla/test_remote_code.py",
    "tests/modeling_vanilla/test_generation.py",
    "tests/modeling_vanilla/test_pipeline_text2text.py",
    "tests/clients/test_trainer.py",
    "tests/clients/test_seq2seq_trainer.py",
    "tests/train/hub/test_publish.py::test_published_and_used_by_a_stranger",
    "tests/train/hub/test_releases.py",
    "tests/modeling_vanilla/doctor/test_report.py",
)


def wanted(project: dict) -> list[str]:
    """Return what the selection needs of a pyproject.toml: the wheel's packages, those of train, and pytest."""
    return [*project["dependencies"], *project["optional-dependencies"]["train"], *TOOLS]


def lower_bounds(requirements: list[str]) -> dict[str, str]:
    """Return the oldest version of every package that has a lower bound."""
    found = (re.match(r"([\w.-]+)(?:\[.*])?>=([\d.]+)", requirement) for requirement in requirements)
    return {match[1]: match[2] for match in found if match}


def oldest(requirements: list[str], constraints: str) -> str:
    """Return the constraints of the oldest environment.

    What transformers itself bounds is left to it: an older one may not take the newer huggingface_hub.
    """
    bounds = lower_bounds(requirements)
    free = {*bounds, "huggingface-hub", "tokenizers"} - {"torch"}
    lines = [line for line in constraints.splitlines() if re.split(r"[=;# ]", line, maxsplit=1)[0] not in free]
    # ~= : the newest bug fix of the oldest version, as whoever installs it gets it.
    return "\n".join([*lines, *(f"{name}~={version}.0" for name, version in bounds.items() if name != "torch")]) + "\n"


def newest(constraints: str) -> str:
    """Return the constraints of the newest environment: the build of torch, nothing else."""
    return "".join(f"{line}\n" for line in constraints.splitlines() if line.startswith("torch=="))


def is_supported(version: str, readme: str) -> bool:
    """Say whether README.md promises a version of transformers."""
    first, last = re.search(r"transformers (\d+\.\d+) to (\d+\.\d+)", readme).groups()
    return _numbers(first) <= _numbers(version)[:2] <= _numbers(last)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.match(r"\d+(\.\d+)*", version)[0].split("."))


def key_of(*parts: str) -> str:
    """Return what changes when an environment has to."""
    return hashlib.sha256("\0".join([sys.version, *parts]).encode()).hexdigest()


def pip(folder: Path, *words: str) -> None:
    """Run pip in an environment; `PIP_ARGS` is that of the Makefile."""
    extra = os.environ.get("PIP_ARGS", "").split()
    command = [
        folder / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--quiet",
        *extra,
        *words,
    ]
    subprocess.run(list(map(str, command)), check=True, stdin=subprocess.DEVNULL)


def resolved(folder: Path, requirements: list[str]) -> list[str]:
    """Return the exact newest versions: the index is asked once a day, and again for other requirements."""
    today, path = datetime.date.today().isoformat(), folder / "resolved.json"
    asked = key_of(today, *requirements, (folder / "constraints.txt").read_text())
    known = json.loads(path.read_text()) if path.is_file() else {}
    if known.get("asked") != asked:
        report = folder / "report.json"
        words = ["--dry-run", "--ignore-installed", "--report", str(report), "-c", str(folder / "constraints.txt")]
        pip(folder, *words, *requirements)
        found = [entry["metadata"] for entry in json.loads(report.read_text())["install"]]
        known = {"asked": asked, "packages": sorted(f"{one['name']}=={one['version']}" for one in found)}
        path.write_text(json.dumps(known))
    return known["packages"]


def prepare(name: str, requirements: list[str], constraints: str) -> Path:
    """Make or renew an environment where what belongs into it has changed; return its folder."""
    folder = ROOT / f".venv-{name}"
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True, clear=True)
    (folder / "constraints.txt").write_text(constraints)
    packages = resolved(folder, requirements) if name == "newest" else requirements
    key, path = key_of(*packages, constraints), folder / "key"
    if not path.is_file() or path.read_text() != key:
        print(f"installing .venv-{name}", flush=True)
        path.unlink(missing_ok=True)
        pip(folder, "-c", str(folder / "constraints.txt"), *packages)
        path.write_text(key)
    return folder


def transformers_of(folder: Path) -> str:
    """Return the version of transformers in an environment."""
    script = "import importlib.metadata as m; print(m.version('transformers'))"
    return subprocess.check_output([folder / "bin" / "python", "-c", script], text=True).strip()


def main(words: list[str]) -> int:
    """Run the selection in both environments; what fails with a version that README.md does not promise is only printed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    constraints, readme = (ROOT / "constraints.txt").read_text("utf-8"), (ROOT / "README.md").read_text("utf-8")
    requirements, code, lines = wanted(project), 0, []
    settings = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    for name, limits in (("oldest", oldest(requirements, constraints)), ("newest", newest(constraints))):
        folder = prepare(name, requirements, limits)
        command = [folder / "bin" / "python", "-m", "pytest", "-n", "2", "-m", "not slow", "-q", *(words or SELECTION)]
        failed = subprocess.run(list(map(str, command)), cwd=ROOT, env=settings, check=False).returncode
        version = transformers_of(folder)
        promised = is_supported(version, readme)
        outcome = "passed" if not failed else "FAILED" if promised else "BROKEN, but newer than README.md promises"
        lines.append(f"{name}: transformers {version}: {outcome}")
        code |= int(bool(failed) and promised)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        print(f"error: {' '.join(map(str, error.cmd[1:6]))} ... ended with code {error.returncode}", file=sys.stderr)
        sys.exit(2)
