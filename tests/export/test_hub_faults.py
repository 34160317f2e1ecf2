"""A Hub that fails while something is published: it ends whole or not at all, and says what is there."""

import re

import pytest
from lab import REPO, TAG, change, content, is_documented, is_whole
from loopback_answers import Answer

from gemnet.errors import GemnetError, HubError
from gemnet.export import hub as publishing
from gemnet.export import remote
from gemnet.export.hub import publish

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
    "500 to the reading back": ([("tree", {"status": 500, "skip": 2, "times": 99})], f"{SERVER}; {UNREAD}"),
    "always cut reading back": ([("tree", {"cut": 0.5, "skip": 2, "times": 99})], f"{UNREACHABLE}; {UNREAD}"),
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
    "reading back cut once": ("tree", {"cut": 0.5, "skip": 2}, None),
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


def test_a_wrong_hash_read_back_gets_no_tag(lab, folder):
    def lie(rows):
        return [{**row, "lfs": {**row["lfs"], "oid": "0" * 64}} if row["path"] == "model.safetensors" else row
                for row in rows]  # fmt: skip

    lab.fail("tree", change=lie, skip=2)
    with pytest.raises(HubError, match=r"does not hold what was sent: ~ model.safetensors; commit \w{8} has no tag"):
        publish(folder, REPO, TAG)
    assert not lab.repos[REPO].tags


def test_a_file_that_changes_while_it_is_sent_gets_no_tag(lab, folder):
    lab.fail("commit", first=lambda: (folder / "cell.json").write_text("{ }"))
    with pytest.raises(GemnetError, match=r"cell\.json"):
        publish(folder, REPO, TAG)
    assert not lab.repos[REPO].tags
