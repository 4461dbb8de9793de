# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Discussions and pull requests of the stand-in for the Hub."""

from hub_protocol import Reply, Request, route
from hub_store import Discussion, Problem, Repo
from hub_uploads import contribute


@route("GET", "/api/{kind}/{repo}/discussions")
def discussions(hub, request: Request, kind: str, repo: str) -> Reply:
    """List discussions, all on one page."""
    found = hub.see(request, kind, repo)
    status, sort, author = (request.query.get(name, [None])[-1] for name in ("status", "type", "author"))
    shown = [
        outline(found, d)
        for d in found.discussions
        if status in (None, "all", d.status if d.status == "open" else "closed")
        and sort in (None, "all", "pull_request" if d.pull else "discussion")
        and author in (None, d.author)
    ]
    return Reply({"count": len(shown), "start": 0, "discussions": shown})


def outline(repo: Repo, discussion: Discussion) -> dict:
    """Return what a list says of a discussion."""
    return {
        "num": discussion.number,
        "title": discussion.title,
        "author": {"name": discussion.author},
        "createdAt": discussion.date,
        "status": discussion.status,
        "repo": {"name": repo.name, "type": repo.kind[:-1]},
        "isPullRequest": discussion.pull,
    }


def numbered(repo: Repo, number: str) -> Discussion:
    """Return a discussion."""
    for discussion in repo.discussions:
        if discussion.number == int(number):
            return discussion
    raise Problem(404, f"Discussion {number} not found", "EntryNotFound")


@route("GET", "/api/{kind}/{repo}/discussions/{number}")
def details(hub, request: Request, kind: str, repo: str, number: str) -> Reply:
    """Describe a discussion; the difference of a pull request is a list of the files that differ."""
    found = hub.see(request, kind, repo)
    discussion = numbered(found, number)
    content = outline(found, discussion) | {"events": discussion.events}
    if discussion.pull:
        content["changes"] = {"base": f"refs/heads/{discussion.base}", "mergeCommitId": discussion.merged}
        content["filesWithConflicts"] = []
        base, head = found.find(discussion.base).files, found.find(f"refs/pr/{number}").files
        content["diff"] = "".join(f"{path}\n" for path in sorted(base | head) if base.get(path) != head.get(path))
    return Reply(content)


@route("POST", "/api/{kind}/{repo}/discussions")
def open_discussion(hub, request: Request, kind: str, repo: str) -> Reply:
    """Open a discussion or an empty pull request."""
    found = contribute(hub, request, kind, repo, pull=True)
    content = request.json(("title", "description", "pullRequest"))
    number = len(found.discussions) + 1
    discussion = Discussion(number, content["title"], request.user, hub.store.now(), content["pullRequest"])
    found.discussions.append(discussion)
    add_event(hub, request, discussion, "comment", comment(content["description"]))
    if discussion.pull:
        found.branches[f"refs/pr/{number}"] = found.find("main").sha
    return Reply({"num": number})


def comment(text: str) -> dict:
    """Return the content of a comment."""
    return {"edited": False, "hidden": False, "latest": {"raw": text}}


def add_event(hub, request: Request, discussion: Discussion, sort: str, data: dict) -> dict:
    """Write down what happened in a discussion."""
    event = {
        "id": f"event-{hub.store.next('event')}",
        "type": sort,
        "createdAt": hub.store.now(),
        "author": {"name": request.user},
        "data": data,
    }
    discussion.events.append(event)
    return event


@route("POST", "/api/{kind}/{repo}/discussions/{number}/comment")
def add_comment(hub, request: Request, kind: str, repo: str, number: str) -> Reply:
    """Say something."""
    discussion = numbered(contribute(hub, request, kind, repo, pull=True), number)
    text = request.json(("comment",))["comment"]
    return Reply({"newMessage": add_event(hub, request, discussion, "comment", comment(text))})


@route("POST", "/api/{kind}/{repo}/discussions/{number}/status")
def change_status(hub, request: Request, kind: str, repo: str, number: str) -> Reply:
    """Close or open a discussion."""
    discussion = numbered(hub.write(request, kind, repo), number)
    discussion.status = request.json(("status",), ("comment",))["status"]
    event = add_event(hub, request, discussion, "status-change", {"status": discussion.status})
    return Reply({"newStatus": event})


@route("POST", "/api/{kind}/{repo}/discussions/{number}/merge")
def merge(hub, request: Request, kind: str, repo: str, number: str) -> Reply:
    """Bring a pull request into its base: the files that it changed, where nobody else changed them since."""
    found = hub.write(request, kind, repo)
    discussion = numbered(found, number)
    if not discussion.pull or discussion.status != "open":
        raise Problem(400, f"discussion {number} is no open pull request")
    ours, theirs = found.history(discussion.base), found.history(f"refs/pr/{number}")
    known = {c.sha for c in ours}
    start = next(c for c in theirs if c.sha in known)
    changed = {p for p in start.files | theirs[0].files if start.files.get(p) != theirs[0].files.get(p)}
    if conflicts := sorted(p for p in changed if start.files.get(p) != ours[0].files.get(p)):
        raise Problem(409, f"conflicts in {', '.join(conflicts)}")
    files = {p: f for p, f in ours[0].files.items() if p not in changed}
    files |= {p: theirs[0].files[p] for p in changed if p in theirs[0].files}
    made = hub.store.commit(found, ours[0].sha, files, request.user, f"{discussion.title} (#{number})")
    found.branches[discussion.base] = made.sha
    discussion.status, discussion.merged = "merged", made.sha
    add_event(hub, request, discussion, "status-change", {"status": "merged"})
    return Reply({})
