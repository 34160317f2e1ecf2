"""Publishing to the loopback Hub with the real client: it ends whole or not at all, whatever goes wrong."""

import shutil
from pathlib import Path

import pytest
from lab import REPO, TAG, TOKEN, change, content, is_documented, is_whole

from gemnet.errors import GemnetError, HubError, ManifestError, ReleaseError, UsageError
from gemnet.export import hub as publishing
from gemnet.export.hub import publish
from gemnet.manifest import FILE, Manifest


def test_a_release_is_one_commit_with_its_tag(lab, folder):
    done = publish(folder, REPO, TAG)
    assert is_whole(lab, folder)
    assert [commit.title for commit in lab.repos[REPO].commits] == ["initial commit", "Release v1.0.0"]
    assert (done.committed, done.tagged, done.commit) == (True, True, lab.repos[REPO].head.oid)
    assert set(done.difference.added) == set(content(folder)) and not done.notes
    assert lab.log[-1] == "tag" and lab.log.count("commit") == 1
    assert not lab.repos[REPO].private


def test_the_same_release_again_sends_nothing(lab, folder):
    first = publish(folder, REPO, TAG)
    lab.log.clear()
    again = publish(folder, REPO, TAG)
    assert not {"commit", "preupload", "batch", "upload", "tag", "untag", "create"} & set(lab.log)
    assert (again.commit, again.committed, again.tagged) == (first.commit, False, False)


def test_a_release_without_a_tag_gets_one_later(lab, folder):
    assert publish(folder, REPO).tag is None
    done = publish(folder, REPO, TAG)
    assert (done.committed, done.tagged) == (False, True)
    assert is_whole(lab, folder)


def test_a_changed_release_is_one_commit_of_what_changed(lab, folder):
    publish(folder, REPO, TAG)
    lab.log.clear()
    (folder / "cell.svg").unlink()
    change(folder)
    done = publish(folder, REPO, "v1.0.1")
    assert is_whole(lab, folder, "v1.0.1") and lab.repos[REPO].tags[TAG] != done.commit
    assert (done.difference.added, done.difference.removed) == ((), ("cell.svg",))
    assert set(done.difference.changed) == {"cell.json", FILE}
    assert lab.log.count("commit") == 1 and "upload" not in lab.log


def test_a_tag_moves_only_by_force(lab, folder):
    before = publish(folder, REPO, TAG).commit
    change(folder)
    with pytest.raises(HubError, match=f"tag v1.0.0 of lab/tiny is set on {before[:8]}, which holds another release"):
        publish(folder, REPO, TAG)
    assert len(lab.repos[REPO].commits) == 2 and lab.repos[REPO].tags == {TAG: before}
    assert publish(folder, REPO, TAG, force=True).tagged
    assert is_whole(lab, folder)


def test_an_older_release_that_its_tag_still_holds_is_not_sent_again(lab, folder, tmp_path):
    old = shutil.copytree(folder, tmp_path / "old")
    first = publish(folder, REPO, TAG)
    publish(change(folder), REPO, "v2.0.0")
    done = publish(old, REPO, TAG)
    assert (done.commit, done.committed) == (first.commit, False)
    assert is_whole(lab, folder, "v2.0.0")


def test_a_dry_run_sends_nothing(lab, folder, monkeypatch):
    done = publish(folder, REPO, TAG, dry_run=True)
    assert set(done.difference.added) == set(content(folder)) and done.commit is None
    assert lab.repos == {}
    publish(folder, REPO, TAG)
    change(folder)
    lab.log.clear()
    monkeypatch.delenv("HF_TOKEN")
    assert publish(folder, REPO, "v1.0.1", dry_run=True).difference.changed == ("cell.json", FILE)
    assert set(lab.log) <= {"info", "refs", "tree", "models", "paths"}


