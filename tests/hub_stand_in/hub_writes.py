# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the stand-in for the Hub does for writers: repositories, branches, tags and commits.

Nothing of a commit is seen before all of it is checked.
"""

import json
import re

from hub_cards import check_card
from hub_protocol import Reply, Request, route
from hub_store import Discussion, File, Malformed, Problem, Repo
from hub_uploads import checked_path, contribute, decoded

NAME = re.compile(r"(?!.*(\.\.|--))[A-Za-z0-9_][A-Za-z0-9_.-]{0,94}[A-Za-z0-9_]|[A-Za-z0-9_]")
SPACES = ("hardware", "sleepTimeSeconds", "secrets", "variables", "volumes", "template")


# ---- repositories


def named(hub, request: Request, content: dict) -> tuple[str, str]:
    """Return kind and owner/name of a request that names a repository in its body."""
    owner = content.get("organization") or hub.signed_in(request)
    if not NAME.fullmatch(content["name"]):
        raise Malformed(f"{content['name']!r} is no name for a repository")
    return f"{content.get('type') or 'model'}s", f"{owner}/{content['name']}"


@route("POST", "/api/repos/create")
def create_repo(hub, request: Request) -> Reply:
    """Create a repository with its first commit."""
    user = hub.signed_in(request)
    content = request.json(("name", "organization"), ("type", "private", "visibility", "sdk", *SPACES))
    kind, name = named(hub, request, content)
    if kind == "spaces" and not content.get("sdk"):
        raise Problem(400, "a Space needs an sdk")
    if not hub.store.may_write(user, request.role, name.split("/")[0]):
        raise Problem(403, f'You don\'t have the rights to create a model under the namespace "{name.split("/")[0]}"')
    url = f"{hub.url}/{'' if kind == 'models' else kind + '/'}{name}"
    if (kind, name) in hub.store.repos:
        return Reply({"error": f"You already created this {kind[:-1]} repo", "url": url}, 409)
    hub.store.create(kind, name, content.get("private") or content.get("visibility") == "private", user)
    return Reply({"url": url, "name": name, "id": name})


@route("DELETE", "/api/repos/delete")
def delete_repo(hub, request: Request) -> Reply:
    """Delete a repository and all that was in it."""
    content = request.json(("name", "organization"), ("type",))
    repo = hub.write(request, *named(hub, request, content))
    del hub.store.repos[repo.kind, repo.name]
    return Reply({})


@route("PUT", "/api/{kind}/{repo}/settings")
def settings(hub, request: Request, kind: str, repo: str) -> Reply:
    """Change who may see a repository."""
    found = hub.write(request, kind, repo)
    content = request.json((), ("private", "visibility", "gated"))
    if "visibility" in content or "private" in content:
        found.private = content.get("private") or content.get("visibility") == "private"
    found.gated = bool(content.get("gated", found.gated))
    return Reply({"private": found.private, "gated": found.gated})


@route("POST", "/api/{kind}/{repo}/branch/{name}")
def create_branch(hub, request: Request, kind: str, repo: str, name: str) -> Reply:
    """Point a new branch at a revision."""
    found = hub.write(request, kind, repo)
    if name in found.branches or name.startswith("refs/"):
        raise Problem(409, f"Reference already exists: {name}")
    found.branches[name] = found.find(request.json((), ("startingPoint",)).get("startingPoint", "main")).sha
    return Reply({})


@route("DELETE", "/api/{kind}/{repo}/branch/{name}")
def delete_branch(hub, request: Request, kind: str, repo: str, name: str) -> Reply:
    """Forget a branch."""
    return forget(hub.write(request, kind, repo).branches, name)


@route("POST", "/api/{kind}/{repo}/tag/{revision}")
def create_tag(hub, request: Request, kind: str, repo: str, revision: str) -> Reply:
    """Point a new tag at a revision."""
    found = hub.write(request, kind, repo)
    tag = request.json(("tag",), ("message",))["tag"]
    if tag in found.tags:
        raise Problem(409, f"Tag reference already exists: {tag}")
    found.tags[tag] = found.find(revision).sha
    return Reply({})


@route("DELETE", "/api/{kind}/{repo}/tag/{name}")
def delete_tag(hub, request: Request, kind: str, repo: str, name: str) -> Reply:
    """Forget a tag."""
    return forget(hub.write(request, kind, repo).tags, name)


def forget(names: dict[str, str], name: str) -> Reply:
    """Remove a name; the commits stay."""
    if name == "main":
        raise Problem(403, "the branch main cannot be deleted")
    if names.pop(name, None) is None:
        raise Problem(404, f"Reference not found: {name}", "RevisionNotFound")
    return Reply({})


# ---- commits


@route("POST", "/api/{kind}/{repo}/commit/{revision}")
def commit(hub, request: Request, kind: str, repo: str, revision: str) -> Reply:
    """Make one commit out of all lines, or none; on a branch, or as a pull request."""
    pull = request.flag("create_pr")
    found = contribute(hub, request, kind, repo, pull)
    header, operations = lines(request)
    if not pull and revision not in found.branches and f"refs/{revision}" not in found.branches:
        raise Problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    head = found.find(revision)
    parent = header.get("parentCommit")
    if parent is not None and parent != head.sha:
        raise Problem(412, "A commit has happened since. Please refresh and try again.")
    files = dict(head.files)
    for key, value in operations:
        OPERATIONS[key](found, revision, files, value)
    card = files["README.md"].data.decode() if kind == "models" and "README.md" in files else ""
    if errors := check_card(card)[0]:
        raise Problem(400, f"README.md: {'; '.join(errors)}")
    author, title = request.user, header["summary"]
    made = hub.store.commit(found, head.sha, files, author, title, header["description"])
    content = {
        "success": True,
        "commitOid": made.sha,
        "commitUrl": f"{hub.url}/{found.prefix}{repo}/commit/{made.sha}",
    }
    if pull:
        number = len(found.discussions) + 1
        found.discussions.append(Discussion(number, title, author, made.date, True, base=revision))
        revision = f"refs/pr/{number}"
        content["pullRequestUrl"] = f"{hub.url}/{found.prefix}{repo}/discussions/{number}"
    found.branches[revision] = made.sha
    return Reply(content)


def lines(request: Request) -> tuple[dict, list[tuple[str, dict]]]:
    """Return the header and the operations of a commit."""
    if request.headers.get("content-type") != "application/x-ndjson":
        raise Malformed(f"a commit of type {request.headers.get('content-type')}")
    try:
        content = [json.loads(line) for line in request.body.splitlines()]
        pairs = [(line.pop("key"), line.pop("value")) for line in content]
    except (ValueError, KeyError, AttributeError) as error:
        raise Malformed(f"a line of a commit is wrong: {error!r}") from None
    if any(content) or not pairs or pairs[0][0] != "header":
        raise Malformed("a commit begins with a header, and a line has a key and a value")
    header = pairs[0][1]
    if not header.get("summary") or set(header) - {"summary", "description", "parentCommit"}:
        raise Malformed(f"header of a commit: {header}")
    if unknown := [key for key, _ in pairs[1:] if key not in OPERATIONS]:
        raise Malformed(f"operations {unknown} of a commit")
    return {"description": ""} | header, pairs[1:]


def keys(value: dict, required: set, optional: set = frozenset()) -> None:
    """Refuse an operation with other keys than these."""
    if not required <= set(value) <= required | optional:
        raise Malformed(f"an operation has the keys {sorted(value)}")


def add_file(repo: Repo, revision: str, files: dict[str, File], value: dict) -> None:
    """Take a small file out of the commit itself."""
    keys(value, {"path", "content", "encoding"})
    path, data = checked_path(value["path"]), decoded(value["content"])
    if value["encoding"] != "base64":
        raise Malformed(f"{path} is encoded as {value['encoding']}")
    if repo.goes_to_large_storage(revision, path, data[:512], len(data)):
        raise Malformed(f"{path} belongs to large file storage")
    put(files, path, File(data))


def add_large_file(repo: Repo, _: str, files: dict[str, File], value: dict) -> None:
    """Name a large file that was uploaded before."""
    keys(value, {"path", "algo", "oid"}, {"size"})
    path, data = checked_path(value["path"]), repo.objects.get(value["oid"])
    if data is None or len(data) != value.get("size", len(data)) or value["algo"] != "sha256":
        raise Malformed(f"{path}: no object {value} was uploaded")
    put(files, path, File(data, large=True))


def put(files: dict[str, File], path: str, file: File) -> None:
    """Add a file where no folder is, in folders that are no files."""
    parts = path.split("/")
    parents = {"/".join(parts[:n]) for n in range(1, len(parts))}
    if parents & set(files) or any(name.startswith(f"{path}/") for name in files):
        raise Problem(400, f"{path}: a file and a folder of one name")
    files[path] = file


def delete_file(_: Repo, revision: str, files: dict[str, File], value: dict) -> None:
    """Remove a file."""
    keys(value, {"path"})
    if files.pop(checked_path(value["path"]), None) is None:
        raise Problem(404, f"A file with this name doesn't exist: {value['path']}", "EntryNotFound")


def delete_folder(_: Repo, revision: str, files: dict[str, File], value: dict) -> None:
    """Remove a folder."""
    keys(value, {"path"})
    path = checked_path(value["path"].rstrip("/"))
    below = [name for name in files if name.startswith(f"{path}/")]
    if not below:
        raise Problem(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
    for name in below:
        del files[name]


OPERATIONS = {"file": add_file, "lfsFile": add_large_file, "deletedFile": delete_file, "deletedFolder": delete_folder}
