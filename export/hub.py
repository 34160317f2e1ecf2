"""Publishing: a release's folder as one commit on the Hub, read back before its tag is set.

Whatever goes wrong, the Hub holds the whole release or what it held before. The commit names its parent, so that two
of them never mix; an answer that does not come is no answer, so it is looked up whether the commit landed before it is
sent again; the tag, which is what users load, comes last.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from gemnet.errors import HubError, ReleaseError
from gemnet.manifest import FILE, Manifest
from gemnet.pretrained import load_weights_list
from gemnet.saving import WEIGHTS

from .fitness import check_manifest
from .release import Say, Wish
from .remote import HTTP_ERROR, KEPT, Difference, Remote, explain, is_of_hub, may_have_landed, patience, status_of

WAITS_S = (0, 2, 8)  # before each try of a commit or tag that the Hub did not answer
AGAIN = "run the same command again"


@dataclass(frozen=True)
class Outcome:
    """What a publishing did.

    Args:
        repo: `ORG/NAME`.
        url: of the repository.
        commit: that holds the release; None after a dry run that found it nowhere.
        committed: whether it was made now.
        tag: of the release.
        tagged: whether the tag was set or moved now.
        difference: between the repository as it was and the release.
        notes: what went wrong on the way and was mended.
    """

    repo: str
    url: str
    commit: str | None
    committed: bool
    tag: str | None
    tagged: bool
    difference: Difference
    notes: tuple[str, ...] = ()


def publish(
    folder: Path, repo: str, tag: str | None = None, *, private: bool = False, force: bool = False,
    dry_run: bool = False, say: Say = lambda _: None,
) -> Outcome:  # fmt: skip
    """Puts a checked release on the Hub, unless it is there.

    Args:
        folder: as `gemnet.export.release.assemble` wrote it.
        repo: `ORG/NAME`; made when it is not there.
        tag: to set on the commit, last.
        private: whether a repository made now is.
        force: whether a tag that is set on another commit is moved.
        dry_run: look only; nothing is sent.
        say: told what is being done.

    Raises:
        UsageError: no such name or tag can be on the Hub.
        HubError: the Hub refuses, cannot be reached, or holds what a release must not replace; says what it holds now.
        ReleaseError: the folder holds a file that its manifest does not list.
        ManifestError: a file is a link, or not as the manifest lists it.
    """
    Wish(repo, tag)  # refuses what the Hub has no name for
    manifest = check_manifest(folder)
    _check_index(manifest.files[WEIGHTS].sha256, repo)
    work = _Work(HfApi(library_name="gemnet"), folder, repo, tag, say)
    with patience():
        try:
            return work.run(manifest, private, force, dry_run)
        except (HTTP_ERROR, OSError, RuntimeError, ValueError) as error:
            if not is_of_hub(error):
                raise
            raise HubError(f"{explain(error, repo)}; {work.state}") from None


class _Work:
    """One publishing; `state` says what is on the Hub should it end here."""

    def __init__(self, api: HfApi, folder: Path, repo: str, tag: str | None, say: Say) -> None:
        self.api, self.folder, self.repo, self.tag, self.say = api, folder, repo, tag, say
        self.state = "nothing was published"
        self.notes: list[str] = []

    def run(self, manifest: Manifest, private: bool, force: bool, dry_run: bool) -> Outcome:
        """See `publish`."""
        self.say(f"reading {self.repo}")
        if not dry_run:
            self.api.whoami()
        remote = Remote.read(self.api, self.repo)
        if remote.head is None and not dry_run:
            remote = self._make(remote, manifest, private)
        if private:
            remote.check_private()
        if self.tag in remote.tags and not remote.difference(self.folder, remote.tags[self.tag]):
            return self._outcome(remote.tags[self.tag], False, False, Difference())
        self._check(remote, manifest, force)
        difference = remote.difference(self.folder)
        if dry_run:
            self.notes += [f"tag {self.tag} would be set, last"] if self.tag else []
            return self._outcome(None if difference else remote.head, False, False, difference)
        commit = self._commit(remote, manifest, difference) if difference else str(remote.head)
        manifest.check(self.folder)
        if difference:
            self._read_back(remote, commit)
        tagged = self._set_tag(remote.tags, commit) if self.tag else False
        return self._outcome(commit, bool(difference), tagged, difference)

    def _make(self, remote: Remote, manifest: Manifest, private: bool) -> Remote:
        """The repository that was made now, or by somebody else meanwhile: it is looked at as any other."""
        remote.check_new(manifest.files[WEIGHTS].sha256, WEIGHTS)
        self.say(f"making {self.repo}")
        self.api.create_repo(self.repo, private=private or None, exist_ok=True)
        remote = Remote.read(self.api, self.repo)
        if not remote.files.keys() - KEPT:
            self.state = f"{self.repo} was made and is empty"
        return remote

    def _check(self, remote: Remote, manifest: Manifest, force: bool) -> None:
        """Refuses what would be wrong after the commit."""
        remote.check_ours()
        if self.tag in remote.tags and not force:
            raise HubError(f"tag {self.tag} of {self.repo} is set on {remote.tags[self.tag][:8]}, which holds another "
                           "release; choose another tag, or move it by --force")  # fmt: skip
        remote.check_new(manifest.files[WEIGHTS].sha256, WEIGHTS)

    def _commit(self, remote: Remote, manifest: Manifest, difference: Difference) -> str:
        """The commit that holds the release, made as a child of the head or not at all."""
        for wait_s in WAITS_S:
            time.sleep(wait_s)
            if check_manifest(self.folder) != manifest:
                raise ReleaseError(f"{self.folder / FILE} was changed meanwhile; {self.state}; {AGAIN}")
            try:
                self.say("uploading")
                return self._send(remote, manifest, difference)
            except (HTTP_ERROR, RuntimeError, ValueError) as error:
                if not is_of_hub(error) or not (may_have_landed(error) or status_of(error) == 412):
                    raise
                reason = explain(error, self.repo)
            landed = self._look(remote, reason)
            if landed:
                self.notes.append(f"{reason}, but the commit had landed: {landed[:8]}")
                return landed
            self.notes.append(f"{reason}, and the commit had not landed; it was sent again")
        raise HubError(f"{reason}, {len(WAITS_S)} times; {self.state}; {AGAIN} later")

    def _send(self, remote: Remote, manifest: Manifest, difference: Difference) -> str:
        paths = (*difference.added, *difference.changed)
        for path in paths:
            if path != FILE and path not in manifest.files:
                raise ReleaseError(f"{self.folder / path} is not listed in {FILE}; {self.state}")
        operations = [CommitOperationAdd(path, str(self.folder / path)) for path in paths]
        gone = [CommitOperationDelete(path, is_folder=False) for path in difference.removed]
        title = f"Release {self.tag}" if self.tag else "Release"
        done = self.api.create_commit(
            self.repo, [*operations, *gone], commit_message=title, parent_commit=remote.head
        )  # fmt: skip
        return str(done.oid)

    def _look(self, before: Remote, reason: str) -> str:
        """The commit since then that holds the release, or nothing when there was no commit.

        Raises:
            HubError: there were others alone, or it cannot be looked up.
        """
        try:
            now = Remote.read(self.api, self.repo)
            commits = now.commits_since(before)
            for commit in commits:
                if not now.difference(self.folder, commit):
                    return commit
            if not commits:
                return ""
        except (HTTP_ERROR, OSError, ValueError) as error:
            raise HubError(f"{reason}, then {explain(error, self.repo)}: it is not known whether the commit landed; "
                           f"{AGAIN}, which looks first") from None  # fmt: skip
        raise HubError(f"{self.repo} was changed by somebody else meanwhile: {now.changes(before, commits)}; nothing "
                       f"of this release was published; look at it and {AGAIN}")  # fmt: skip

    def _read_back(self, remote: Remote, commit: str) -> None:
        """Raises HubError unless the commit holds what was sent, to the hash."""
        self.state = f"the commit {commit[:8]} is there, but was not read back and has no tag; {AGAIN}"
        self.say("reading back")
        found = remote.difference(self.folder, commit)
        if found:
            raise HubError(f"{self.repo} does not hold what was sent: {found}; commit {commit[:8]} has no tag; {AGAIN}")

    def _set_tag(self, tags: dict[str, str], commit: str) -> bool:
        """Sets the tag on a commit, and says whether it was elsewhere."""
        tag, before = str(self.tag), dict(tags)
        self.state = f"the commit {commit[:8]} is there, whole, but tag {tag} was not set; {AGAIN}"
        for wait_s in WAITS_S:
            if tags.get(tag) == commit:
                break
            if tags.get(tag) not in (None, before.get(tag)):
                raise HubError(f"somebody else set tag {tag} of {self.repo} on {tags[tag][:8]} meanwhile; the commit "
                               f"{commit[:8]} is there, whole, without it")  # fmt: skip
            self.say(f"setting {tag}")
            time.sleep(wait_s)
            try:
                if tag in tags:
                    self.api.delete_tag(self.repo, tag=tag)
                    off = f"tag {tag} was taken off {tags[tag][:8]} and not set again"
                    self.state = f"the commit {commit[:8]} is there, whole; {off}; {AGAIN}"
                self.api.create_tag(self.repo, tag=tag, revision=commit)
                return True
            except HTTP_ERROR as error:
                if not may_have_landed(error) and status_of(error) != 409:
                    raise
                self.notes.append(f"{explain(error, self.repo)} when the tag was set; it was looked up again")
            tags = {found.name: found.target_commit for found in self.api.list_repo_refs(self.repo).tags}
        if tags.get(tag) != commit:
            raise HubError(f"{self.notes[-1]}, {len(WAITS_S)} times; {self.state}")
        return before.get(tag) != commit

    def _outcome(self, commit: str | None, committed: bool, tagged: bool, difference: Difference) -> Outcome:
        url = f"{self.api.endpoint}/{self.repo}"
        return Outcome(self.repo, url, commit, committed, self.tag, tagged, difference, tuple(self.notes))


def _check_index(sha256: str, repo: str) -> None:
    """Refuses weights that the package's list says are on the Hub under another name."""
    for name, weights in load_weights_list().items():
        place = str(weights.cfg.get("hf_hub_id") or repo)
        if weights.sha256 == sha256 and place != repo:
            raise HubError(f"these weights are published already, as {place} ({name}); publish them there")
