"""Files that are whole or absent: staging, fsync, a manifest of sizes and digests, one rename. And the run's lock.

JSON is read here and nowhere else, so that whatever is wrong with it is one kind of error.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from train.errors import UserError
from train.processes import locks
from train.processes.locks import no_link

# What a run folder holds.
RECIPE, METRICS, RESULTS, FINISHED = "recipe.yaml", "metrics.jsonl", "results.json", "finished.json"
CHECKPOINTS, BEST, FINAL, AVERAGE, TOKENIZER, HUB = "checkpoints", "best", "final", "average", "tokenizer", "hub"
MAPS = "maps"
CURVES, ATTENTION, FILM = "curves.png", "attention.png", "film.png"
# What a model folder, or a repository, holds beside weights and code.
CONFIG, GENERATION, CARD, MANIFEST = "config.json", "generation_config.json", "README.md", "manifest.json"
# Names the start of a run may delete: what a killed process left behind, never complete data.
STAGING, RETIRED = ".staging-", ".retired-"
# The permissions that new files lose. It can only be read by changing it, so it is read before there are threads.
MASK = os.umask(0)
os.umask(MASK)


def refuse_missing(folder: str | Path) -> None:
    """Raise a UserError where there is no folder of that name."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder}: {'is a file, must be a folder' if Path(folder).exists() else 'no such folder'}")


class JsonError(ValueError):
    """Text that is not JSON, or that Python does not read as such."""

    def __init__(self, line: int, rule: str):
        super().__init__(f"line {line}: {rule}")
        self.line = line  # counted from 1
        self.rule = rule  # what is wrong, in words that fit behind the name of a file


