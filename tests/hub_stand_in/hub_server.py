# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""A stand-in for the Hugging Face Hub on this machine, to test publishing against. It is not the Hub.

It speaks the part of the Hub's HTTP interface that huggingface_hub (1.33 to 2.4 were read for it) uses to create, write and
read repositories, keeps everything in memory, and is strict: what a right client never sends is a complaint, and a test
that caused one fails. What the Hub does beyond that, it does not know: Xet storage, search, limits of rate, scanning.

    python tests/hub_stand_in/hub_server.py --port 8844

serves it until Ctrl-C, and says which variables lead a client there.
"""

import argparse
import json
import os
import re
import threading
import time
import traceback
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock
from urllib.parse import parse_qsl, unquote, urlsplit

import hub_cards  # noqa: F401  (each registers what it answers)
import hub_discussions  # noqa: F401
import hub_reads  # noqa: F401
import hub_uploads  # noqa: F401
import hub_writes  # noqa: F401
from hub_protocol import ROUTES, Reply, Request, refusal
from hub_store import Malformed, Problem, Repo, Store, User


@dataclass
class Fault:
    """Something that goes wrong with the requests that match; see `Hub.fail`."""

    pattern: re.Pattern
    status: int
    cut: str | None
    delay: float
    after: int
    times: int
    message: str
    seen: int = 0


class Hub:
    """The server with all its contents.

    Users: `alice` and `bob` with tokens that may write (`hf_alice`, `hf_bob`), the token `hf_reader` of alice that may only
    read, and the organisation `lab`, to which alice may write and which bob may read.

    Attributes:
        url: where it listens, for HF_ENDPOINT.
        requests: every request that came, with the status of its answer.
        complaints: what a right client would not have sent, and errors in this server; empty at the end of a good test.
        page_size: entries of a tree or a history per answer.
        part_size: larger files are uploaded in parts of so many bytes.
    """

    def __init__(self, port: int = 0):
        self.store = Store()
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        self.faults: list[Fault] = []
        self.page_size, self.part_size = 1000, 16 * 1024 * 1024
        self.lock = threading.RLock()
        self.add_user("alice", lab="write")
        self.add_user("bob", lab="read")
        self.add_token("hf_reader", "alice", "read")
        self.http = ThreadingHTTPServer(("127.0.0.1", port), type("BoundHandler", (Handler,), {"hub": self}))
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        # Another host, as with the Hub: a client follows a way to the same host as if it were the file itself.
        self.storage_url = f"http://localhost:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Stop listening."""
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()

    def variables(self, home, token: str | None = "hf_alice") -> dict[str, str]:
        """Return the variables that lead a process here, with its caches in a folder `home` of their own."""
        ours = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        return ours | ({"HF_TOKEN": token} if token else {})

    def environment(self, home, token: str | None = "hf_alice", **more: str) -> dict[str, str]:
        """Return the whole environment of a process that takes this server for the Hub, with nothing in its caches.

        huggingface_hub reads it when it is imported, so it is for processes that start anew; for this one there is `here`.
        """
        ours = ("HF_", "HUGGING", "TRANSFORMERS_", "PYTEST_", "PYTHONPATH")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return kept | {"OMP_NUM_THREADS": "1"} | self.variables(home, token) | more

    @contextmanager
    def here(self, home):
        """Let this process take the server for the Hub: environment, and what huggingface_hub read of it."""
        import huggingface_hub
        import transformers
        from huggingface_hub import constants

        read = {
            "ENDPOINT": self.url,
            "HUGGINGFACE_CO_URL_TEMPLATE": f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
            "HF_HUB_CACHE": str(Path(home) / "hub"),
            "HF_TOKEN_PATH": str(Path(home) / "token"),
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_OFFLINE": False,
        }
        with (
            mock.patch.dict(os.environ, self.environment(home)),
            mock.patch.multiple(constants, **read),
            mock.patch.object(huggingface_hub.hf_api.api, "endpoint", self.url),
            mock.patch.object(transformers.utils.hub, "_hf_api", None, create=True),
        ):
            yield

    def add_user(self, name: str, **orgs: str) -> None:
        """Add a user with the token hf_NAME, which may write; `orgs` are roles, read or write."""
        self.store.users[name] = User(name, orgs)
        self.add_token(f"hf_{name}", name, "write")

    def add_token(self, token: str, user: str, role: str) -> None:
        """Add a token: role read or write."""
        self.store.tokens[token] = (user, role)

    def repo(self, name: str, kind: str = "models") -> Repo:
        """Return a repository by owner/name, for a test to look into."""
        return self.store.repos[kind, name]

    def files(self, name: str, revision: str = "main", kind: str = "models") -> dict[str, bytes]:
        """Return the files of a revision."""
        return {path: file.data for path, file in self.repo(name, kind).find(revision).files.items()}

    def sent(self, pattern: str) -> list[Request]:
        """Return the requests whose "METHOD /path" matches."""
        return [request for request in self.requests if re.search(pattern, f"{request.method} {request.path}")]

    def fail(self, pattern, status=503, *, cut=None, delay=0.0, after=0, times=1, message="injected fault") -> Fault:
        """Let requests fail whose "METHOD /path?query" matches the regular expression.

        Args:
            status: what is answered, with nothing done. 0 = the request is served; for `cut="answer"`, `cut="body"` or
                a delay alone.
            cut: end the connection: "request" before anything is done, "answer" after it is done but before a byte of
                the answer, "body" in the middle of the answer.
            delay: seconds before anything happens.
            after: the first so many matching requests are left alone.
            times: how many fail then.
        """
        if cut in ("answer", "body"):
            status = 0
        fault = Fault(re.compile(pattern), status, cut, delay, after, times, message)
        with self.lock:
            self.faults.append(fault)
        return fault

    def fault_of(self, text: str) -> Fault | None:
        """Return the fault that is due for a request."""
        with self.lock:
            for fault in self.faults:
                if fault.pattern.search(text):
                    fault.seen += 1
                    if fault.after < fault.seen <= fault.after + fault.times:
                        return fault
        return None

    def answer(self, request: Request) -> Reply:
        """Answer one request; one at a time, so that each sees a whole state."""
        with self.lock:
            self.requests.append(request)
            try:
                reply = self._answer(request)
            except Problem as problem:
                if isinstance(problem, Malformed):
                    self.complaints.append(problem.message)
                reply = refusal(problem.status, problem.message, problem.code)
            except Exception:  # noqa: BLE001  (a test shall see it, and the other requests be answered)
                self.complaints.append(traceback.format_exc())
                reply = refusal(500, "a fault in the stand-in")
            request.status = reply.status
            return reply

    def _answer(self, request: Request) -> Reply:
        authorization = request.headers.get("authorization")
        if authorization is not None:
            token = authorization.removeprefix("Bearer ")
            if token not in self.store.tokens:
                raise Problem(401, "Invalid credentials in Authorization header")
            request.user, request.role = self.store.tokens[token]
        method = "GET" if request.method == "HEAD" else request.method
        for wanted, pattern, function in ROUTES:
            if wanted == method and (match := pattern.fullmatch(request.path)):
                return function(self, request, **{name: unquote(part) for name, part in match.groupdict("").items()})
        if method == "GET" and re.fullmatch("/api/[a-z-]+", request.path):
            return refusal(
                404, "none here"
            )  # a list of something, which is the same for everybody and no repository's
        self.complaints.append(f"{request.method} {request.path}: not known here")
        hint = "; set HF_HUB_DISABLE_XET=1" if "xet" in request.path else ""
        return refusal(501, f"this stand-in for the Hub does not know {request.method} {request.path}{hint}")

    def see(self, request: Request, kind: str, name: str) -> Repo:
        """Return a repository, or what the Hub says where there is none for this user."""
        repo = self.store.repos.get((kind, name))
        if repo is None or not self.store.may_read(request.user, repo):
            if request.user is None:  # the Hub does not tell strangers what there is
                raise Problem(401, "Invalid username or password.", "RepoNotFound")
            raise Problem(404, "Repository not found", "RepoNotFound")
        return repo

    def write(self, request: Request, kind: str, name: str) -> Repo:
        """Return a repository to whom this token may write, or refuse."""
        repo = self.see(request, kind, name)
        self.signed_in(request)
        if not self.store.may_write(request.user, request.role, name.split("/")[0]):
            raise Problem(403, f"Forbidden: you do not have the rights to write to {name} with this token")
        return repo

    def signed_in(self, request: Request) -> str:
        """Return the user, who must be known."""
        if request.user is None:
            raise Problem(401, "Invalid username or password.")
        return request.user


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: Hub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        """Say nothing."""

    def handle(self):
        """Serve; a client that went away is no error."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            pass

    def serve(self) -> None:
        """Read one request, let it go wrong where that is wanted, answer."""
        address = urlsplit(self.path)
        query: dict[str, list[str]] = {}
        for name, value in parse_qsl(address.query, keep_blank_values=True):
            query.setdefault(name, []).append(value)
        headers = {name.lower(): value for name, value in self.headers.items()}
        fault = self.hub.fault_of(f"{self.command} {self.path}")
        if fault is not None:
            time.sleep(fault.delay)
            if fault.cut == "request":
                self.close_connection = True
                return
        request = Request(self.command, address.path, query, headers, self.read_body())
        if fault is not None and fault.status:
            self.hub.requests.append(request)
            request.status = fault.status
            reply = refusal(fault.status, fault.message)
        else:
            reply = self.hub.answer(request)
        if fault is not None and fault.cut == "answer":
            self.close_connection = True
            return
        self.send(reply, half=fault is not None and fault.cut == "body")

    def read_body(self) -> bytes:
        """Return the body, of known length or in chunks."""
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def send(self, reply: Reply, half: bool = False) -> None:
        """Send an answer; with `half`, break off in the middle."""
        headers = dict(reply.headers)
        body = reply.content
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value.encode("ascii", "replace").decode())
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = serve


def main(words=None) -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A stand-in for the Hugging Face Hub, in memory, on this machine.")
    parser.add_argument("--port", type=int, default=8844)
    hub = Hub(parser.parse_args(words).port)
    print(f"export HF_ENDPOINT={hub.url} HF_TOKEN=hf_alice HF_HUB_DISABLE_XET=1", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        for complaint in hub.complaints:
            print(complaint)
        hub.close()


if __name__ == "__main__":
    main()
