"""A repository on the Hub as it is, and what its answers mean."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_session
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from gemnet.errors import HubError
from gemnet.manifest import FILE

HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]  # of the HTTP library, whichever the client uses
KEPT = frozenset({".gitattributes", "LICENSE"})  # that a release leaves alone
FREE = KEPT | {"README.md"}  # what a repository may hold before its first release
TAG = "gemnet"  # that the cards of all releases have
WAIT_S = 60.0


@dataclass(frozen=True)
class Difference:
    """The paths in which two lists of files differ."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        marked = [*(f"+ {path}" for path in self.added), *(f"~ {path}" for path in self.changed),
                  *(f"- {path}" for path in self.removed)]  # fmt: skip
        return ", ".join(marked) or "nothing"


@dataclass(frozen=True)
class Remote:
    """A repository as it was when it was read.

    Args:
        api: the Hub's client, which knows the token.
        repo: `ORG/NAME`.
        head: the last commit of its main branch; None when there is no such repository.
        private: whether only its owners see it.
        files: hash of each file there: sha256 of large ones, git's blob id of others.
        tags: commit of each tag.
    """

    api: HfApi
    repo: str
    head: str | None
    private: bool
    files: dict[str, str]
    tags: dict[str, str]

    @classmethod
    def read(cls, api: HfApi, repo: str) -> "Remote":
        """The repository as it is now; raises the client's errors but for a repository that is not there."""
        try:
            info = api.repo_info(repo)
        except RepositoryNotFoundError:
            return cls(api, repo, None, False, {}, {})
        tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo).tags}
        return cls(api, repo, info.sha, bool(info.private), hashes(api, repo, str(info.sha)), tags)

    def difference(self, folder: Path, commit: str | None = None) -> Difference:
        """What a commit, the head when None, lacks to hold exactly a folder's files."""
        revision = commit or self.head
        if revision is None:
            names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            return Difference(added=tuple(sorted(names)))
        found = self.api.verify_repo_checksums(self.repo, revision=revision, local_dir=folder)
        removed = tuple(path for path in found.missing_paths if path not in KEPT)
        return Difference(tuple(found.extra_paths), tuple(row["path"] for row in found.mismatches), removed)

    def commits_since(self, then: "Remote") -> dict[str, str]:
        """The titles of the commits since an earlier reading, newest first."""
        titles: dict[str, str] = {}
        for commit in self.api.list_repo_commits(self.repo, revision=self.head) if self.head != then.head else ():
            if commit.commit_id == then.head:
                break
            titles[commit.commit_id] = commit.title
        return titles

    def changes(self, then: "Remote", commits: Mapping[str, str]) -> str:
        """What these commits did to what it was, in words."""
        both = self.files.keys() & then.files.keys()
        difference = Difference(
            tuple(sorted(self.files.keys() - both)),
            tuple(sorted(path for path in both if self.files[path] != then.files[path])),
            tuple(sorted(then.files.keys() - both)),
        )
        return f"{', '.join(f'{commit[:8]} {title!r}' for commit, title in commits.items())} ({difference})"

    def check_ours(self) -> None:
        """Raises HubError when it holds files but no release, which a release would remove."""
        others = sorted(self.files.keys() - FREE)
        if others and FILE not in self.files:
            shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise HubError(f"{self.repo} holds files that are no release of gemnet ({shown}); choose another name")

    def check_private(self) -> None:
        """Raises HubError when it is there and everybody sees it."""
        if self.head is not None and not self.private:
            raise HubError(f"{self.repo} is public already; leave out --private, or make it private on the Hub")

    def check_new(self, sha256: str, weights: str) -> None:
        """Raises HubError when another release of the same owner has these weights."""
        for model in self.api.list_models(author=self.repo.partition("/")[0], filter=TAG):
            if model.id == self.repo:
                continue
            for file in self.api.get_paths_info(model.id, [weights]):
                if isinstance(file, RepoFile) and file.lfs is not None and file.lfs.sha256 == sha256:
                    raise HubError(f"these weights are published already, as {model.id}; publish them there")


def hashes(api: HfApi, repo: str, commit: str) -> dict[str, str]:
    """The hash of each file of a commit."""
    files = (file for file in api.list_repo_tree(repo, recursive=True, revision=commit) if isinstance(file, RepoFile))
    return {file.path: file.lfs.sha256 if file.lfs is not None else file.blob_id for file in files}


@contextmanager
def patience(seconds: float = WAIT_S) -> Iterator[None]:
    """Lets the Hub's client give up when nothing comes or goes for so long; of itself it waits for ever."""
    limits = dict.fromkeys(("connect", "read", "write", "pool"), seconds)

    def limit(request: Any) -> None:  # the client's own calls ask for no limit, so the session's is not heard
        request.extensions["timeout"] = limits

    hooks = get_session().event_hooks["request"]
    hooks.append(limit)
    try:
        yield
    finally:
        hooks.remove(limit)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error of the client is about; None when no answer came."""
    response = getattr(_root(error), "response", None)
    return None if response is None else int(response.status_code)


def may_have_landed(error: BaseException) -> bool:
    """Whether what was asked for may be done all the same: no answer, none to read, or one of a server that failed."""
    root, status = _root(error), status_of(error)
    if isinstance(root, ValueError):
        return isinstance(root, json.JSONDecodeError)
    return status is None or status >= 500


def is_of_hub(error: BaseException) -> bool:
    """Whether an error comes from talking to the Hub; a ValueError is an answer that the client cannot read."""
    return isinstance(_root(error), (HTTP_ERROR, OfflineModeIsEnabled, LocalTokenNotFoundError, ValueError))


def explain(error: BaseException, repo: str) -> str:
    """What an error of the client means, on one line, and what helps."""
    root, status = _root(error), status_of(error)
    if isinstance(root, LocalTokenNotFoundError):
        return "there is no token for the Hub; run hf auth login, or set HF_TOKEN"
    if isinstance(root, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it to publish"
    if isinstance(root, RevisionNotFoundError):
        return f"{repo} has no such revision"
    said = getattr(root, "server_message", None)
    if status == 401:
        return "the Hub refuses the token, which may have expired; run hf auth login, or set HF_TOKEN"
    if status == 403:
        return f"the token may not write to {repo}; take one with write permission there"
    if isinstance(root, ValueError):
        return f"the Hub and its client do not agree ({' '.join(str(root).split()):.300})"
    if status is not None:
        return f"the Hub answers {status}{f' ({said})' if said else ''}"
    return f"the Hub cannot be reached ({type(root).__name__})"


def _root(error: BaseException) -> BaseException:
    """What an error of an upload was caused by: the client wraps it."""
    cause = error.__cause__
    return cause if isinstance(error, RuntimeError) and cause is not None else error