def parse_json(text: str | bytes) -> Any:
    """Return the value that JSON text stands for.

    Raises:
        JsonError: it is not UTF-8 or not JSON, a number has thousands of digits, or brackets are nested thousands deep.
    """
    try:
        return json.loads(text if isinstance(text, str) else text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise JsonError(line, f"byte 0x{error.object[error.start]:02x} found; text must be UTF-8") from None
    except json.JSONDecodeError as error:
        raise JsonError(error.lineno, f"{error.msg} at column {error.colno}; it must be JSON") from None
    except RecursionError:
        raise JsonError(1, "nested too deeply; JSON must be nested less than a thousand deep") from None
    except ValueError:  # the one that is left: https://docs.python.org/3/library/stdtypes.html#int-max-str-digits
        raise JsonError(
            1, f"a number of more than {sys.get_int_max_str_digits()} digits; it must be shorter"
        ) from None


def read_json(path: Path) -> Any:
    """Return the value in a JSON file.

    Raises:
        UserError: it is missing or cannot be read, naming file and line.
    """
    try:
        return parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; it must be a readable file") from None
    except JsonError as error:
        raise UserError(f"{path}:{error.line}: {error.rule}") from None


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file of one JSON object per line; what a kill or a full disk cut short is left out."""
    events = []
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(JsonError):
            event = parse_json(line)
            if isinstance(event, dict):
                events.append(event)
    return events


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Let the errors of a write name the file or folder: those of a full disk name none.

    Raises:
        OSError: what the block raised, with a path.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.strerror is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except Exception as error:
        # safetensors has one exception for everything, tokenizers raises a bare one.
        if type(error) is not Exception and not isinstance(error, SafetensorError):
            raise
        raise OSError(f"{path}: {error}") from error


def sync(path: Path) -> None:
    """Flush a file or a folder's list of names to the disk, so that a rename after it cannot overtake the data."""
    if os.name == "nt" and path.is_dir():
        return  # Windows opens no folder; its file system keeps the order of names itself
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a file of text that a reader sees either as it was or complete."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file that a reader sees either as it was or complete; a link of that name is replaced, not followed."""
    staged = path.with_name(f"{STAGING}{path.name}")
    try:
        with named(path):
            staged.unlink(missing_ok=True)  # of a killed process, or a link that was put there
            with open(staged, "xb", opener=no_link) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        staged.replace(path)
    except OSError:
        staged.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write one JSON document, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def staged_folder(folder: Path, manifest: bool = False) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it takes the place of `folder`, on failure nothing is left of it.

    Args:
        folder: the name it gets in the end. An older folder of that name is replaced.
        manifest: add `manifest.json` with the size and sha256 of every file.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = folder.with_name(f"{STAGING}{folder.name}")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir()
    try:
        with named(folder):
            yield staging
            if manifest:
                write_manifest(staging)
            for path in _files(staging):
                path.chmod(0o666 & ~MASK)  # safetensors makes files that only their owner can read
            for path in [*_files(staging), *(p for p in staging.rglob("*") if p.is_dir()), staging]:
                sync(path)
            _replace(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def write_manifest(folder: Path) -> None:
    """Write the size and sha256 of every file of a folder into its `manifest.json`."""
    (folder / MANIFEST).unlink(missing_ok=True)
    write_json(folder / MANIFEST, {"files": {str(p.relative_to(folder)): digest(p) for p in _files(folder)}})


def _files(folder: Path) -> list[Path]:
    """List every file below a folder, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _replace(staging: Path, folder: Path) -> None:
    """Rename `staging` to `folder`; an older folder steps aside first, and `tidy` brings it back after a crash."""
    retired = folder.with_name(f"{RETIRED}{folder.name}")
    shutil.rmtree(retired, ignore_errors=True)
    if folder.exists():
        folder.rename(retired)
    staging.rename(folder)
    sync(folder.parent)
    shutil.rmtree(retired, ignore_errors=True)


def recover(folder: Path) -> None:
    """Bring back a folder that a killed process left between two renames, and drop what it left beside it."""
    retired = folder.with_name(f"{RETIRED}{folder.name}")
    if retired.is_dir():
        shutil.rmtree(retired) if folder.exists() else retired.rename(folder)


def remove_folder(folder: Path) -> None:
    """Delete a folder such that a half-deleted one no longer carries its name."""
    doomed = folder.with_name(f"{STAGING}{folder.name}")
    shutil.rmtree(doomed, ignore_errors=True)
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Finish what a killed process left: drop half-written files, bring back a folder caught between two renames."""
    if not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        if path.name.startswith(STAGING):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.name.startswith(RETIRED):
            recover(path.with_name(path.name.removeprefix(RETIRED)))


def has_progress(folder: Path) -> bool:
    """Tell whether a run folder holds something of a run that could be lost."""
    return any((folder / CHECKPOINTS).glob("step-*")) or (folder / FINAL).exists()


def digest(path: Path) -> dict[str, int | str]:
    """Return size in bytes and sha256 of a file."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return {"size": path.stat().st_size, "sha256": hasher.hexdigest()}


def sha256(path: Path) -> str:
    """Return the sha256 of a file."""
    return str(digest(path)["sha256"])


def git_hash(path: Path) -> str:
    """Return the name that git gives to a file's content."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, {} where there is none."""
    try:
        value = parse_json(path.read_bytes())
    except (OSError, JsonError):
        return {}
    return value if isinstance(value, dict) else {}


def inside(folder: Path, name: Any) -> Path | None:
    """Return the file of a folder that a document names; None where the name leads out of it, or is none."""
    if not isinstance(name, str) or not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    path = folder / name
    return path if path.resolve().is_relative_to(folder.resolve()) else None


def damage(folder: Path) -> str | None:
    """Compare a folder with its manifest; None = every file is there, with its size and digest.

    Returns:
        What is wrong, naming the first file concerned.
    """
    try:
        expected = parse_json((folder / MANIFEST).read_bytes())["files"]
        items = sorted(expected.items())
    except FileNotFoundError:
        return f"{MANIFEST} is missing"
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        return f"{MANIFEST} cannot be read ({type(error).__name__})"
    for name, entry in items:
        path = inside(folder, name)
        if path is None or not isinstance(entry, dict) or not {"size", "sha256"} <= entry.keys():
            return f"{MANIFEST}: {name!r} must be a file of the folder, with its size and sha256"
        if not path.is_file():
            return f"{name} is missing"
        actual = digest(path)
        if actual["size"] != entry["size"]:
            return f"{name} has {actual['size']} bytes, its manifest says {entry['size']}"
        if actual["sha256"] != entry["sha256"]:
            return f"{name} does not have the sha256 of its manifest"
    return None


@contextlib.contextmanager
def lock(run_dir: Path) -> Iterator[None]:
    """Hold a run folder for this process alone; the lock ends with the process, however it ends.

    Raises:
        UserError: another process trains in this folder.
    """
    with locks.opened(run_dir / ".lock") as held:
        if not held.take():
            holder = held.holder()
            raise UserError(f"run_dir: {run_dir}: another process (pid {holder}) is training in this folder") from None
        held.sign(str(os.getpid()))
        yield
