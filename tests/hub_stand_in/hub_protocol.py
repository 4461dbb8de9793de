# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Requests and answers of the stand-in for the Hub, and the table of what it knows."""

import json
import re
from dataclasses import dataclass, field

from hub_store import Malformed

PARTS = {
    "kind": "models|datasets|spaces",
    "prefix": "(?:datasets/|spaces/)?",
    "repo": "[^/]+/[^/]+",
    "any_repo": "[^/]+(?:/[^/]+)?",  # also names without an owner, which somebody may ask for and nobody has here
    "path": ".*",
    "number": "[0-9]+",
}
ROUTES = []


def route(method: str, address: str):
    """Register a function for requests: `{name}` matches one part of a path, or what PARTS says of that name."""
    pattern = re.sub(r"\{(\w+)\}", lambda m: f"(?P<{m[1]}>{PARTS.get(m[1], '[^/]+')})", address)

    def register(function):
        ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


@dataclass
class Request:
    """What came in."""

    method: str
    path: str  # still quoted
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    user: str | None = None
    role: str | None = None
    status: int = 0  # of the answer

    def flag(self, name: str) -> bool:
        """Tell whether a parameter of the address is set."""
        return self.query.get(name, ["0"])[-1].lower() in ("1", "true")

    def json(self, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> dict:
        """Return the body, an object with these keys and no other."""
        try:
            content = json.loads(self.body or b"{}")
        except ValueError:
            raise Malformed(f"{self.method} {self.path}: the body is not JSON: {self.body[:80]!r}") from None
        if not isinstance(content, dict):
            raise Malformed(f"{self.method} {self.path}: the body is not an object")
        if lacking := set(required) - set(content):
            raise Malformed(f"{self.method} {self.path}: lacks {sorted(lacking)}")
        if unknown := set(content) - set(required) - set(optional):
            raise Malformed(f"{self.method} {self.path}: unknown keys {sorted(unknown)}")
        return content


@dataclass
class Reply:
    """What goes out: JSON, or bytes."""

    content: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def refusal(status: int, message: str, code: str | None = None) -> Reply:
    """Return the Hub's form of an error."""
    headers = {"X-Error-Message": " ".join(message.split())} | ({"X-Error-Code": code} if code else {})
    return Reply({"error": message}, status, headers)
