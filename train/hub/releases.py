"""Earlier releases by the sha256 of their code: which of them wrote a folder, and what is known to be wrong with it.

A folder holds the code it was saved with, for ever. `releases.json` has a row for each version that was released;
`python -m train.hub.releases` prints the row of the code in this clone.
"""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import transformers
from packaging.version import Version
from transformers.dynamic_module_utils import get_relative_import_files

import modeling_vanilla
from modeling_vanilla.configuration_vanilla import VERSION
from train import files
from train.hub.check import listing

TABLE = Path(__file__).with_suffix(".json")
PACKAGE = Path(modeling_vanilla.__file__).parent
# The field of config.json that names the version of the code that wrote it; 0.1.0 wrote none.
FIELD = "modeling_vanilla_version"


@dataclass(frozen=True)
class Release:
    """A version that was released."""

    version: str  # of the package
    commit: str  # one that has this code
    files: dict[str, str]  # sha256 of each file of code that its `save_pretrained` wrote
    wrong_since: str | None = None  # oldest transformers with which this code computes wrongly; None = none is known

    @property
    def is_wrong_here(self) -> bool:
        """Say whether this code computes wrongly with the transformers that is installed."""
        return (
            bool(self.wrong_since) and Version(transformers.__version__).release >= Version(self.wrong_since).release
        )


def known() -> dict[str, Release]:
    """Return the releases by version."""
    table = files.parse_json(TABLE.read_bytes())
    return {version: Release(version, **row) for version, row in table.items()}


def shipped() -> list[Path]:
    """Return the files of code that `save_pretrained` of this version writes beside the weights."""
    start = PACKAGE / "modeling_vanilla.py"
    return sorted({start, *(Path(name) for name in get_relative_import_files(start))})


def code_here() -> dict[str, str]:
    """Return the sha256 of each of them."""
    return {path.name: files.sha256(path) for path in shipped()}


def code_in(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of code below a folder; of what is no file, nothing, of what is too long for code, ""."""
    paths = [path for path in listing.code_files(folder) if path.is_file() and not path.is_symlink()]
    return {
        listing.name_of(path, folder): files.sha256(path) if path.stat().st_size <= listing.MOST_BYTES_ELSE else ""
        for path in paths
    }


def release_of(folder: Path) -> Release | None:
    """Return the release whose code a folder holds: all of it, nothing else, each file byte for byte."""
    code = code_in(folder)
    return next((release for release in known().values() if release.files == code), None) if code else None


def foreign_names(folder: Path) -> list[str]:
    """Return the files of code that are neither of this version nor of a release, by name and by content."""
    tables = [code_here(), *(release.files for release in known().values())]
    return [name for name, value in code_in(folder).items() if value not in {table.get(name) for table in tables}]


def name_of(folder: Path) -> str:
    """Say in words whose code a folder holds."""
    code, release = code_in(folder), release_of(folder)
    if not code:
        return "no code"
    if code == code_here():
        return f"code of {VERSION}"
    return f"code of {release.version}" if release else "code that is not all of one release"


def note_on(folder: Path) -> str:
    """Return what is known of a folder's code, where nothing is known to be wrong with it here."""
    release = release_of(folder)
    older = f", known; right with transformers before {release.wrong_since}" if release and release.wrong_since else ""
    return f"{name_of(folder)}{older}"


def problems(folder: Path) -> Iterator[str]:
    """Yield what is known to be wrong with the code of a folder, and a version in config.json that is not the code's."""
    release = release_of(folder)
    if release is None:
        return
    if release.is_wrong_here:
        yield (
            f"code of {release.version}, known; wrong with transformers {release.wrong_since} and newer, this is "
            f"{transformers.__version__}: `python -m train publish --mend MODEL_OR_ID` brings the code of {VERSION}"
        )
    claimed = files.read_object(folder / files.CONFIG).get(FIELD)
    if claimed not in (None, release.version):
        yield f"config.json: {FIELD} is {claimed!r}, its code is that of {release.version}"


def row() -> dict[str, dict]:
    """Return the row of the code in this clone; it goes into the table with the commit that releases the version."""
    command = ["git", "rev-parse", "HEAD"]
    commit = subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=True).stdout.strip()
    return {VERSION: {"commit": commit, "files": code_here()}}


if __name__ == "__main__":
    print(json.dumps(row(), indent=2))
