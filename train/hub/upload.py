"""Send a folder to the Hub: one commit that is there as a whole or not at all, and is looked at afterwards.

What goes wrong is a `UserError` where the user has to change something, and a `PublishError` where trying again may help.
"""

import dataclasses
import tempfile
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import HTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.hf_api import GitRefs, RepoSibling

from modeling_vanilla import VanillaConfig
from train import files
from train.errors import PublishError, UserError
from train.hub.client import LOG_IN, Hub, in_words, require_login
from train.hub.folder import is_allowed

MAIN = "main"
# What the Hub itself, or its web page, puts into a new repository.
INITIAL = {".gitattributes", files.CARD}
WEIGHTS = (
    ".safetensors",
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".pkl",
    ".pickle",
    ".npz",
    ".gguf",
    ".onnx",
)


@dataclasses.dataclass(frozen=True)
class Target:
    """Where a folder goes.

    Attributes:
        repo_id: "user/name".
        revision: branch.
        private: of the repository, where it has to be made.
        create_pr: ask for the change instead of making it.
        tag: name for the commit.
    """

    repo_id: str
    revision: str = MAIN
    private: bool = False
    create_pr: bool = False
    tag: str | None = None


@dataclasses.dataclass(frozen=True)
class Remote:
    """A repository as it was when somebody looked.

    Attributes:
        exists: whether there is such a repository; all else means something only then.
        private: whether only its owner sees it.
        branch: whether the wanted branch is there; where it is not, the rest is that of main.
        head: newest commit.
        files: files by name.
        published: those of them that an earlier publish wrote.
        tagged: whether the newest commit has the wanted tag already.
    """

    exists: bool
    private: bool = False
    branch: bool = True
    head: str | None = None
    files: dict[str, RepoSibling] = dataclasses.field(default_factory=dict)
    published: frozenset[str] = frozenset()
    tagged: bool = False


@dataclasses.dataclass(frozen=True)
class Base:
    """What a folder was made from, where that is what the repository had.

    Attributes:
        commit: whose files they were; whatever was committed since must not be undone.
        replaced: files that go where the folder lacks them, also those that no manifest says were published.
    """

    commit: str
    replaced: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Sent:
    """What came of it.

    Attributes:
        commit: sha of the commit that has the folder's content.
        url: page of the commit, or of the pull request.
        new: whether the commit was made now.
    """

    commit: str
    url: str
    new: bool = True


def log_in(hub: Hub) -> list[str]:
    """Return whose token this is: the user's name, then those of the user's organisations.

    Raises:
        UserError: offline by request, no token, one that the Hub does not know, or one that may only read.
        PublishError: the Hub does not answer.
    """
    require_login()
    with in_words(hub.api.endpoint, "log in"):
        whose = hub.attempt("log in", hub.api.whoami)
    if ((whose.get("auth") or {}).get("accessToken") or {}).get("role") == "read":
        raise UserError(f"the token of {whose.get('name')} may only read: {LOG_IN}")
    return [whose["name"], *(group["name"] for group in whose.get("orgs") or [])]


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
                raise UserError(f"{repo_id}: does not exist, so there is nobody to ask; publish without --create-pr")
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
    found = {sibling.rfilename: sibling for sibling in info.siblings or []}
    return Remote(True, bool(info.private), True, info.sha, found)


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
    content = sorted(set(remote.files) - INITIAL)
    if not content:
        return remote
    kind = hub.attempt("look", lambda: _read_json(hub, repo_id, files.CONFIG, remote)).get("model_type")
    if kind != VanillaConfig.model_type:
        what = f"a model of type {kind!r}" if kind else f"other files ({', '.join(content[:3])})"
        raise UserError(f"{repo_id}: holds {what}, which has nothing to do with this run; name another repository")
    strange = [name for name in content if name.endswith(WEIGHTS) and not is_allowed(name)]
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
    own = sorted(path.name for path in folder.iterdir())
    changed = [name for name in own if name not in remote.files or not _same(folder / name, remote.files[name])]
    return changed, sorted(remote.published - set(own))


def _same(path: Path, there: RepoSibling) -> bool:
    """Compare a file with one on the Hub, which tells the sha256 of large files and git's sha1 of the others."""
    if there.lfs is not None:
        return files.sha256(path) == there.lfs.sha256
    if there.size is not None and path.stat().st_size != there.size:
        return False
    return files.git_hash(path) == there.blob_id


