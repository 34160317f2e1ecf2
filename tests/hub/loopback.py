"""A Hub on this machine that the real `huggingface_hub` client talks to, with faults on demand.

    hub = LoopbackHub()                     listens on hub.url, which is what HF_ENDPOINT must be
    hub.add_token("hf_x", "anna")         a user, who may write to her own name and her organisations
    hub.fail("commit", status=500)          the next commit is refused with 500; see Fault
    hub.repos["anna/net"].files             what is there, whatever the client believes
    hub.log                                 the names of the requests that came, in order

What is not spoken: Xet (set HF_HUB_DISABLE_XET=1), data sets and spaces, pull requests, multi-part uploads.
"""

import json
import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from loopback_answers import ROUTES, Answer, Request, token_of
from loopback_repos import RefusedError, Repo

EXPIRED = "Invalid credentials in Authorization header"  # by which the client tells a bad token from a hidden repo


@dataclass
class Fault:
    """What goes wrong with a request.

    Args:
        on: the request's name, a key of `ROUTES`.
        status: answered with instead of doing it.
        late: do it all the same, and only then answer with `status` or `drop`.
        drop: close the connection without an answer.
        delay_s: answer so much later.
        cut: send that share of the body, and close the connection.
        flip: change a byte in the middle of the body.
        change: called with the answer before it is sent, and gives another: JSON, or an `Answer`.
        first: called before the request is done, such as a commit of somebody else.
        times: requests that it hits.
        skip: requests that go well before.
    """

    on: str
    status: int = 0
    late: bool = False
    drop: bool = False
    delay_s: float = 0.0
    cut: float = 1.0
    flip: bool = False
    change: Callable[[Any], Any] | None = None
    first: Callable[[], Any] | None = None
    times: int = 1
    skip: int = 0


class LoopbackHub:
    """The server with everything it knows; see the module."""

    def __init__(self) -> None:
        self.server = _Server(("127.0.0.1", 0), _Handler)
        self.server.hub = self
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.cdn = f"http://localhost:{self.server.server_port}/cdn"  # another host: the token must not go there
        self.lock = threading.RLock()
        self.reset()
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def reset(self) -> None:
        """Forgets everything."""
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.leaks: list[str] = []

    def env(self, home: object, token: str | None = None) -> dict[str, str]:
        """The environment of a new process that shall talk to this Hub; `home` is a folder for its cache."""
        paths = [path for path in sys.path if path and "tests" not in Path(path).parts]
        env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env |= {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONPATH": os.pathsep.join([*paths, os.getcwd()])}  # fmt: skip
        return env | ({"HF_TOKEN": token} if token else {})

    def add_token(self, token: str, user: str, orgs: tuple[str, ...] = (), write: bool = True) -> None:
        self.tokens[token] = {"user": user, "orgs": orgs, "write": write}

    def expire(self, token: str) -> None:
        self.tokens.pop(token, None)

    def add_repo(self, name: str, private: bool = False, **files: bytes) -> Repo:
        """A repository with files; a double underscore in a name stands for a dot."""
        self.repos[name] = repo = Repo(name, private)
        if files:
            repo.put("files", **files)
        return repo

    def fail(self, on: str, **how: Any) -> Fault:
        """Lets the next request of that name go wrong."""
        if on not in {name for name, *_ in ROUTES}:
            raise KeyError(on)
        fault = Fault(on, **how)
        self.faults.append(fault)
        return fault

    def fault_of(self, name: str) -> Fault:
        for fault in self.faults:
            if fault.on == name and fault.times > 0:
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                return fault
        return Fault(name)

    def may_write(self, request: Request, namespace: str) -> None:
        """Refuses who may not write there."""
        token = self.tokens.get(token_of(request.headers) or "")
        if token is None:
            raise RefusedError(401, "Invalid username or password.")
        if not token["write"] or namespace not in (token["user"], *token["orgs"]):
            raise RefusedError(403, "You don't have the rights to write to this repository")

    def repo(self, request: Request, name: str, write: bool = False) -> Repo:
        """A repository that the user may see, or write to."""
        repo, namespace = self.repos.get(name), name.partition("/")[0]
        token = self.tokens.get(token_of(request.headers) or "")
        hidden = repo is None or (repo.private and (not token or namespace not in (token["user"], *token["orgs"])))
        if hidden:
            raise RefusedError(404 if token else 401, "Repository not found", "RepoNotFound")
        if write:
            self.may_write(request, namespace)
        assert repo is not None
        return repo


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: LoopbackHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing goes to stderr."""

    def handle_any(self) -> None:
        hub, url = self.server.hub, urlsplit(self.path)
        body = self._body()  # always read, so that the connection can be used again
        for name, method, pattern, do in ROUTES:
            found = re.fullmatch(pattern, url.path)
            if found and method == self.command:
                request = Request(self.command, parse_qs(url.query), self.headers, body, self._user())
                self._serve(hub, name, lambda do=do, request=request, found=found: do(
                    hub, request, *map(unquote, found.groups())))  # fmt: skip
                return
        hub.log.append(f"unknown {self.command} {url.path}")
        self._send(_refusal(RefusedError(404, f"there is no {self.command} {url.path}")), Fault(""))

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_any  # noqa: N815 - so the server names them

    def _serve(self, hub: LoopbackHub, name: str, do: Callable[[], Any]) -> None:
        with hub.lock:
            hub.log.append(name)
            fault = hub.fault_of(name)
            if fault.first:
                fault.first()
            try:
                token = token_of(self.headers)
                if token is not None and token not in hub.tokens and name not in ("cdn", "upload"):
                    raise RefusedError(401, EXPIRED)
                if (fault.status or fault.drop) and not fault.late:
                    raise RefusedError(fault.status, "something went wrong")
                answer = do()
                if fault.status:
                    raise RefusedError(fault.status, "something went wrong")
            except RefusedError as refused:
                answer = _refusal(refused)
        if fault.change:
            answer = fault.change(answer)
        if not isinstance(answer, Answer):
            answer = Answer(json.dumps(answer).encode(), 200, {"Content-Type": "application/json"})
        self._send(answer, fault)

    def _send(self, answer: Answer, fault: Fault) -> None:
        if fault.delay_s:
            threading.Event().wait(fault.delay_s)
        if fault.drop:
            self.close_connection = True
            return
        body = answer.body
        if fault.flip and body:
            half = len(body) // 2
            body = body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :]
        self.send_response(answer.status)
        for key, value in {**answer.headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: round(fault.cut * len(body))])
        if fault.cut < 1:
            self.close_connection = True

    def _user(self) -> str | None:
        known = self.server.hub.tokens.get(token_of(self.headers) or "")
        return known["user"] if known else None

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


def _refusal(refused: RefusedError) -> Answer:
    headers = {"X-Error-Message": refused.message, "Content-Type": "application/json"}
    if refused.code:
        headers["X-Error-Code"] = refused.code
    return Answer(json.dumps({"error": refused.message}).encode(), refused.status, headers)
