# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Fetch the source distribution of the installed transformers and unpack its tests, where `upstream_glue.py` looks."""

import importlib.metadata
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

name = f"transformers-{importlib.metadata.version('transformers')}"
target = Path(sys.prefix) / "upstream"
if not (target / name).is_dir():
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        wanted = name.replace("-", "==")
        subprocess.run([*pip, "--no-binary", "transformers", "--dest", folder, wanted], check=True)
        with tarfile.open(Path(folder) / f"{name}.tar.gz") as archive:
            members = [m for m in archive.getmembers() if m.name.startswith(f"{name}/tests/")]
            archive.extractall(target, members, filter="data")
