"""Reading from the Hub: an id and a revision become a commit, and files of that commit; what fails is said in one line."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    HTTPError,  # of whichever library the client speaks HTTP with
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id

from train.errors import UserError


def is_id(place: str | None) -> bool:
    """Say whether a word that is no folder here could be an id on the Hub."""
    return (
        place is not None and not Path(place).exists() and not place.startswith((".", "/", "~")) and is_repo_id(place)
    )


def is_repo_id(name: str) -> bool:
    """Say whether the Hub takes a name, with or without its owner."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def commit_of(repo_id: str, revision: str | None = None) -> str:
    """Return the commit that a branch, a tag or an abbreviation means now.

    Raises:
        UserError: no such repository or revision, no right to read it, or the Hub cannot be reached.
    """
    with _explained(repo_id, revision):
        found = HfApi().model_info(repo_id, revision=revision).sha
    # It becomes the name of a folder here; a server that is not the Hub may send anything.
    if found is None or not re.fullmatch(r"[0-9a-f]{40}", found):
        raise UserError(f"{repo_id}: {constants.ENDPOINT} names no commit of {revision or 'its main branch'}")
    return found


def commit_at(place: str, revision: str | None) -> str | None:
    """Return the commit of a repository, None for a folder here.

    Raises:
        UserError: neither, a folder for which a revision is asked, or as `commit_of`.
    """
    if Path(place).is_dir():
        if revision:
            raise UserError(f"--revision {revision}: {place} is a folder here, which has no revisions")
        return None
    if not is_id(place):
        raise UserError(f"{place}: neither a folder nor an id of the Hub (user/name)")
    return commit_of(place, revision)


def listing(repo_id: str, commit: str) -> dict[str, dict[str, Any]]:
    """Return every file of a commit with its size and its hash: sha256 where it is in large file storage, else git's."""
    with _explained(repo_id, commit):
        entries = list(HfApi().list_repo_tree(repo_id, recursive=True, revision=commit))
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if isinstance(entry, RepoFile):
            large = {"sha256": entry.lfs.sha256} if entry.lfs else {"blob_id": entry.blob_id}
            found[entry.path] = {"size": entry.size} | large
    return found


def folder(repo_id: str, commit: str, target: Path) -> Path:
    """Download all files of a commit into an empty folder; nothing that an earlier download left can help."""
    with _explained(repo_id, commit):
        snapshot_download(repo_id, revision=commit, local_dir=target)
    shutil.rmtree(target / ".cache", ignore_errors=True)  # what the client notes beside the files
    return target


def cached(repo_id: str, commit: str, patterns: list[str]) -> Path:
    """Return the folder in the client's cache with those files of a commit that match."""
    with _explained(repo_id, commit):
        return Path(snapshot_download(repo_id, revision=commit, allow_patterns=patterns))


def file(repo_id: str, commit: str, name: str) -> Path | None:
    """Return one file of a commit, None where the repository has none of that name."""
    with _explained(repo_id, commit):
        try:
            return Path(hf_hub_download(repo_id, name, revision=commit))
        except EntryNotFoundError:
            return None


@contextlib.contextmanager
def _explained(repo_id: str, revision: str | None) -> Iterator[None]:
    """Turn what the client raises into one line.

    Raises:
        UserError: names the repository, and what a reader can do.
    """
    try:
        yield
    except GatedRepoError:
        raise UserError(f"{repo_id}: asks for consent first: accept its terms on {constants.ENDPOINT}") from None
    except RevisionNotFoundError:
        raise UserError(f"{repo_id}: has no revision {revision!r}") from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{repo_id}: neither a folder here nor a repository that {constants.ENDPOINT} shows you; "
            "a private one needs a token (hf auth login)"
        ) from None
    except HFValidationError as error:
        raise UserError(f"{repo_id}: no id of the Hub: {error}") from None
    except (HTTPError, OSError, ValueError) as error:  # ValueError: the name of a file that would leave the folder
        raise UserError(f"{repo_id}: not read from {constants.ENDPOINT}: {error}") from None
