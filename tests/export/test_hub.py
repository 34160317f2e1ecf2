"""Publishing to the loopback Hub with the real client: it ends whole or not at all, whatever goes wrong."""

import re
import shutil
from pathlib import Path

import pytest
from loopback_answers import Answer

from gemnet.errors import GemnetError, HubError, ManifestError, ReleaseError
from gemnet.export import hub as publishing
from gemnet.export import remote
from gemnet.export.hub import publish
from gemnet.manifest import FILE, Manifest, describe

DOCS = re.sub(r"\b[0-9a-f]{8}\b", "COMMIT", (Path(__file__).parents[2] / "docs" / "publish.md").read_text())
REPO, TAG, TOKEN = "lab/tiny", "v1.0.0", "hf_Secret0123456789"


@pytest.fixture
def lab(hub, monkeypatch):
    """The Hub, with an owner of `lab` who is logged in."""
    hub.add_token(TOKEN, "anna", orgs=("lab",))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(publishing, "WAITS_S", (0, 0, 0))
    return hub


@pytest.fixture
def folder(release_folder, tmp_path) -> Path:
    return shutil.copytree(release_folder, tmp_path / "release")


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


# What goes wrong, what is said, and whether the release is there all the same.
SERVER, UNREACHABLE = r"the Hub answers 500 \(something went wrong\)", r"the Hub cannot be reached \(\w+\)"
EXPIRED = "the Hub refuses the token, which may have expired; run hf auth login, or set HF_TOKEN; "
NOTHING, EMPTY = "nothing was published$", "lab/tiny was made and is empty$"
LATER = "lab/tiny was made and is empty; run the same command again later$"
PARTLY = r"the commit \w{8} is there, whole, but tag v1.0.0 was not set; run the same command again$"
UNREAD = r"the commit \w{8} is there, but was not read back and has no tag; run the same command again$"
ENDS = {
    "no token": ([("whoami", {"status": 401})], f"{EXPIRED}{NOTHING}"),
    "500 at first": ([("info", {"status": 500})], f"{SERVER}; {NOTHING}"),
    "dropped at first": ([("info", {"drop": True})], f"{UNREACHABLE}; {NOTHING}"),
    "no repository": ([("create", {"status": 500})], f"{SERVER}; {NOTHING}"),
    "repository unheard": ([("create", {"drop": True, "late": True})], f"{UNREACHABLE}; {NOTHING}"),
    "card refused": ([("validate", {"status": 400})], rf"the Hub and its client do not agree \(.*README.*\); {EMPTY}"),
    "500 to uploads": ([("upload", {"status": 500, "times": 99})], f"{SERVER}, 3 times; {LATER}"),
    "500 to batches": ([("batch", {"status": 500, "times": 99})], f"{SERVER}, 3 times; {LATER}"),
    "expired at the upload": ([("batch", {"status": 401})], f"{EXPIRED}{EMPTY}"),
    "expired at the commit": ([("commit", {"status": 401})], f"{EXPIRED}{EMPTY}"),
    "not allowed": ([("commit", {"status": 403})], f"the token may not write to lab/tiny.*; {EMPTY}"),
    "always 500": ([("commit", {"status": 500, "times": 99})], f"{SERVER}, 3 times; {LATER}"),
    "500, then nothing": (
        [("commit", {"status": 500}), ("info", {"drop": True, "skip": 2})],
        f"{SERVER}, then {UNREACHABLE}: it is not known whether the commit landed; run the same command again",
    ),
    "landed, then nothing": (
        [("commit", {"drop": True, "late": True}), ("info", {"drop": True, "skip": 2})],
        f"{UNREACHABLE}, then {UNREACHABLE}: it is not known whether the commit landed; run the same command again",
    ),
    "500 to the reading back": ([("tree", {"status": 500, "skip": 1, "times": 99})], f"{SERVER}; {UNREAD}"),
    "always cut reading back": ([("tree", {"cut": 0.5, "skip": 1, "times": 99})], f"{UNREACHABLE}; {UNREAD}"),
    "expired at the tag": ([("tag", {"status": 401})], f"{EXPIRED}{PARTLY}"),
    "always 500 to the tag": ([("tag", {"status": 500, "times": 99})], f"{SERVER} when .*, 3 times; {PARTLY}"),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_fault_that_ends_it_says_what_is_there_and_the_next_run_completes_it(lab, folder, case):
    faults, message = ENDS[case]
    for on, how in faults:
        lab.fail(on, **how)
    with pytest.raises(HubError, match=f"^{message}") as error:
        publish(folder, REPO, TAG)
    assert is_documented(str(error.value))
    found = lab.repos.get(REPO)
    assert found is None or found.files in ({}, content(folder))
    assert found is None or not found.tags
    lab.faults.clear()
    publish(folder, REPO, TAG)
    assert is_whole(lab, folder)
    assert [commit.title for commit in lab.repos[REPO].commits] == ["initial commit", "Release v1.0.0"]


TAGGING = "when the tag was set; it was looked up again"
MENDED = {
    "500 before the commit": ("commit", {"status": 500}, f"{SERVER}, and the commit had not landed; it was sent again"),
    "500 after the commit": ("commit", {"status": 500, "late": True}, rf"{SERVER}, but the commit had landed: \w{{8}}"),
    "dropped before": ("commit", {"drop": True}, f"{UNREACHABLE}, and the commit had not landed; it was sent again"),
    "dropped after": ("commit", {"drop": True, "late": True}, rf"{UNREACHABLE}, but the commit had landed: \w{{8}}"),
    "upload fails once": ("upload", {"status": 500}, None),
    "upload dropped once": ("upload", {"drop": True}, None),
    "reading back cut once": ("tree", {"cut": 0.5, "skip": 1}, None),
    "slow": ("commit", {"delay_s": 0.5}, None),
    "500 after the tag": ("tag", {"status": 500, "late": True}, f"{SERVER} {TAGGING}"),
    "500 before the tag": ("tag", {"status": 500}, f"{SERVER} {TAGGING}"),
}


@pytest.mark.parametrize("case", MENDED)
def test_a_passing_fault_is_mended_with_one_commit(lab, folder, case):
    on, how, note = MENDED[case]
    lab.fail(on, **how)
    done = publish(folder, REPO, TAG)
    assert is_whole(lab, folder) and done.committed and done.tagged
    assert len(lab.repos[REPO].commits) == 2
    assert len(done.notes) == (note is not None)
    assert note is None or (re.fullmatch(note, done.notes[0]) and is_documented(done.notes[0]))


def test_a_hub_that_says_nothing_is_given_up(lab, folder, monkeypatch):
    monkeypatch.setattr(publishing, "patience", lambda: remote.patience(0.2))
    lab.fail("info", delay_s=1.0)
    with pytest.raises(HubError, match=r"^the Hub cannot be reached \(ReadTimeout\); nothing was published"):
        publish(folder, REPO, TAG)


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


def test_a_tag_that_was_taken_off_and_not_set_again_is_said(lab, folder):
    publish(folder, REPO, TAG)
    change(folder)
    lab.fail("tag", status=401)
    with pytest.raises(HubError, match=r"whole; tag v1.0.0 was taken off \w{8} and not set again; run the same"):
        publish(folder, REPO, TAG, force=True)
    publish(folder, REPO, TAG)
    assert is_whole(lab, folder)


def test_an_answer_that_is_no_json_is_looked_up(lab, folder):
    lab.fail("commit", change=lambda _: Answer(b"<html>busy</html>"))
    done = publish(folder, REPO, TAG)
    assert is_whole(lab, folder) and len(lab.repos[REPO].commits) == 2
    assert "but the commit had landed" in done.notes[0]


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


def test_a_wrong_hash_read_back_gets_no_tag(lab, folder):
    def lie(rows):
        return [{**row, "lfs": {**row["lfs"], "oid": "0" * 64}} if row["path"] == "model.safetensors" else row
                for row in rows]  # fmt: skip

    lab.fail("tree", change=lie, skip=1)
    with pytest.raises(HubError, match=r"does not hold what was sent: ~ model.safetensors; commit \w{8} has no tag"):
        publish(folder, REPO, TAG)
    assert not lab.repos[REPO].tags


def test_a_tag_that_somebody_else_sets_meanwhile_stays(lab, folder):
    lab.fail("tag", first=lambda: lab.repos[REPO].tags.update({TAG: lab.repos[REPO].commits[0].oid}))
    with pytest.raises(HubError, match=r"somebody else set tag v1\.0\.0 of lab/tiny"):
        publish(folder, REPO, TAG)
    assert lab.repos[REPO].tags == {TAG: lab.repos[REPO].commits[0].oid}


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


def test_a_file_that_changes_while_it_is_sent_gets_no_tag(lab, folder):
    lab.fail("commit", first=lambda: (folder / "cell.json").write_text("{ }"))
    with pytest.raises(GemnetError, match=r"cell\.json"):
        publish(folder, REPO, TAG)
    assert not lab.repos[REPO].tags