def test_a_private_repository_is_made_private(lab, folder):
    publish(folder, REPO, TAG, private=True)
    assert lab.repos[REPO].private and is_whole(lab, folder)
    lab.repos[REPO].private = False
    with pytest.raises(HubError, match="lab/tiny is public already"):
        publish(change(folder), REPO, "v1.0.1", private=True)
    with pytest.raises(HubError, match="lab/tiny is public already"):
        publish(folder, REPO, private=True, dry_run=True)


def test_private_is_not_passed_over_when_the_tag_is_there(lab, folder):
    publish(folder, REPO, TAG)
    with pytest.raises(HubError, match="lab/tiny is public already; leave out --private, or make it private"):
        publish(folder, REPO, TAG, private=True)


def test_a_repository_that_somebody_else_makes_public_meanwhile_gets_nothing(lab, folder):
    lab.fail("create", first=lambda: lab.add_repo(REPO))
    with pytest.raises(HubError, match="lab/tiny is public already"):
        publish(folder, REPO, TAG, private=True)
    assert lab.repos[REPO].files == {} and "commit" not in lab.log


def test_a_commit_of_somebody_else_stops_it_and_is_shown(lab, folder):
    publish(folder, REPO, TAG)
    change(folder)
    lab.fail("commit", first=lambda: lab.repos[REPO].put("Mend the card", README__md=b"other", notes__txt=b"new"))
    shown = r"somebody else meanwhile: \w{8} 'Mend the card' \(\+ notes.txt, ~ README.md\); nothing of this release was"
    with pytest.raises(HubError, match=shown) as error:
        publish(folder, REPO, "v1.0.1")
    assert is_documented(str(error.value))
    assert lab.repos[REPO].head.title == "Mend the card" and "v1.0.1" not in lab.repos[REPO].tags
    publish(folder, REPO, "v1.0.1")
    assert is_whole(lab, folder, "v1.0.1")


def test_a_commit_that_landed_is_found_below_one_of_somebody_else(lab, folder):
    lab.fail("commit", status=500, late=True)
    lab.fail("info", first=lambda: lab.repos[REPO].put("Thanks", notes__txt=b"new"), skip=2)
    done = publish(folder, REPO, TAG)
    repo = lab.repos[REPO]
    assert [commit.title for commit in repo.commits] == ["initial commit", "Release v1.0.0", "Thanks"]
    assert repo.tags == {TAG: repo.commits[1].oid} == {TAG: done.commit}


def test_two_who_publish_the_same_at_once_make_one_commit(lab, folder):
    publish(folder, REPO)
    change(folder)
    same = content(folder)
    lab.fail("commit", first=lambda: lab.repos[REPO].add("Release", {
        **lab.repos[REPO].head.files, **{path: type(blob)(same[path], blob.large)
        for path, blob in lab.repos[REPO].head.files.items() if path in same}}))  # fmt: skip
    done = publish(folder, REPO, TAG)
    assert len(lab.repos[REPO].commits) == 3 and is_whole(lab, folder)
    assert "but the commit had landed" in done.notes[0]


def test_a_tag_that_somebody_else_sets_meanwhile_stays(lab, folder):
    lab.fail("tag", first=lambda: lab.repos[REPO].tags.update({TAG: lab.repos[REPO].commits[0].oid}))
    with pytest.raises(HubError, match=r"somebody else set tag v1\.0\.0 of lab/tiny"):
        publish(folder, REPO, TAG)
    assert lab.repos[REPO].tags == {TAG: lab.repos[REPO].commits[0].oid}


def test_a_tag_that_somebody_else_sets_on_a_repository_that_is_being_made_stays(lab, folder):
    def tag_it():
        lab.add_repo(REPO)
        lab.repos[REPO].tags[TAG] = lab.repos[REPO].head.oid

    lab.fail("create", first=tag_it)
    with pytest.raises(HubError, match=r"tag v1\.0\.0 of lab/tiny is set on \w{8}, which holds another release"):
        publish(folder, REPO, TAG)
    repo = lab.repos[REPO]
    assert (repo.tags, repo.files) == ({TAG: repo.commits[0].oid}, {})
    publish(folder, REPO, TAG, force=True)
    assert is_whole(lab, folder)


