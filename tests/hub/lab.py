"""What the tests of publishing ask of a repository on the loopback Hub."""

import re
from pathlib import Path

from gemnet.manifest import FILE, describe

DOCS = re.sub(r"\b[0-9a-f]{8}\b", "COMMIT", (Path(__file__).parents[2] / "docs" / "publish.md").read_text())
REPO, TAG, TOKEN = "lab/tiny", "v1.0.0", "hf_Secret0123456789"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def is_whole(lab, folder: Path, tag: str = TAG) -> bool:
    """Whether the repository holds exactly the folder, and the tag its last commit."""
    repo = lab.repos[REPO]
    return repo.files == content(folder) and repo.tags.get(tag) == repo.head.oid


def is_documented(message: str) -> bool:
    """Whether the parts of a message stand in docs/publish.md, but for the names of commits."""
    return all(re.sub(r"\b[0-9a-f]{8}\b", "COMMIT", part) in DOCS for part in message.split("; "))


def change(folder: Path, text: str = "{}") -> Path:
    """Another release: of the same weights, with another file."""
    (folder / "cell.json").write_text(text)
    describe(folder).write(folder / FILE)
    return folder
