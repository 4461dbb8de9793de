"""A repository of the Hub as it is now: what a folder would change in it, and what must not be spoilt."""

import dataclasses
import tempfile
from pathlib import Path

from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import GitRefs, RepoSibling

from modeling_vanilla import VanillaConfig
from train import files
from train.errors import UserError
from train.hub.client import Hub, in_words
from train.hub.folder import is_allowed

MAIN = "main"
# What the Hub itself, or its web page, puts into a new repository.
INITIAL = {".gitattributes", files.CARD}
WEIGHTS = tuple(".safetensors .bin .pt .pth .ckpt .h5 .msgpack .pkl .pickle .npz .gguf .onnx".split())


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a folder goes."""

    repo_id: str  # "user/name"
    revision: str = MAIN  # branch
    private: bool = False  # of the repository, where it has to be made
    create_pr: bool = False  # ask for the change instead of making it
    tag: str | None = None  # name for the commit


@dataclasses.dataclass(frozen=True)
class Remote:
    """A repository as it was at one moment."""

    exists: bool  # whether there is such a repository; all else means something only then
    private: bool = False  # whether only its owner sees it
    branch: bool = True  # whether the target's branch is there; where it is not, the rest is that of main
    head: str | None = None  # newest commit
    files: dict[str, RepoSibling] = dataclasses.field(default_factory=dict)  # files by name
    published: frozenset[str] = frozenset()  # those of them that an earlier publish wrote
    tagged: bool = False  # whether the newest commit has the target's tag already


def survey(hub: Hub, target: Target) -> Remote:
    """Look at where a folder is to go, and refuse what publishing would spoil; changes nothing.

    Raises:
        UserError: there is other content, the tag exists, the revision is no branch.
        PublishError: the Hub does not answer.
    """
    repo_id = target.repo_id
    with in_words(repo_id, "look at the repository"):
        remote = hub.attempt("look", lambda: look(hub, repo_id, target.revision))
        if not remote.exists:
            if target.create_pr:
                raise UserError(
                    f"{repo_id}: does not exist, so no change of it can be asked for; publish without --create-pr"
                )
            return remote
        refs = hub.attempt("look", lambda: hub.api.list_repo_refs(repo_id))
        _refuse_names(refs, target, remote)
        tagged = any(ref.name == target.tag for ref in refs.tags)
        return _refuse_foreign(hub, repo_id, dataclasses.replace(remote, tagged=tagged))


def look(hub: Hub, repo_id: str, revision: str = MAIN) -> Remote:
    """Return a revision's newest commit and its files with their digests, all of one moment."""
    try:
        info = hub.api.model_info(repo_id, revision=revision, files_metadata=True)
    except RevisionNotFoundError:
        return Remote(True) if revision == MAIN else dataclasses.replace(look(hub, repo_id), branch=False)
    except RepositoryNotFoundError:
        return Remote(False)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    return Remote(True, bool(info.private), True, info.sha, siblings)


def _refuse_names(refs: GitRefs, target: Target, remote: Remote) -> None:
    """Refuse a tag that is taken and a revision that no commit can be put on."""
    tags = {ref.name: ref.target_commit for ref in refs.tags}
    if target.tag in tags and tags[target.tag] != remote.head:
        raise UserError(
            f"--tag {target.tag}: {target.repo_id} has it, at {tags[target.tag]}; a tag stays where it is, name another"
        )
    branches = {MAIN, *(ref.name for ref in refs.branches)}
    if remote.branch and target.revision not in branches and not target.revision.startswith("refs/"):
        raise UserError(f"--revision {target.revision}: is a commit or a tag of {target.repo_id}, must be a branch")


def _refuse_foreign(hub: Hub, repo_id: str, remote: Remote) -> Remote:
    """Return a repository with what is known of its past, or say why it is not one for this model."""
    names = sorted(set(remote.files) - INITIAL)
    if not names:
        return remote
    kind = hub.attempt("look", lambda: _read_json(hub, repo_id, files.CONFIG, remote)).get("model_type")
    if kind != VanillaConfig.model_type:
        others = f"a model of type {kind!r}" if kind else f"other files ({', '.join(names[:3])})"
        raise UserError(f"{repo_id}: holds {others}, which has nothing to do with this run; name another repository")
    strange = [name for name in names if name.endswith(WEIGHTS) and not is_allowed(name)]
    if strange:
        raise UserError(
            f"{repo_id}: holds weights or pickles that publishing does not write ({', '.join(strange[:3])}): "
            f"`hf repos delete-files {repo_id} {strange[0]}` removes one; or name another repository"
        )
    listed = hub.attempt("look", lambda: _read_json(hub, repo_id, files.MANIFEST, remote)).get("files") or {}
    published = {name for name in [*listed, files.MANIFEST] if listed and is_allowed(name)}
    return dataclasses.replace(remote, published=frozenset(published & set(remote.files)))


def _read_json(hub: Hub, repo_id: str, name: str, remote: Remote) -> dict:
    """Return a small JSON document of a repository; nothing where it is missing, large, or none."""
    if name not in remote.files or (remote.files[name].size or 0) > 1 << 20:
        return {}
    with tempfile.TemporaryDirectory() as cache:
        path = hub.api.hf_hub_download(repo_id, name, revision=remote.head, cache_dir=cache)
        return files.read_object(Path(path))


def differences(folder: Path, remote: Remote) -> tuple[list[str], list[str]]:
    """Return which files of a folder a revision lacks or has otherwise, and which published ones it has too many."""
    names = sorted(path.name for path in folder.iterdir())
    changed = [name for name in names if name not in remote.files or not _same(folder / name, remote.files[name])]
    return changed, sorted(remote.published - set(names))


def _same(path: Path, sibling: RepoSibling) -> bool:
    """Compare a file with one on the Hub, which tells the sha256 of large files and git's sha1 of the others."""
    if sibling.lfs is not None:
        return files.sha256(path) == sibling.lfs.sha256
    if sibling.size is not None and path.stat().st_size != sibling.size:
        return False
    return files.git_hash(path) == sibling.blob_id
