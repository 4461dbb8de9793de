"""Reading from the Hub: an id and a revision become a commit, and files of that commit; what fails is reported in one line."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    HTTPError,  # of the HTTP library that the client uses
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import filter_repo_objects, validate_repo_id

from train.errors import UserError


def is_id(name: str | None) -> bool:
    """Say whether a word that is no folder here could be an id on the Hub."""
    return name is not None and not Path(name).exists() and not name.startswith((".", "/", "~")) and is_repo_id(name)


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
        commit = HfApi().model_info(repo_id, revision=revision).sha
    # It becomes the name of a folder here; a server that is not the Hub may send anything.
    if commit is None or not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise UserError(f"{repo_id}: {constants.ENDPOINT} names no commit of {revision or 'its main branch'}")
    return commit


def commit_at(folder_or_id: str, revision: str | None) -> str | None:
    """Return the commit of a repository, None for a folder here.

    Raises:
        UserError: neither, a folder for which a revision is asked, or as `commit_of`.
    """
    if Path(folder_or_id).is_dir():
        if revision:
            raise UserError(f"--revision {revision}: {folder_or_id} is a folder here, which has no revisions")
        return None
    if not is_id(folder_or_id):
        raise UserError(f"{folder_or_id}: neither a folder nor an id of the Hub (user/name)")
    return commit_of(folder_or_id, revision)


def listing(repo_id: str, commit: str) -> dict[str, dict[str, Any]]:
    """Return every file of a commit with its size and its hash: sha256 where it is in large file storage, else git's."""
    with _explained(repo_id, commit):
        entries = list(HfApi().list_repo_tree(repo_id, recursive=True, revision=commit))
    listed: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if isinstance(entry, RepoFile):
            large = {"sha256": entry.lfs.sha256} if entry.lfs else {"blob_id": entry.blob_id}
            listed[entry.path] = {"size": entry.size} | large
    return listed


def folder(repo_id: str, commit: str, target: Path, entries: dict[str, dict[str, Any]] | None = None) -> Path:
    """Download all files of a commit into an empty folder; nothing that an earlier download left can help.

    Args:
        repo_id: the repository.
        commit: the commit.
        target: the folder, made here.
        entries: of `listing`, where it is known already.

    Raises:
        UserError: it has more bytes than are free, or as `commit_of`.
    """
    _refuse_size(repo_id, listing(repo_id, commit) if entries is None else entries, target.parent, "TMPDIR")
    with _explained(repo_id, commit):
        snapshot_download(repo_id, revision=commit, local_dir=target)
    shutil.rmtree(target / ".cache", ignore_errors=True)  # what the client notes beside the files
    return target


def cached(repo_id: str, commit: str, patterns: list[str]) -> Path:
    """Return the folder in the client's cache with those files of a commit that match.

    Raises:
        UserError: what the cache lacks has more bytes than are free, or as `commit_of`.
    """
    entries = listing(repo_id, commit)
    with _explained(repo_id, commit):  # the cache refuses a name that leaves its folder
        missing = {
            name: entries[name]
            for name in filter_repo_objects(entries, allow_patterns=patterns)
            if not isinstance(try_to_load_from_cache(repo_id, name, revision=commit), str)
        }
    _refuse_size(repo_id, missing, Path(constants.HF_HUB_CACHE), "HF_HOME")
    with _explained(repo_id, commit):
        return Path(snapshot_download(repo_id, revision=commit, allow_patterns=patterns))


def file(repo_id: str, commit: str, name: str, most: int) -> Path | None:
    """Return one file of a commit, None where the repository has none of that name.

    Raises:
        UserError: it has more bytes than `most`, and is not fetched; or as `commit_of`.
    """
    with _explained(repo_id, commit):
        entries = [
            entry for entry in HfApi().get_paths_info(repo_id, [name], revision=commit) if isinstance(entry, RepoFile)
        ]
    if not entries:
        return None
    if entries[0].size > most:
        raise UserError(f"{repo_id}: {name} has {entries[0].size:,} bytes, at most {most:,} are read")
    with _explained(repo_id, commit):
        return Path(hf_hub_download(repo_id, name, revision=commit))


def _refuse_size(repo_id: str, entries: dict[str, dict[str, Any]], folder: Path, variable: str) -> None:
    """Refuse to fetch what would fill the disk, before anything of it is fetched.

    Args:
        repo_id: the repository.
        entries: what is fetched, of `listing`.
        folder: where to; need not exist.
        variable: of the environment, that leads elsewhere.

    Raises:
        UserError: more bytes than are free.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    size, free = sum(entry["size"] for entry in entries.values()), shutil.disk_usage(existing).free
    if size > free:
        raise UserError(f"{repo_id}: has {size:,} bytes to fetch, and {free:,} are free in {existing}; set {variable}")


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
