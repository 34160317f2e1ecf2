"""What the Hub answers to each request its client sends: one function each, listed in `ROUTES`."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from loopback_repos import LARGE, START, Blob, RefusedError, front_matter

if TYPE_CHECKING:
    from loopback import LoopbackHub

REPO = r"([^/]+/[^/]+)"
API = rf"/api/models/{REPO}"


@dataclass(frozen=True)
class Answer:
    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    method: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes
    user: str | None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def token_of(headers: Any) -> str | None:
    kind, _, token = headers.get("Authorization", "").partition(" ")
    return token if kind.lower() == "bearer" and token else None


def _whoami(hub: "LoopbackHub", request: Request) -> Any:
    if request.user is None:
        raise RefusedError(401, "Invalid username or password.")
    orgs = hub.tokens[token_of(request.headers) or ""]["orgs"]
    return {"type": "user", "id": "0", "name": request.user, "orgs": [{"type": "org", "name": org} for org in orgs]}


def _create(hub: "LoopbackHub", request: Request) -> Any:
    asked = request.json
    name = f"{asked.get('organization') or request.user}/{asked['name']}"
    hub.may_write(request, name.partition("/")[0])
    url = {"url": f"{hub.url}/{name}", "name": name, "id": "0"}
    if name in hub.repos:
        return Answer(json.dumps({**url, "error": "You already created this model repo"}).encode(), 409)
    hub.add_repo(name, asked.get("visibility") == "private")
    return url


def _models(hub: "LoopbackHub", request: Request) -> Any:
    found = [repo for name, repo in sorted(hub.repos.items()) if not repo.private or request.user]
    author, tags = request.query.get("author", [""])[0], set(request.query.get("filter", []))
    rows = [repo.info(repo.head, False) for repo in found if author in ("", repo.id.partition("/")[0])]
    return [row for row in rows if tags <= set(row["tags"])]


def _validate(hub: "LoopbackHub", request: Request) -> Any:
    data = front_matter(request.json["content"])
    if data is None:
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    errors = []
    if data.get("license") == "other" and not data.get("license_name"):
        errors = [{"message": '"license_name" is required when "license" is "other"'}]
    return Answer(json.dumps({"errors": errors, "warnings": []}).encode(), 400 if errors else 200)


def _info(hub: "LoopbackHub", request: Request, name: str, revision: str = "main") -> Any:
    repo = hub.repo(request, name)
    return repo.info(repo.at(revision), "blobs" in request.query)


def _tree(hub: "LoopbackHub", request: Request, name: str, revision: str, folder: str = "") -> Any:
    files = hub.repo(request, name).at(revision).files
    below = {path: blob for path, blob in sorted(files.items()) if not folder or path.startswith(f"{folder}/")}
    inner = len(folder) + 1 if folder else 0
    folders = sorted({path[: path.index("/", inner)] for path in below if "/" in path[inner:]})
    rows = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in folders]
    recursive = request.query.get("recursive", ["false"])[0].lower() == "true"
    return rows + [blob.entry(path) for path, blob in below.items() if recursive or "/" not in path[inner:]]


def _paths(hub: "LoopbackHub", request: Request, name: str, revision: str) -> Any:
    files = hub.repo(request, name).at(revision).files
    wanted = parse_qs(request.body.decode()).get("paths", [])
    return [files[path].entry(path) for path in wanted if path in files]


def _preupload(hub: "LoopbackHub", request: Request, name: str, revision: str) -> Any:
    files = hub.repo(request, name, write=True).at(revision).files
    rows = []
    for asked in request.json["files"]:
        path, old = asked["path"], files.get(asked["path"])
        mode = "lfs" if path.endswith(LARGE) or asked["size"] > 10_000_000 else "regular"
        rows.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": old.etag if old else None})
    return {"files": rows}


def _batch(hub: "LoopbackHub", request: Request, name: str) -> Any:
    hub.repo(request, name, write=True)
    rows = []
    for asked in request.json["objects"]:
        row = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in hub.objects:
            row["actions"] = {"upload": {"href": f"{hub.url}/lfs/{asked['oid']}", "header": {}},
                              "verify": {"href": f"{hub.url}/lfs/{asked['oid']}/verify", "header": {}}}  # fmt: skip
        rows.append(row)
    return Answer(json.dumps({"transfer": "basic", "objects": rows}).encode(), 200)


def _upload(hub: "LoopbackHub", request: Request, oid: str) -> Any:
    if hashlib.sha256(request.body).hexdigest() != oid:
        raise RefusedError(400, "The sha256 of the content is not what was announced")
    hub.objects[oid] = request.body
    return Answer()


def _verify(hub: "LoopbackHub", request: Request, oid: str) -> Any:
    if len(hub.objects.get(oid, b"")) != request.json["size"]:
        raise RefusedError(400, "The size is not what was announced")
    return Answer()


def _commit(hub: "LoopbackHub", request: Request, name: str, revision: str) -> Any:
    repo = hub.repo(request, name, write=True)
    repo.at(revision)
    done = repo.apply([json.loads(line) for line in request.body.splitlines()], hub.objects)
    return {"success": True, "commitOid": done.oid, "commitUrl": f"{hub.url}/{name}/commit/{done.oid}"}


def _commits(hub: "LoopbackHub", request: Request, name: str, revision: str) -> Any:
    repo = hub.repo(request, name)
    known = repo.commits[: repo.commits.index(repo.at(revision)) + 1]
    return [{"id": c.oid, "title": c.title, "message": "", "authors": [], "date": START} for c in reversed(known)]


def _refs(hub: "LoopbackHub", request: Request, name: str) -> Any:
    return hub.repo(request, name).refs()


def _tag(hub: "LoopbackHub", request: Request, name: str, revision: str) -> Any:
    repo = hub.repo(request, name, write=True)
    if request.method == "DELETE":
        if repo.tags.pop(revision, None) is None:
            raise RefusedError(404, "Tag not found", "RevisionNotFound")
        return Answer()
    tag, target = request.json["tag"], repo.at(revision).oid
    if tag in repo.tags:
        raise RefusedError(409, "Tag reference exists already")
    repo.tags[tag] = target
    return {}


def _resolve(hub: "LoopbackHub", request: Request, name: str, revision: str, path: str) -> Any:
    commit = hub.repo(request, name).at(revision)
    blob = commit.files.get(path)
    known = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    if blob is None:
        headers = known | {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}
        return Answer(b"Entry not found", 404, headers)
    if not blob.large:
        return _content(blob, request, known)
    headers = known | {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
    hub.objects.setdefault(blob.sha256, blob.data)
    return Answer(b"", 302, headers | {"Location": f"{hub.cdn}/{blob.sha256}"})


def _cdn(hub: "LoopbackHub", request: Request, oid: str) -> Any:
    if token_of(request.headers):
        hub.leaks.append(f"a token was sent to another host, for {oid}")
    return _content(Blob(hub.objects[oid], large=True), request, {})


def _content(blob: Blob, request: Request, headers: dict[str, str]) -> Answer:
    """The whole file or the range asked for."""
    headers = headers | {"ETag": f'"{blob.etag}"', "Content-Type": "application/octet-stream"}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if asked is None:
        return Answer(blob.data, 200, headers)
    first, last = int(asked[1]), min(int(asked[2] or len(blob.data)), len(blob.data) - 1)
    if first > last:
        raise RefusedError(416, "The range is not satisfiable")
    headers["Content-Range"] = f"bytes {first}-{last}/{len(blob.data)}"
    return Answer(blob.data[first : last + 1], 206, headers)


ROUTES: tuple[tuple[str, str, str, Callable[..., Any]], ...] = (
    ("whoami", "GET", r"/api/whoami-v2", _whoami),
    ("create", "POST", r"/api/repos/create", _create),
    ("validate", "POST", r"/api/validate-yaml", _validate),
    ("models", "GET", r"/api/models", _models),
    ("info", "GET", API, _info),
    ("info", "GET", rf"{API}/revision/([^/]+)", _info),
    ("tree", "GET", rf"{API}/tree/([^/]+)", _tree),
    ("tree", "GET", rf"{API}/tree/([^/]+)/(.+)", _tree),
    ("paths", "POST", rf"{API}/paths-info/([^/]+)", _paths),
    ("preupload", "POST", rf"{API}/preupload/([^/]+)", _preupload),
    ("batch", "POST", rf"/{REPO}\.git/info/lfs/objects/batch", _batch),
    ("upload", "PUT", r"/lfs/([0-9a-f]{64})", _upload),
    ("verify", "POST", r"/lfs/([0-9a-f]{64})/verify", _verify),
    ("commit", "POST", rf"{API}/commit/([^/]+)", _commit),
    ("commits", "GET", rf"{API}/commits/([^/]+)", _commits),
    ("refs", "GET", rf"{API}/refs", _refs),
    ("tag", "POST", rf"{API}/tag/([^/]+)", _tag),
    ("untag", "DELETE", rf"{API}/tag/([^/]+)", _tag),
    ("head", "HEAD", rf"/{REPO}/resolve/([^/]+)/(.+)", _resolve),
    ("resolve", "GET", rf"/{REPO}/resolve/([^/]+)/(.+)", _resolve),
    ("cdn", "GET", r"/cdn/([0-9a-f]{64})", _cdn),
    ("cdn-head", "HEAD", r"/cdn/([0-9a-f]{64})", _cdn),
)
