"""Releases fetched into folders and verified there, from a Hub on this machine; the client is the real one."""

import hashlib
import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from tiny_models import answers, flip

import gemnet
from gemnet import fetching
from gemnet.errors import (
    HubError,
    ManifestError,
    UsageError,
)
from gemnet.fetching import fetch
from gemnet.manifest import describe


def test_a_fetched_folder_is_the_release_and_loads_offline(hub, repo, folder, published, tmp_path, monkeypatch):
    fetch("acme/net@v1.0.0", tmp_path / "deep" / "got")
    assert describe(tmp_path / "deep" / "got") == describe(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for ref in (tmp_path / "deep" / "got", "acme/net@v1.0.0"):
        assert torch.equal(answers(gemnet.from_pretrained(ref)), answers(published))
    fetch("acme/net@v1.0.0", tmp_path / "again")  # from the cache


@pytest.mark.parametrize("fault", [{"flip": True}, {"cut": 0.3, "times": 99}, {"status": 500, "times": 99}])
def test_a_fetch_that_fails_leaves_nothing(fault, hub, repo, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine").write_text("mine")
    hub.fail("cdn", **fault)
    for to, force in ((tmp_path / "got", False), (tmp_path / "old", True)):
        with pytest.raises((ManifestError, HubError)):
            fetch("acme/net@v1.0.0", to, force=force)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("hub-cache", "model")) == ["old"]
    assert (tmp_path / "old" / "mine").read_text() == "mine"


def test_a_folder_in_use_is_not_written_into(folder, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    fetch(folder, taken)  # empty
    with pytest.raises(UsageError, match="is not empty; name another folder, or --force to replace it"):
        fetch(folder, taken)
    (taken / "mine").write_text("")
    fetch(folder, taken, force=True)
    assert describe(taken) == describe(folder)
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(taken)
    for name in ("file", "link"):
        with pytest.raises(UsageError, match="is there and no folder; name another"):
            fetch(folder, tmp_path / name, force=True)
    with pytest.raises(UsageError, match="cannot write to"):
        fetch(folder, tmp_path / "file" / "below")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("force", [False, True])
def test_several_fetch_into_one_folder_at_once(force, folder, tmp_path, monkeypatch):
    """Each has copied everything when the first gives its folder the name."""
    home, ready, place = tmp_path / "place" / "got", threading.Barrier(4), fetching.put_folder

    def put_together(*arguments, **options):
        ready.wait(timeout=20)
        place(*arguments, **options)

    def one(_):
        try:
            return fetch(folder, home, force=force)
        except UsageError as error:
            return str(error)

    monkeypatch.setattr(fetching, "put_folder", put_together)
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(one, range(4)))
    refused = [row for row in told if isinstance(row, str)]
    assert len(refused) == (0 if force else 3)
    assert all("is not empty; name another folder" in row for row in refused)
    assert describe(home) == describe(folder)
    assert names(home.parent) == ["got"]


def test_a_fetch_leaves_what_is_beside_it_alone(folder, tmp_path):
    home = tmp_path / "got"
    for name in (".got.part", ".got.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("mine")
    for _ in range(2):
        fetch(folder, home, force=True)
    assert names(tmp_path) == [".got.old", ".got.part", "got", "model"]
    assert all((tmp_path / name / "mine").read_text() == "mine" for name in (".got.part", ".got.old"))
    (tmp_path / "usual").mkdir()
    assert home.stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, PermissionError])
@pytest.mark.parametrize("after", [0, 1])
def test_an_interrupted_fetch_gives_the_old_folder_back(error, after, folder, tmp_path, monkeypatch):
    home, rename, calls = tmp_path / "place" / "got", os.rename, []
    home.mkdir(parents=True)
    (home / "mine").write_text("mine")

    def fail(source, target):
        calls.append(source)
        if len(calls) == after + 1:
            raise error(1, "no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises((KeyboardInterrupt, UsageError)):
        fetch(folder, home, force=True)
    assert names(home.parent) == ["got"]
    assert (home / "mine").read_text() == "mine"


def test_what_a_training_leaves_is_nothing_to_tell_of(folder):
    for name in ("train.json", "checkpoints/step-1/state.json", "curve.html", "release/README.md", ".lock"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    done = gemnet_cli("verify", folder)
    assert (done.exit_code, done.stderr) == (0, "")
    for name in "edcba":
        (folder / name).write_text("")
    assert gemnet_cli("verify", folder).stderr == "not in the manifest, not compared: 5 files ('a', 'b', 'c', ...)\n"
    (folder / "train.json").unlink()
    assert fetching.unlisted(folder)[-2:] == ["checkpoints/step-1/state.json", "release/README.md"]


def gemnet_cli(*arguments):
    from click.testing import CliRunner

    from gemnet.cli import main

    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_the_commands_verify_and_fetch(hub, repo, folder, tmp_path):
    done = gemnet_cli("fetch", "acme/net", "--revision", "v1.0.0", "--to", tmp_path / "got")
    assert (done.exit_code, done.stdout.count("3 files")) == (0, 1)
    assert gemnet_cli("fetch", "acme/net", "--to", tmp_path / "got").exit_code == 2
    for ref in ("acme/net@v1.0.0", tmp_path / "got"):
        done = gemnet_cli("verify", ref)
        assert done.exit_code == 0, done.output
        assert [line.split()[-1] for line in done.stdout.splitlines()[:3]] == [
            "config.json", "model.safetensors", "onnx/model.onnx",
        ]  # fmt: skip
    flip(tmp_path / "got" / "onnx" / "model.onnx")
    (tmp_path / "got" / "more").write_text("")
    done = gemnet_cli("verify", tmp_path / "got")
    assert done.exit_code == 1
    assert re.search(r"^BAD .* onnx/model\.onnx$", done.stdout, re.MULTILINE)
    assert re.search(r"^Error: .*onnx/model\.onnx is damaged", done.stderr, re.MULTILINE)
    assert "not in the manifest, not compared: 1 file ('more')\n" in done.stderr
    done = gemnet_cli("verify", tmp_path / "got", "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["ok"], told["unlisted"]) == (1, False, ["more"])
    assert [bool(row["problem"]) for row in told["files"]] == [False, False, True]
    assert told["files"][0]["sha256"] == hashlib.sha256((folder / "config.json").read_bytes()).hexdigest()
    assert gemnet_cli("verify", "gemnet_b").exit_code == 2
    assert gemnet_cli("fetch", "gemnet_x", "--to", tmp_path / "x").exit_code == 2
