# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`doctor MODEL --transformers 5.17,5.24,newest`: the same checks with several versions of transformers, side by side.

Each version lies with its requirements in a folder of its own, which comes before the installed packages; torch and all else
is what is installed. Nothing that is installed is changed.
"""

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .subject import printable

NEWEST = "newest"
# Compiled against by torch and others that stay outside, so it stays what it is.
KEPT = ("numpy",)
# `-m` looks into the working folder first, which may be the one that is examined, with a pip.py; Python 3.10 does not know it.
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
OUTCOMES = {"pass": "pass", "FAIL": "FAIL", "skipped": "-"}


def home() -> Path:
    """Return where the versions are kept: `modeling_vanilla/transformers` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modeling_vanilla" / "transformers"


def requirement(version: str) -> str:
    """Return what pip calls "5.17" (its newest bug fix), "5.17.0" or "newest".

    Raises:
        ValueError: It is none of these.
    """
    if version == NEWEST:
        return "transformers"
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", version):
        raise ValueError(f"--transformers: {version!r} must be {NEWEST}, or a version such as 5.17 or 5.17.0")
    return f"transformers=={version}" + (".*" if version.count(".") == 1 else "")


def _pip(*words: str) -> str:
    """Run `pip install`, and return what it prints.

    Raises:
        ValueError: It failed, with the last of its errors.
    """
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *words]
    environment = os.environ | SAFE_PATH
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
        chosen = [line for line in errors if line.startswith("ERROR")] or errors
        raise ValueError(
            f"--transformers: {words[-1]} cannot be installed: {chosen[-1].removeprefix('ERROR: ')[:300]}"
        )
    return done.stdout


def exact(version: str) -> str:
    """Return the exact version that the index has for one; an exact one is not looked up.

    Raises:
        ValueError: There is none, or no index.
    """
    line = requirement(version)
    if version.count(".") == 2:
        return version
    report = json.loads(_pip("--dry-run", "--ignore-installed", "--no-deps", "--report", "-", line))
    return str(report["install"][0]["metadata"]["version"])


def prepare(version: str) -> Path:
    """Return the folder with an exact version of transformers and its requirements; it is filled once, or not at all.

    Raises:
        ValueError: It cannot be installed.
    """
    folder = home() / f"{version}-python{sys.version_info.major}.{sys.version_info.minor}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        try:
            print(f"installing transformers {version} into {folder}", file=sys.stderr)
            limits = staging / "constraints.txt"
            limits.write_text("".join(f"{name}=={importlib.metadata.version(name)}\n" for name in KEPT))
            _pip("--target", str(staging / "packages"), "-c", str(limits), f"transformers=={version}")
            (staging / "packages").rename(folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise ValueError(f"--transformers: {folder} cannot be written: {error.strerror}") from None
    return folder


def examine_with(folder: Path, words: Sequence[str]) -> dict[str, Any]:
    """Return the report of a doctor that runs in a process with the packages of a folder.

    Raises:
        ValueError: It has none, with the line that it ended with.
    """
    paths = [str(folder), str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | SAFE_PATH | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "modeling_vanilla", "doctor", *words, "--json"]
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        said = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
        raise ValueError(f"with the transformers of {folder.name}: {said[-1][:300]}") from None
    return report


def side_by_side(model: str, reports: Sequence[dict[str, Any]]) -> str:
    """Return a row for each check and a column for each version; then what every failure means."""
    versions = [report["transformers"] for report in reports]
    rows = [f"{'check':<17}" + "".join(f"{version:<10}" for version in versions)]
    for findings in zip(*(report["findings"] for report in reports), strict=True):
        rows.append(f"{findings[0]['name']:<17}" + "".join(f"{OUTCOMES[f['outcome']]:<10}" for f in findings))
    failures = [
        f"{report['transformers']}: {finding['name']}: {printable(finding['meaning'])}"
        for report in reports
        for finding in report["findings"]
        if finding["outcome"] == "FAIL"
    ]
    lines = [f"{model}: {reports[0]['class']}", "", *(row.rstrip() for row in rows)]
    return "\n".join([*lines, "", *(failures or ["no check failed"])])


def compare(model: str, versions: Sequence[str], words: Sequence[str], as_json: bool) -> int:
    """Examine a model with each of several versions, and print the reports side by side.

    Args:
        model: A folder or a Hub id.
        versions: See `requirement`.
        words: The model and the other options of the command line, without `--json` and `--transformers`.
        as_json: Print a list of the reports instead.

    Returns:
        1 when a check failed with any of them, else 0.

    Raises:
        ValueError: A version cannot be had, or the model cannot be examined with it.
    """
    folders = [prepare(exact(version)) for version in versions]
    reports = [examine_with(folder, words) for folder in dict.fromkeys(folders)]
    print(json.dumps(reports, indent=2) if as_json else side_by_side(model, reports))
    return int(any(report["failed"] for report in reports))
