"""Send a folder to the Hub: one commit that is there as a whole or not at all, and is looked at afterwards.

What goes wrong is a `UserError` where the user has to change something, and a `PublishError` where trying again may help.
"""

import dataclasses
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from huggingface_hub.errors import HTTPError

from train.errors import PublishError, UserError
from train.hub import repository
from train.hub.client import Hub, in_words
from train.hub.folder import is_allowed
from train.hub.repository import INITIAL, Remote, Target, differences


@dataclasses.dataclass(frozen=True)
class Base:
    """What a folder was made from, where that is what the repository had."""

    commit: str  # whose files they were; whatever was committed since must not be undone
    # Files that go where the folder lacks them, also those that no manifest says were published.
    replaced: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Sent:
    """What came of it."""

    commit: str  # sha of the commit that has the folder's content
    url: str  # page of the commit, or of the pull request
    new: bool = True  # whether the commit was made now


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
        UserError: as `repository.survey`, or the token may not write there.
        PublishError: the Hub or the way there failed for good, or there is a newer commit by now.
    """
    paths = sorted(folder.iterdir())
    if strange := [path.name for path in paths if path.is_symlink() or not (path.is_file() and is_allowed(path.name))]:
        raise RuntimeError(f"{folder}: {', '.join(strange)} must not be published")
    before = repository.survey(hub, target)
    if base is not None:
        if before.head != base.commit:
            raise PublishError(
                f"{target.repo_id}: it was changed meanwhile, from {base.commit} to {before.head}; "
                "run the same command again"
            )
        before = dataclasses.replace(before, published=before.published | (base.replaced & set(before.files)))
    with hub.short_log():
        remote = _made(hub, target, before)
        sent = _sent(hub, folder, target, remote, message, before.exists)
    if kept := sorted(set(remote.files) - remote.published - {path.name for path in paths} - INITIAL):
        hub.say(f"left alone in {target.repo_id}: {', '.join(kept[:5])}{' ...' if len(kept) > 5 else ''}")
    if target.tag:
        with in_words(target.repo_id, f"add the tag {target.tag} to the commit {sent.commit}, which is made"):
            hub.attempt(
                "tag", lambda: hub.api.create_tag(target.repo_id, tag=target.tag, revision=sent.commit, exist_ok=True)
            )
    return sent


def _made(hub: Hub, target: Target, remote: Remote) -> Remote:
    """Make what is missing of repository and branch, and return what the commit is put on."""
    repo_id, branch = target.repo_id, target.revision
    if not remote.exists:
        with in_words(repo_id, "make the repository"):
            hub.attempt("make", lambda: hub.api.create_repo(repo_id, private=target.private, exist_ok=True))
            hub.say(f"made the {'private' if target.private else 'public'} repository {repo_id}")
            remote = hub.attempt("look", lambda: repository.look(hub, repo_id, branch))
    if not remote.branch:
        with in_words(repo_id, f"make the branch {branch}"):
            hub.attempt(
                "make", lambda: hub.api.create_branch(repo_id, branch=branch, revision=remote.head, exist_ok=True)
            )
        hub.say(f"made the branch {branch}")
    return remote


def _sent(hub: Hub, folder: Path, target: Target, remote: Remote, message: str, existed: bool) -> Sent:
    """Commit what differs, where anything does, and look at it afterwards."""
    repo_id = target.repo_id
    changed, stale = differences(folder, remote)
    if not changed and not stale:
        return Sent(remote.head, f"{hub.api.endpoint}/{repo_id}/tree/{remote.head}", new=False)
    if remote.tagged:
        raise UserError(
            f"--tag {target.tag}: {repo_id} has it, at {remote.head} and other content; a tag stays where it is, "
            "name another"
        )
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationAdd(name, folder / name) for name in changed),
        *(CommitOperationDelete(name) for name in stale),
    ]
    try:
        with in_words(repo_id, "write to the repository"):
            sent = _commit(hub, folder, target, remote, message, operations)
    except (UserError, PublishError) as error:
        raise type(error)(f"{error}; {_aftermath(hub, target, remote, existed)}") from None
    _verify(hub, folder, target, sent)
    return sent


def _commit(
    hub: Hub,
    folder: Path,
    target: Target,
    remote: Remote,
    message: str,
    operations: list[CommitOperationAdd | CommitOperationDelete],
) -> Sent:
    """Send the content, then make the commit; one whose answer was lost is found, and not made twice."""
    repo_id = target.repo_id
    earlier = hub.attempt("look", lambda: _requests(hub, repo_id, message)) if target.create_pr else set()

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
                now = dataclasses.replace(repository.look(hub, repo_id, revision), published=remote.published)
                if now.branch and differences(folder, now) == ([], []):
                    return Sent(now.head, f"{hub.api.endpoint}/{repo_id}/commit/{now.head}")
        except (HTTPError, OSError, ValueError):
            pass  # it cannot be seen now; a second commit on the same parent would be refused
        return None

    return hub.attempt("commit", commit, recover=made)


def _aftermath(hub: Hub, target: Target, remote: Remote, existed: bool) -> str:
    """Say what a commit that failed has left."""
    try:
        now = repository.look(hub, target.repo_id, target.revision)
    except (HTTPError, OSError, ValueError):
        return "whether it was written cannot be seen now, the same command will tell"
    if now.head != remote.head:
        return "nothing of this run is in it"
    return "the repository is as it was" if existed else "the repository is there, without content"


def _requests(hub: Hub, repo_id: str, title: str) -> set[int]:
    """Return the numbers of the pull requests with a title."""
    requests = hub.api.get_repo_discussions(repo_id, discussion_type="pull_request")
    return {request.num for request in requests if request.title == title}


def _verify(hub: Hub, folder: Path, target: Target, sent: Sent) -> None:
    """Compare what the Hub has now, by its digests, with the folder.

    Raises:
        PublishError: it has something else, or does not answer.
    """
    with in_words(target.repo_id, f"look at the commit {sent.commit}, which is made"):
        now = hub.attempt("verify", lambda: repository.look(hub, target.repo_id, sent.commit))
    if not now.branch:
        raise PublishError(
            f"{target.repo_id}: commit {sent.commit} is made, but the Hub does not show it yet: {sent.url}"
        )
    if changed := differences(folder, now)[0]:
        raise PublishError(f"{target.repo_id}: commit {sent.commit} has other content in {', '.join(changed)}")
