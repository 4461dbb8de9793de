# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the stand-in for the Hub answers to readers: who am I, what is there, the files themselves."""

import json
import re
from urllib.parse import parse_qs, quote

import yaml
from hub_protocol import Reply, Request, route
from hub_store import Commit, File, Malformed, Problem, Repo


@route("GET", "/api/whoami-v2")
def whoami(hub, request: Request) -> Reply:
    """Say whose token it is."""
    name = hub.signed_in(request)
    user = hub.store.users[name]
    return Reply(
        {
            "type": "user",
            "id": name,
            "name": name,
            "fullname": name.title(),
            "orgs": [{"type": "org", "name": org, "roleInOrg": role} for org, role in user.orgs.items()],
            "auth": {"type": "access_token", "accessToken": {"displayName": name, "role": request.role}},
        }
    )


@route("GET", "/api/{kind}/{repo}/auth-check")
@route("GET", "/api/{kind}/{repo}/auth-check/write")
def auth_check(hub, request: Request, kind: str, repo: str) -> Reply:
    """Say whether this token may read, or write."""
    hub.write(request, kind, repo) if request.path.endswith("/write") else hub.see(request, kind, repo)
    return Reply({})


# ---- a repository


@route("GET", "/api/{kind}/{any_repo}")
@route("GET", "/api/{kind}/{any_repo}/revision/{revision}")
def info(hub, request: Request, kind: str, any_repo: str, revision: str = "main") -> Reply:
    """Describe a revision: its sha, its files, what the card and the config say."""
    repo = hub.see(request, kind, any_repo)
    commit = repo.find(revision)
    card = card_data(commit)
    tags = card.get("tags") or []
    config = json.loads(commit.files["config.json"].data) if "config.json" in commit.files else {}
    content = {
        "_id": repo.name,
        "id": repo.name,
        "modelId": repo.name,
        "author": repo.name.split("/")[0],
        "sha": commit.sha,
        "private": repo.private,
        "gated": "auto" if repo.gated else False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [*tags, *([f"license:{card['license']}"] if "license" in card else [])],
        "pipeline_tag": card.get("pipeline_tag"),
        "library_name": card.get("library_name", "transformers" if config else None),
        "cardData": card or None,
        "model-index": card.get("model-index"),
        "config": {name: config[name] for name in ("architectures", "model_type", "auto_map") if name in config},
        "createdAt": repo.history("main")[-1].date,
        "lastModified": commit.date,
        "siblings": [sibling(path, file, request.flag("blobs")) for path, file in sorted(commit.files.items())],
    }
    return Reply(content)


