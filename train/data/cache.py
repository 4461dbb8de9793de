"""Token ids on disk: written once for the same text and tokenizer, then mapped into memory by every process.

A folder of the cache is named by the sha256 of what it was made from, so it is never out of date; it is whole or absent, and
a damaged one is made anew. Plain arrays, nothing pickled.
"""

import contextlib
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tokenizers

from train import files
from train.processes import locks

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

VARIABLE = "MODELING_VANILLA_CACHE"
FORMAT = "1"
PATIENCE = 5.0
"""Seconds that a process waits for another before it reports so."""
FEW_ROWS = 20_000
"""Fewer rows are encoded in about a second: they are not worth a file."""


def folder() -> Path | None:
    """Return where the cache lies: `$MODELING_VANILLA_CACHE`, or below the user's cache folder.

    Returns:
        None = no cache: the variable is empty, or there is no home folder to put one into.
    """
    stated = os.environ.get(VARIABLE)
    if stated == "":
        return None
    try:
        return Path(stated or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "modeling_vanilla")).expanduser()
    except RuntimeError as error:  # a container that runs as a number without a name
        logger.warning("no cache of token ids: %s; set %s to a folder", error, VARIABLE)
        return None


def key_of(split: "Dataset", column: str, tokenizer: "PreTrainedTokenizerFast", special: bool) -> str:
    """Return the sha256 of all that decides the ids of a column.

    Args:
        split: the rows.
        column: the text.
        tokenizer: its whole definition counts, and the version of the library that runs it.
        special: whether the template's tokens are added.
    """
    digest = hashlib.sha256()
    definition = tokenizer.backend_tokenizer.to_str()
    for word in (FORMAT, tokenizers.__version__, type(tokenizer).__name__, definition, column, str(special)):
        digest.update(hashlib.sha256(word.encode()).digest())
    for batch in split.select_columns(column).with_format("arrow").iter(batch_size=10_000):
        texts = batch[column].combine_chunks().to_numpy(zero_copy_only=False)
        blobs = [text.encode() for text in texts]
        digest.update(np.fromiter(map(len, blobs), dtype="<i8", count=len(blobs)).tobytes())
        digest.update(b"".join(blobs))
    return digest.hexdigest()


def through(key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of a key, from the disk where they are whole, else made and written.

    The first process of a machine makes them while the others wait. Where the cache cannot be written, a warning says so
    and the arrays stay in memory.
    """
    home = folder()
    if home is None:
        return make()
    entry = home / "tokens" / key
    arrays: dict[str, np.ndarray] | None = None
    try:
        with _locked(entry):
            if (mapped := _read(entry)) is not None:
                return mapped
            arrays = make()
            with files.staged_folder(entry, manifest=True) as staging:
                for name, value in arrays.items():
                    np.save(staging / f"{name}.npy", value, allow_pickle=False)
            return _read(entry) or arrays
    except OSError as error:
        logger.warning("%s: no cache of token ids (%s); set %s to another folder", entry, error, VARIABLE)
    return arrays or make()


def _read(entry: Path) -> dict[str, np.ndarray] | None:
    """Map the arrays of a folder into memory; None where it is missing or damaged."""
    if not entry.is_dir():
        return None
    broken = files.damage(entry)
    if broken is not None:
        logger.warning("%s: damaged cache of token ids, made anew: %s", entry, broken)
        return None
    try:
        return {path.stem: np.load(path, mmap_mode="r", allow_pickle=False) for path in sorted(entry.glob("*.npy"))}
    except ValueError as error:
        logger.warning("%s: unreadable cache of token ids, made anew: %s", entry, error)
        return None


@contextlib.contextmanager
def _locked(entry: Path) -> Iterator[None]:
    """Hold a key for one process of this machine; the lock ends with the process, and a long wait for it is reported."""
    entry.parent.mkdir(parents=True, exist_ok=True)
    with locks.opened(entry.with_name(f".{entry.name}.lock")) as held:
        if not held.take(PATIENCE):
            logger.warning("%s: waiting for another process (pid %s) that makes these token ids", entry, held.holder())
            held.take(None)
        held.sign(f"{os.getpid()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}")
        yield
