# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""What the stand-in of the Hub remembers: users and their tokens, repositories, commits. All of it in memory."""

import fnmatch
import hashlib
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

# What a new repository sends to large file storage by name; other files go there by size, or because they are not text.
GIT_ATTRIBUTES = "".join(
    f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n"
    for suffix in (
        ".bin .gz .h5 .model .msgpack .npy .npz .onnx .parquet .pt .pth .safetensors .zip *tfevents*"
    ).split()
)
LARGE = 10 * 1024 * 1024  # bytes


class Problem(Exception):
    """An answer that is not a success: status, the Hub's code for it, and a message."""

    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


class Malformed(Problem):
    """A request that no right client sends; it is answered with 400 and remembered as a complaint."""

    def __init__(self, message: str):
        super().__init__(400, message)


@dataclass(frozen=True)
class File:
    """One file of a commit: its bytes, and whether they lie in large file storage."""

    data: bytes
    large: bool = False

    @property
    def sha256(self) -> str:
        """Return the hash by which large files are named."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def pointer(self) -> bytes:
        """Return what git itself holds of a large file."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()
        )

    @property
    def blob(self) -> str:
        """Return git's name for the file."""
        data = self.pointer if self.large else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def content_id(self) -> str:
        """Return what a client compares with its own file: SHA-256 of a large one, git's name of another."""
        return self.sha256 if self.large else self.blob


@dataclass(frozen=True)
class Commit:
    """A state of all files, which nothing changes any more."""

    sha: str
    parent: str | None
    files: dict[str, File]
    title: str
    message: str
    author: str
    date: str


@dataclass
class Discussion:
    """A discussion, or a pull request with its branch refs/pr/N."""

    number: int
    title: str
    author: str
    date: str
    pull: bool
    status: str = "open"
    base: str = "main"
    merged: str | None = None
    events: list[dict] = field(default_factory=list)


@dataclass
class Repo:
    """A repository: commits by their sha, and the names that point at them."""

    kind: str  # models, datasets or spaces
    name: str  # owner/name
    private: bool = False
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)  # refs/pr/N too
    tags: dict[str, str] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)  # large files, by SHA-256, committed or not
    discussions: list[Discussion] = field(default_factory=list)

    @property
    def prefix(self) -> str:
        """Return what stands before the name in addresses of pages and files."""
        return "" if self.kind == "models" else f"{self.kind}/"

    def find(self, revision: str) -> Commit:
        """Return the commit of a branch, a tag or a (long enough) beginning of its sha."""
        sha = self.branches.get(revision) or self.tags.get(revision) or self.branches.get(f"refs/{revision}")
        if sha is None and len(revision) >= 7:
            sha = next((known for known in self.commits if known.startswith(revision)), None)
        if sha is None:
            raise Problem(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[sha]

    def history(self, revision: str) -> list[Commit]:
        """Return a commit and its ancestors, newest first."""
        commit = self.find(revision)
        found = [commit]
        while commit.parent:
            commit = self.commits[commit.parent]
            found.append(commit)
        return found

    def last_change(self, revision: str, path: str) -> Commit:
        """Return the newest commit that changed a file or something in a folder."""
        commits = self.history(revision)

        def below(commit: Commit) -> dict:
            return {p: f.blob for p, f in commit.files.items() if p == path or p.startswith(f"{path}/")}

        for commit, older in itertools.pairwise(commits):
            if below(commit) != below(older):
                return commit
        return commits[-1]

    def goes_to_large_storage(self, revision: str, path: str, sample: bytes, size: int) -> bool:
        """Tell where the Hub wants a file: by its name in .gitattributes, by its size, or because it is not text."""
        attributes = self.find(revision).files.get(".gitattributes", File(b"")).data.decode()
        patterns = [line.split()[0] for line in attributes.splitlines() if "filter=lfs" in line]
        named = any(fnmatch.fnmatch(path.split("/")[-1], pattern) for pattern in patterns)
        return size > 0 and (named or size > LARGE or b"\0" in sample)


@dataclass
class User:
    """Somebody with tokens; a role per organisation: read or write."""

    name: str
    orgs: dict[str, str] = field(default_factory=dict)


class Store:
    """All users and repositories."""

    def __init__(self):
        self.users: dict[str, User] = {}
        self.tokens: dict[str, tuple[str, str]] = {}  # token: (user, role)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.uploads: dict[str, dict] = {}  # by a secret in their address: what a PUT may send, as signed addresses do
        self._numbers = defaultdict(itertools.count)
        self._start = datetime.now(timezone.utc)

    def next(self, name: str) -> int:
        """Count: 0, 1, 2 ..."""
        return next(self._numbers[name])

    def now(self) -> str:
        """Return a time that differs from all before."""
        moment = self._start + timedelta(milliseconds=self.next("time"))
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"

    def may_write(self, user: str | None, role: str | None, owner: str) -> bool:
        """Tell whether a token of a user may write to what belongs to a user or an organisation."""
        if user is None or role != "write":
            return False
        return user == owner or self.users[user].orgs.get(owner) == "write"

    def may_read(self, user: str | None, repo: Repo) -> bool:
        """Tell whether a user may see a repository."""
        owner = repo.name.split("/")[0]
        return not repo.private or user == owner or (user is not None and owner in self.users[user].orgs)

    def create(self, kind: str, name: str, private: bool, author: str) -> Repo:
        """Make a repository with its first commit, as the Hub does."""
        repo = Repo(kind, name, private)
        self.repos[kind, name] = repo
        repo.branches["main"] = self.commit(repo, None, {".gitattributes": File(GIT_ATTRIBUTES.encode())}, author).sha
        return repo

    def commit(
        self, repo: Repo, parent: str | None, files: dict[str, File], author: str, title="initial commit", message=""
    ):
        """Keep a new state of the files; no branch points at it yet."""
        date = self.now()
        names = "".join(f"{path} {file.blob}\n" for path, file in sorted(files.items()))
        sha = hashlib.sha1(f"{repo.kind} {repo.name} {parent} {date} {title} {names}".encode()).hexdigest()
        repo.commits[sha] = Commit(sha, parent, dict(files), title, message, author, date)
        return repo.commits[sha]