def card_data(commit: Commit) -> dict:
    """Return the front matter of README.md."""
    text = commit.files.get("README.md", File(b"")).data.decode("utf-8", "replace")
    found = re.match(r"\s*---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    return (yaml.safe_load(found[1]) or {}) if found else {}


def sibling(path: str, file: File, blobs: bool) -> dict:
    """Return a file as the description of a repository lists it."""
    if not blobs:
        return {"rfilename": path}
    entry = {"rfilename": path, "size": len(file.data), "blobId": file.blob}
    if file.large:
        entry["lfs"] = {"sha256": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    return entry


@route("GET", "/api/{kind}/{repo}/refs")
def refs(hub, request: Request, kind: str, repo: str) -> Reply:
    """List branches, tags, and pull requests where they are asked for."""
    found = hub.see(request, kind, repo)

    def entries(names: dict[str, str], below: str) -> list[dict]:
        return [{"name": n.removeprefix("refs/pr/"), "ref": below + n, "targetCommit": s} for n, s in names.items()]

    pulls = {name: sha for name, sha in found.branches.items() if name.startswith("refs/pr/")}
    content = {
        "branches": entries({n: s for n, s in found.branches.items() if n not in pulls}, "refs/heads/"),
        "tags": entries(found.tags, "refs/tags/"),
        "converts": [],
    }
    return Reply(content | ({"pullRequests": entries(pulls, "")} if request.flag("include_prs") else {}))


@route("GET", "/api/{kind}/{repo}/commits/{revision}")
def commits(hub, request: Request, kind: str, repo: str, revision: str) -> Reply:
    """List the history of a revision, newest first."""
    entries = [
        {"id": c.sha, "title": c.title, "message": c.message, "authors": [{"user": c.author}], "date": c.date}
        for c in hub.see(request, kind, repo).history(revision)
    ]
    return page(hub, request, entries)


@route("GET", "/api/{kind}/{any_repo}/tree/{revision}")
@route("GET", "/api/{kind}/{any_repo}/tree/{revision}/{path}")
def tree(hub, request: Request, kind: str, any_repo: str, revision: str, path: str = "") -> Reply:
    """List files and folders, of one folder or with all below it."""
    repo = hub.see(request, kind, any_repo)
    files = repo.find(revision).files
    start = f"{path.rstrip('/')}/" if path else ""
    below = sorted(p for p in files if p.startswith(start))
    if path and not below:
        raise Problem(404, f'{path} does not exist on "{revision}"', "EntryNotFound")
    shown = {}
    for name in below:
        parts = name[len(start) :].split("/")
        for depth in range(1, len(parts) + 1) if request.flag("recursive") else (1,):
            shown[start + "/".join(parts[:depth])] = None
    return page(hub, request, [entry(repo, revision, name, request.flag("expand")) for name in shown])


def entry(repo: Repo, revision: str, path: str, expand: bool) -> dict:
    """Return one file or folder of a tree."""
    commit = repo.find(revision)
    file = commit.files.get(path)
    if file is None:
        found = {"type": "directory", "oid": File(f"{commit.sha} {path}".encode()).blob, "size": 0, "path": path}
    else:
        found = {"type": "file", "oid": file.blob, "size": len(file.data), "path": path}
        if file.large:
            found["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
    if expand:
        last = repo.last_change(revision, path)
        found["lastCommit"] = {"id": last.sha, "title": last.title, "date": last.date}
    return found


def page(hub, request: Request, entries: list) -> Reply:
    """Return one page of a list, with the address of the next."""
    start = int(request.query.get("cursor", ["0"])[-1])
    end = start + hub.page_size
    if end >= len(entries):
        return Reply(entries[start:])
    kept = "".join(f"{n}={quote(v)}&" for n, vs in request.query.items() if n != "cursor" for v in vs)
    return Reply(entries[start:end], headers={"Link": f'<{hub.url}{request.path}?{kept}cursor={end}>; rel="next"'})


@route("POST", "/api/{kind}/{repo}/paths-info/{revision}")
def paths_info(hub, request: Request, kind: str, repo: str, revision: str) -> Reply:
    """Describe the named paths that exist."""
    found = hub.see(request, kind, repo)
    files = found.find(revision).files
    form = parse_qs(request.body.decode())
    if unknown := set(form) - {"paths", "expand"}:
        raise Malformed(f"paths-info: unknown fields {sorted(unknown)}")
    expand = form.get("expand", ["false"])[-1].lower() == "true"
    known = [p.rstrip("/") for p in form.get("paths", []) if p in files or any(n.startswith(f"{p}/") for n in files)]
    return Reply([entry(found, revision, path, expand) for path in known])


# ---- files


@route("GET", "/{prefix}{any_repo}/resolve/{revision}/{path}")
def resolve(hub, request: Request, prefix: str, any_repo: str, revision: str, path: str) -> Reply:
    """Send a file, or the way to a large one."""
    repo = hub.see(request, prefix.rstrip("/") or "models", any_repo)
    commit = repo.find(revision)
    if repo.gated and not hub.store.may_write(request.user, "write", repo.name.split("/")[0]):
        message = f"Access to model {repo.name} is restricted. You must be authenticated and have been granted access."
        raise Problem(403 if request.user else 401, message, "GatedRepo")
    headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    file = commit.files.get(path)
    if file is None:
        missing = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return Reply({"error": "Entry not found"}, 404, headers | missing)
    if file.large:
        address = f"{hub.storage_url}/large-files/{repo.kind}/{repo.name}/{file.sha256}"
        linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.data)), "Location": address}
        return Reply(b"", 302, headers | linked | {"ETag": f'"{file.blob}"'})
    return ranged(request, file.data, headers | {"ETag": f'"{file.blob}"'})


@route("GET", "/large-files/{kind}/{repo}/{oid}")
def large_file(hub, request: Request, kind: str, repo: str, oid: str) -> Reply:
    """Send a large file, as the Hub's storage does: whoever has its address may have it, and no token is told there."""
    if "authorization" in request.headers:
        raise Malformed("a token was sent to the storage of large files")
    data = hub.store.repos[kind, repo].objects.get(oid)
    if data is None:
        raise Problem(404, "no such object")
    return ranged(request, data, {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})


def ranged(request: Request, data: bytes, headers: dict[str, str]) -> Reply:
    """Send bytes, or the range of them that is asked for."""
    headers = headers | {"Content-Type": "application/octet-stream"}
    wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if wanted is None or wanted[0] == "bytes=-":
        return Reply(data, headers=headers)
    if not wanted[1]:  # the last so many bytes
        start, end = max(len(data) - int(wanted[2]), 0), len(data)
    else:
        start, end = int(wanted[1]), min(int(wanted[2]) + 1 if wanted[2] else len(data), len(data))
    if start >= end:
        return Reply(b"", 416, headers | {"Content-Range": f"bytes */{len(data)}"})
    return Reply(data[start:end], 206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"})