@pytest.mark.parametrize(("repo", "tag"), [("tiny", TAG), ("lab/a--b", TAG), (REPO, "newest"), (REPO, "v1.0.0.lock")])
def test_a_name_that_the_hub_has_not_is_refused_from_python_too(lab, folder, repo, tag):
    with pytest.raises(UsageError, match=r"a repository is named ORG/NAME|a tag is a version such as"):
        publish(folder, repo, tag)
    assert lab.log == []


def test_a_repository_of_something_else_is_left_alone(lab, folder):
    lab.add_repo(REPO, weights__bin=b"precious", config__json=b"{}")
    with pytest.raises(HubError, match=r"files that are no release of gemnet \(config.json, weights.bin\)"):
        publish(folder, REPO, TAG)
    assert len(lab.repos[REPO].commits) == 2


def test_what_the_hub_and_its_owner_keep_there_stays(lab, folder):
    lab.add_repo(REPO, LICENSE=b"text", README__md=b"# soon")
    publish(folder, REPO, TAG)
    assert lab.repos[REPO].files == {**content(folder), "LICENSE": b"text"}


def test_weights_are_not_published_twice_under_two_names(lab, folder):
    publish(folder, REPO, TAG)
    with pytest.raises(HubError, match="these weights are published already, as lab/tiny; publish them there"):
        publish(folder, "lab/other", TAG)
    assert set(lab.repos) == {REPO}


def test_nobody_without_a_token_gets_far(hub, folder, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(HubError, match=r"^there is no token for the Hub; run hf auth login, or set HF_TOKEN; nothing"):
        publish(folder, REPO, TAG)
    assert hub.log == []


def test_a_reader_cannot_publish(lab, folder):
    lab.add_token(TOKEN, "bob")
    with pytest.raises(HubError, match="the token may not write to lab/tiny; take one with write permission there"):
        publish(folder, REPO, TAG)
    assert lab.repos == {}


def test_offline_is_said(lab, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set; unset it to publish; nothing was published"):
        publish(folder, REPO, TAG)


def test_a_folder_that_is_not_as_its_manifest_says_is_not_sent(lab, folder):
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(5000)
        file.write(b"x")
    with pytest.raises(ManifestError, match=r"model\.safetensors is damaged"):
        publish(folder, REPO, TAG)
    assert lab.log == []


def add_link(folder: Path) -> None:
    (folder.parent / "secret").write_text("key")
    (folder / "key").symlink_to("../secret")


UNLISTED = {
    "file": (lambda folder: (folder / ".env").write_text("KEY=1"), r"\.env is not listed in manifest\.json"),
    "link": (add_link, "key is a link"),
}


@pytest.mark.parametrize("when", ["before", "while it reads", "while it makes the repository"])
@pytest.mark.parametrize("case", UNLISTED)
def test_a_file_that_the_manifest_does_not_list_is_not_sent(lab, folder, case, when):
    add, message = UNLISTED[case]
    if when == "before":
        add(folder)
    else:
        lab.fail("info" if when == "while it reads" else "create", first=lambda: add(folder))
    with pytest.raises(GemnetError, match=message):
        publish(folder, REPO, TAG)
    assert not {"commit", "preupload", "batch", "upload"} & set(lab.log)


def test_a_path_outside_the_manifest_is_no_part_of_a_commit(lab, folder, monkeypatch):
    (folder / ".env").write_text("KEY=1")
    monkeypatch.setattr(publishing, "check_manifest", lambda folder: Manifest.read(folder / FILE))
    with pytest.raises(ReleaseError, match=r"\.env is not listed in manifest\.json; lab/tiny was made and is empty"):
        publish(folder, REPO, TAG)
    assert lab.repos[REPO].files == {} and "commit" not in lab.log