def send(hub: Hub, folder: Path, target: Target, message: str, base: Base | None = None) -> Sent:
    """Make the repository and the branch where they are missing, and put the folder there in one commit.

    Files that an earlier publish wrote and this folder lacks go in the same commit; whatever else is there stays.

    Args:
        hub: the way there.
        folder: files only, all of them on the allow-list.
        target: where to.
        message: of the commit.
        base: what the folder was made from; None = not from the repository.

    Raises:
        UserError: as `survey`, or the token may not write there.
        PublishError: the Hub or the way there failed for good, or somebody else committed meanwhile.
    """
    if strange := [
        path.name for path in folder.iterdir() if path.is_symlink() or not (path.is_file() and is_allowed(path.name))
    ]:
        raise RuntimeError(f"{folder}: {', '.join(strange)} must not be published")
    repo_id = target.repo_id
    before = survey(hub, target)
    if base is not None:
        if before.head != base.commit:
            raise PublishError(
                f"{repo_id}: somebody else changed it meanwhile, from {base.commit} to {before.head}; run the same command again"
            )
        before = dataclasses.replace(before, published=before.published | (base.replaced & set(before.files)))
    with hub.short_log():
        remote = _made(hub, target, before)
        changed, stale = differences(folder, remote)
        if before.tagged and (changed or stale):
            raise UserError(
                f"--tag {target.tag}: {repo_id} has it, at {remote.head} and other content; a tag stays where it is, "
                "name another"
            )
        sent = Sent(remote.head, f"{hub.api.endpoint}/{repo_id}/tree/{remote.head}", new=False)
        if changed or stale:
            try:
                with in_words(repo_id, "write to the repository"):
                    sent = _commit(hub, folder, target, remote, message)
            except (UserError, PublishError) as error:
                raise type(error)(f"{error}; {_aftermath(hub, target, remote, before.exists)}") from None
            _verify(hub, folder, target, sent)
    own = {path.name for path in folder.iterdir()}
    if kept := sorted(set(remote.files) - remote.published - own - INITIAL):
        hub.say(f"left alone in {repo_id}: {', '.join(kept[:5])}{' ...' if len(kept) > 5 else ''}")
    if target.tag:
        with in_words(repo_id, f"add the tag {target.tag} to the commit {sent.commit}, which is made"):
            hub.attempt(
                "tag", lambda: hub.api.create_tag(repo_id, tag=target.tag, revision=sent.commit, exist_ok=True)
            )
    return sent


def _made(hub: Hub, target: Target, remote: Remote) -> Remote:
    """Make what is missing of repository and branch, and return what the commit is put on."""
    repo_id, branch = target.repo_id, target.revision
    if not remote.exists:
        with in_words(repo_id, "make the repository"):
            hub.attempt("make", lambda: hub.api.create_repo(repo_id, private=target.private, exist_ok=True))
            hub.say(f"made the {'private' if target.private else 'public'} repository {repo_id}")
            remote = hub.attempt("look", lambda: look(hub, repo_id, branch))
    if not remote.branch:
        with in_words(repo_id, f"make the branch {branch}"):
            hub.attempt(
                "make", lambda: hub.api.create_branch(repo_id, branch=branch, revision=remote.head, exist_ok=True)
            )
        hub.say(f"made the branch {branch}")
    return remote


def _commit(hub: Hub, folder: Path, target: Target, remote: Remote, message: str) -> Sent:
    """Send the content, then make the commit; one whose answer was lost is found, and not made twice."""
    repo_id = target.repo_id
    changed, stale = differences(folder, remote)
    additions = [CommitOperationAdd(name, folder / name) for name in changed]
    earlier = hub.attempt("look", lambda: _requests(hub, repo_id, message)) if target.create_pr else set()
    hub.api.preupload_lfs_files(
        repo_id, additions, revision=target.revision, create_pr=target.create_pr, free_memory=False
    )
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *additions,
        *(CommitOperationDelete(name) for name in stale),
    ]

    def commit() -> Sent:
        info = hub.api.create_commit(
            repo_id,
            operations,
            commit_message=message,
            parent_commit=remote.head,
            revision=target.revision,
            create_pr=target.create_pr,
        )
        return Sent(info.oid, info.pr_url or info.commit_url)

    def made() -> Sent | None:
        """Return the commit if it is there: a branch that has moved to exactly this content."""
        try:
            revisions = {target.revision}
            if target.create_pr:
                revisions = {f"refs/pr/{number}" for number in _requests(hub, repo_id, message) - earlier}
            for revision in revisions:
                there = dataclasses.replace(look(hub, repo_id, revision), published=remote.published)
                if there.branch and differences(folder, there) == ([], []):
                    return Sent(there.head, f"{hub.api.endpoint}/{repo_id}/commit/{there.head}")
        except (HTTPError, OSError, ValueError):
            pass  # it cannot be seen now; a second commit on the same parent would be refused
        return None

    return hub.attempt("commit", commit, recover=made)


def _aftermath(hub: Hub, target: Target, remote: Remote, existed: bool) -> str:
    """Say what a commit that failed has left."""
    try:
        there = look(hub, target.repo_id, target.revision)
    except (HTTPError, OSError, ValueError):
        return "whether it was written cannot be seen now, the same command will tell"
    if there.head != remote.head:
        return "nothing of this run is in it"
    return "the repository is as it was" if existed else "the repository is there, without content"


def _requests(hub: Hub, repo_id: str, title: str) -> set[int]:
    """Return the numbers of the pull requests with a title."""
    found = hub.api.get_repo_discussions(repo_id, discussion_type="pull_request")
    return {one.num for one in found if one.title == title}


def _verify(hub: Hub, folder: Path, target: Target, sent: Sent) -> None:
    """Compare what the Hub has now, by its digests, with the folder.

    Raises:
        PublishError: it has something else, or does not answer.
    """
    with in_words(target.repo_id, f"look at the commit {sent.commit}, which is made"):
        there = hub.attempt("verify", lambda: look(hub, target.repo_id, sent.commit))
    if not there.branch:
        raise PublishError(
            f"{target.repo_id}: commit {sent.commit} is made, but the Hub does not show it yet: {sent.url}"
        )
    changed, _ = differences(folder, there)
    if changed:
        raise PublishError(f"{target.repo_id}: commit {sent.commit} has other content in {', '.join(changed)}")
