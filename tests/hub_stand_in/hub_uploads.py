# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Uploads to the stand-in for the Hub: how each file has to be sent, and large file storage.

An uploaded large file is seen by nobody before a commit names it.
"""

import base64
import binascii
import fnmatch
import hashlib
import re
import secrets

from hub_protocol import Reply, Request, route
from hub_store import File, Malformed, Problem, Repo


def contribute(hub, request: Request, kind: str, name: str, pull: bool) -> Repo:
    """Return a repository to write to; for a pull request it is enough to see it."""
    if not pull:
        return hub.write(request, kind, name)
    repo = hub.see(request, kind, name)
    hub.signed_in(request)
    if request.role != "write":
        raise Problem(403, "Forbidden: this token may only read")
    return repo


@route("POST", "/api/{kind}/{repo}/preupload/{revision}")
def preupload(hub, request: Request, kind: str, repo: str, revision: str) -> Reply:
    """Say of each file how it has to be sent, and whether it is ignored or there already."""
    found = contribute(hub, request, kind, repo, request.flag("create_pr"))
    content = request.json(("files",), ("gitIgnore",))
    commit = found.find(revision)
    ignore = content.get("gitIgnore", commit.files.get(".gitignore", File(b"")).data.decode())
    answers = []
    for entry in content["files"]:
        if set(entry) != {"path", "sample", "size"}:
            raise Malformed(f"preupload: an entry has the keys {sorted(entry)}")
        path = checked_path(entry["path"])
        large = found.goes_to_large_storage(revision, path, decoded(entry["sample"]), entry["size"])
        old = commit.files.get(path)
        answers.append(
            {
                "path": path,
                "uploadMode": "lfs" if large else "regular",
                "shouldIgnore": ignored(path, ignore),
                "oid": old.content_id if old and old.large == large else None,
            }
        )
    return Reply({"files": answers, "commitOid": commit.sha})


def ignored(path: str, rules: str) -> bool:
    """Tell whether a .gitignore of plain names and patterns leaves a file out."""
    parts = path.split("/")
    for rule in (line.strip() for line in rules.splitlines()):
        if rule.startswith("!"):
            raise Problem(501, f"this stand-in does not know rules of .gitignore such as {rule!r}")
        if rule and not rule.startswith("#"):
            wanted = rule.strip("/")
            names = parts[:-1] if rule.endswith("/") else parts
            if fnmatch.fnmatch(path, wanted) or any(fnmatch.fnmatch(name, wanted) for name in names):
                return True
    return False


def decoded(text: str) -> bytes:
    """Return the bytes of a base64 text."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise Malformed(f"not base64: {str(text)[:40]!r}") from None


def checked_path(path) -> str:
    """Return a path inside a repository."""
    parts = path.split("/") if isinstance(path, str) else [""]
    if any(part in ("", ".", "..", ".git") for part in parts) or "\\" in path or "\0" in path:
        raise Malformed(f"{path!r} is not a path inside a repository")
    return path


@route("POST", "/{prefix}{repo}.git/info/lfs/objects/batch")
def lfs_batch(hub, request: Request, prefix: str, repo: str) -> Reply:
    """Say where each large file is to be sent: whole, in parts, or not again."""
    kind = prefix.rstrip("/") or "models"
    content = request.json(("operation", "transfers", "objects", "hash_algo"), ("ref",))
    found = contribute(hub, request, kind, repo, pull="ref" not in content)
    if content["operation"] != "upload" or content["hash_algo"] != "sha256" or "basic" not in content["transfers"]:
        raise Malformed(f"LFS batch: {content}")
    objects = []
    for wanted in content["objects"]:
        oid, size = wanted.get("oid"), wanted.get("size")
        if set(wanted) != {"oid", "size"} or not re.fullmatch("[0-9a-f]{64}", str(oid)) or not isinstance(size, int):
            raise Malformed(f"LFS batch: {wanted}")
        answer = {"oid": oid, "size": size, "authenticated": True}
        if oid not in found.objects:
            upload = upload_action(hub, found, oid, size, "multipart" in content["transfers"])
            verify = {"href": f"{hub.url}/{prefix}{repo}.git/info/lfs/objects/verify"}
            answer["actions"] = {"upload": upload, "verify": verify}
        objects.append(answer)
    return Reply({"transfer": "basic", "objects": objects})


def upload_action(hub, repo: Repo, oid: str, size: int, parts_allowed: bool) -> dict:
    """Return the address, or the addresses, for one large file; whoever knows it may write there."""
    secret = secrets.token_hex(16)
    count = -(-size // hub.part_size) if parts_allowed and size > hub.part_size else 0
    hub.store.uploads[secret] = {"repo": repo, "oid": oid, "size": size, "parts": dict.fromkeys(range(1, count + 1))}
    if not count:
        return {"href": f"{hub.storage_url}/upload/{secret}"}
    header = {str(n): f"{hub.storage_url}/upload/{secret}/{n}" for n in range(1, count + 1)}
    return {
        "href": f"{hub.storage_url}/upload/{secret}/complete",
        "header": {"chunk_size": str(hub.part_size)} | header,
    }


def upload_of(hub, secret: str) -> dict:
    """Return what may be sent to an address."""
    if secret not in hub.store.uploads:
        raise Problem(403, "this address was never given out")
    return hub.store.uploads[secret]


@route("PUT", "/upload/{secret}")
def upload(hub, request: Request, secret: str) -> Reply:
    """Take a whole large file."""
    keep_object(upload_of(hub, secret), request.body)
    return Reply(b"", headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


@route("PUT", "/upload/{secret}/{number}")
def upload_part(hub, request: Request, secret: str, number: str) -> Reply:
    """Take a part of a large file."""
    parts = upload_of(hub, secret)["parts"]
    if int(number) not in parts or len(request.body) > hub.part_size:
        raise Malformed(f"part {number} of {len(request.body)} bytes, of {len(parts)} parts")
    parts[int(number)] = request.body
    return Reply(b"", headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


@route("POST", "/upload/{secret}/complete")
def complete(hub, request: Request, secret: str) -> Reply:
    """Put the parts together."""
    wanted = upload_of(hub, secret)
    content = request.json(("oid", "parts"))
    sent = {
        part["partNumber"]: part["etag"].strip('"') for part in content["parts"] if set(part) == {"partNumber", "etag"}
    }
    here = {n: hashlib.md5(data).hexdigest() for n, data in wanted["parts"].items() if data is not None}
    if content["oid"] != wanted["oid"] or sent != here or len(here) != len(wanted["parts"]):
        raise Malformed(f"parts {sorted(sent)} of {content['oid']} are said to be complete, {sorted(here)} are here")
    keep_object(wanted, b"".join(wanted["parts"].values()))
    return Reply({})


def keep_object(wanted: dict, data: bytes) -> None:
    """Keep a large file, if it is the one that was announced."""
    if len(data) != wanted["size"] or hashlib.sha256(data).hexdigest() != wanted["oid"]:
        raise Malformed(f"{len(data)} bytes came, announced were {wanted['size']} with SHA-256 {wanted['oid']}")
    wanted["repo"].objects[wanted["oid"]] = data


@route("POST", "/{prefix}{repo}.git/info/lfs/objects/verify")
def verify(hub, request: Request, prefix: str, repo: str) -> Reply:
    """Confirm a large file."""
    found = contribute(hub, request, prefix.rstrip("/") or "models", repo, pull=True)
    content = request.json(("oid", "size"))
    if len(found.objects.get(content["oid"], b"")) != content["size"]:
        raise Malformed(f"verify: no object {content['oid']} of {content['size']} bytes")
    return Reply({})
