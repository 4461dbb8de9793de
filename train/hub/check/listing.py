"""Every entry of a folder, found without following a link, and which of them are code: one list for every check.

What is not bounded here is not opened: links, pipes, devices and files of any size end a check before it begins.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from train import files

# Kinds of files that run nothing, whatever they hold; pickles and archives are not among them.
DATA = {".json", ".jsonl", ".md", ".yaml", ".yml", ".txt", ".safetensors", ".png", ".jpg", ".jpeg"}
DATA_NAMES = {"LICENSE", ".gitattributes"}
MOST_FILES = 10_000
MEBIBYTE = 1 << 20
# The most bytes of a file that is read as a whole, by its name or its kind; tables and lists grow with a vocabulary.
MOST_BYTES = {
    files.RECIPE: MEBIBYTE // 16,
    "tokenizer.json": 64 * MEBIBYTE,
    "model.safetensors.index.json": 64 * MEBIBYTE,
    ".json": 16 * MEBIBYTE,
    ".jsonl": 256 * MEBIBYTE,
    ".py": MEBIBYTE // 4,  # the parser of Python takes the square of a name's length: a minute for 400,000 letters
    ".txt": 256 * MEBIBYTE,
    ".png": 64 * MEBIBYTE,
    ".jpg": 64 * MEBIBYTE,
    ".jpeg": 64 * MEBIBYTE,
}
MOST_BYTES_ELSE = MEBIBYTE
# The rest is never read as a whole: weights, and kinds that are refused by their name.
READ = (DATA - {".safetensors"}) | {".py", ".jinja"}


def paths(folder: Path) -> list[Path]:
    """List everything below a folder that is no folder, in a fixed order; a link to a folder is listed, not followed.

    Raises:
        OSError: a folder in it cannot be read.
    """
    listed = []
    for parent, folders, names in os.walk(folder, onerror=_raise, followlinks=False):
        linked = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        listed += [Path(parent, name) for name in [*names, *linked]]
        if len(listed) > MOST_FILES:
            break
    return sorted(listed)


def _raise(error: OSError) -> None:
    raise error


def name_of(path: Path, folder: Path) -> str:
    """Return the name that a file has in its repository."""
    return path.relative_to(folder).as_posix()


def code_files(folder: Path) -> list[Path]:
    """List every file of code below a folder: whatever is not of a kind that runs nothing, wherever it lies."""
    return [path for path in paths(folder) if path.suffix.lower() not in DATA and path.name not in DATA_NAMES]


def entry_problems(folder: Path) -> Iterator[str]:
    """Yield every entry that must not be opened: no file of its own, too large for its kind, a name that deceives."""
    entries = paths(folder)
    if len(entries) > MOST_FILES:
        yield f"holds more than {MOST_FILES:,} files"
        return
    for path in entries:
        name, state = name_of(path, folder), path.lstat()
        kind = path.suffix.lower()
        most = MOST_BYTES.get(path.name, MOST_BYTES.get(kind, MOST_BYTES_ELSE))
        if stat.S_ISLNK(state.st_mode):
            yield f"{name}: a link; a repository must hold the file itself"
        elif not stat.S_ISREG(state.st_mode):
            yield f"{name}: a pipe, a socket or a device; a repository must hold files"
        elif not name.isprintable():
            yield f"{name}: must not have a name with characters that cannot be seen"
        elif state.st_size > most and (kind in READ or path.name in DATA_NAMES):
            yield f"{name}: has {state.st_size:,} bytes, a file of its kind must not have more than {most:,}"
