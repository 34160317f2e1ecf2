"""The repositories of a Hub in memory: files, commits, branches and tags, as the Hub's JSON shows them."""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

LARGE = (".safetensors", ".onnx", ".bin", ".pt", ".npz")  # kept outside git, as the Hub's own .gitattributes says
ATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE).encode()
START = "2026-01-01T00:00:00.000Z"


class RefusedError(Exception):
    """An answer with an HTTP status, the Hub's `X-Error-Code` and a message."""

    def __init__(self, status: int, message: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code


@dataclass(frozen=True)
class Blob:
    """The content of a file."""

    data: bytes
    large: bool = False

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def oid(self) -> str:
        """What git calls it: a large file is a pointer there."""
        return _git_oid(self.pointer if self.large else self.data)

    @property
    def pointer(self) -> bytes:
        version = "version https://git-lfs.github.com/spec/v1"
        return f"{version}\noid sha256:{self.sha256}\nsize {len(self.data)}\n".encode()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.oid

    def entry(self, path: str) -> dict[str, Any]:
        """Its row in a listing."""
        row: dict[str, Any] = {"type": "file", "path": path, "oid": self.oid, "size": len(self.data)}
        if self.large:
            row["lfs"] = {"oid": self.sha256, "size": len(self.data), "pointerSize": len(self.pointer)}
        return row


@dataclass(frozen=True)
class Commit:
    oid: str
    title: str
    files: Mapping[str, Blob]


@dataclass
class Repo:
    """A repository; a new one holds `.gitattributes` in a first commit, as on the Hub."""

    id: str
    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.commits:
            self.add("initial commit", {".gitattributes": Blob(ATTRIBUTES)})

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    @property
    def files(self) -> dict[str, bytes]:
        """The content of every file on the main branch, but for `.gitattributes`."""
        return {path: blob.data for path, blob in self.head.files.items() if path != ".gitattributes"}

    def add(self, title: str, files: Mapping[str, Blob]) -> Commit:
        """A commit that replaces all files."""
        before = self.commits[-1].oid if self.commits else ""
        text = f"{self.id} {before} {title} {sorted((path, blob.oid) for path, blob in files.items())}"
        self.commits.append(Commit(hashlib.sha1(text.encode()).hexdigest(), title, dict(files)))
        return self.head

    def put(self, title: str, **files: bytes) -> Commit:
        """A commit of somebody else; a double underscore in a name stands for a dot."""
        changed = {name.replace("__", "."): data for name, data in files.items()}
        blobs = {path: Blob(data, path.endswith(LARGE)) for path, data in changed.items()}
        return self.add(title, {**self.head.files, **blobs})

    def at(self, revision: str) -> Commit:
        """The commit of a branch, tag or (shortened) hash."""
        if revision == "main":
            return self.head
        wanted = self.tags.get(revision, revision)
        found = [commit for commit in self.commits if len(wanted) >= 7 and commit.oid.startswith(wanted)]
        if not found:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found[0]

    def apply(self, lines: Iterable[Mapping[str, Any]], objects: Mapping[str, bytes]) -> Commit:
        """The commit that the lines of a commit request ask for; all of it or none."""
        header, files = {}, dict(self.head.files)
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    header = value
                case "file":
                    files[value["path"]] = Blob(base64.b64decode(value["content"]))
                case "lfsFile":
                    if value["oid"] not in objects:
                        raise RefusedError(400, f"LFS pointer {value['path']} points to a file that does not exist")
                    files[value["path"]] = Blob(objects[value["oid"]], large=True)
                case "deletedFile":
                    if files.pop(value["path"], None) is None:
                        raise RefusedError(404, "A file with this name doesn't exist", "EntryNotFound")
                case other:
                    raise RefusedError(400, f"unknown operation {other}")
        if not self.head.oid.startswith(header.get("parentCommit", self.head.oid)):
            raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
        return self.add(header["summary"], files)

    def info(self, commit: Commit, blobs: bool) -> dict[str, Any]:
        siblings = []
        for path, blob in sorted(commit.files.items()):
            row: dict[str, Any] = {"rfilename": path}
            if blobs:
                row |= {"size": len(blob.data), "blobId": blob.oid}
            if blobs and blob.large:
                row["lfs"] = {"sha256": blob.sha256, "size": len(blob.data), "pointerSize": len(blob.pointer)}
            siblings.append(row)
        card = commit.files.get("README.md", Blob(b"")).data.decode(errors="replace")
        tags = (front_matter(card) or {}).get("tags", [])
        return {"_id": "0", "id": self.id, "modelId": self.id, "sha": commit.oid, "private": self.private,
                "author": self.id.partition("/")[0], "tags": tags, "downloads": 0, "likes": 0, "siblings": siblings,
                "createdAt": START, "lastModified": START}  # fmt: skip

    def refs(self) -> dict[str, Any]:
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": oid} for n, oid in self.tags.items()]
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": self.head.oid}
        return {"branches": [main], "converts": [], "tags": tags}


def front_matter(card: str) -> dict[str, Any] | None:
    """The metadata at the beginning of a card."""
    head = re.match(r"---\n(.*?)\n---\n", card, re.DOTALL)
    return yaml.safe_load(head[1]) if head else None


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
