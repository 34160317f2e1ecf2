"""Weights in the package are tried in a zoo of the test's own."""

import hashlib
import json
import re
import shutil

import pytest
import timm
import torch
from click.testing import CliRunner
from registering import register

import gemnet
from gemnet import zoo
from gemnet.catalog import FAMILY
from gemnet.cli import main
from gemnet.errors import ConfigError, NoWeightsError, UsageError
from gemnet.fetching import fetch, verify
from gemnet.pretrained import load_weights_list, read_weights_list
from gemnet.weights import save_weights

NAME = "gemnet_a_cifar.test"


@pytest.fixture
def shipped(tmp_path, monkeypatch, nobodys_zoo):
    """The weights of `gemnet_a_cifar.test`, registered until the test is over."""
    shutil.copytree(zoo.path("cells"), tmp_path / "cells")
    (tmp_path / "weights").mkdir()
    file = tmp_path / "weights" / "test.safetensors"
    torch.manual_seed(0)
    model = timm.create_model("gemnet_a_cifar")
    save_weights(model, file)
    form = FAMILY["gemnet_a_cifar"]
    entry = {
        "file": "weights/test.safetensors", "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "model_args": {"cell": form.load().to_dict(), "net": form.net().to_dict()}, "cfg": {"crop_pct": 0.9},
    }  # fmt: skip
    listed = {"schema": "gemnet.pretrained/1", "weights": {NAME: entry}}
    (tmp_path / "pretrained.json").write_text(json.dumps(listed))
    with monkeypatch.context() as patch:
        patch.setattr(zoo, "PACKAGE", tmp_path)
        register()
        yield model
    register()


def test_shipped_weights_load_under_their_name_and_as_the_default(shipped, tmp_path):
    assert timm.list_models("gemnet*", pretrained=True) == [NAME]
    for name in (NAME, "gemnet_a_cifar"):
        model = timm.create_model(name, pretrained=True)
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), shipped.state_dict().values()))
        assert (model.pretrained_cfg["tag"], model.pretrained_cfg["crop_pct"]) == ("test", 0.9)
    assert timm.create_model(NAME, pretrained=True, num_classes=3, in_chans=1)(torch.zeros(1, 1, 32, 32)).shape == (
        1,
        3,
    )
    with pytest.raises(RuntimeError, match=f"weights exist for {NAME}"):
        timm.create_model("gemnet_b", pretrained=True)


def test_weights_load_whatever_becomes_of_the_names_cell(shipped, tmp_path):
    shutil.copy(tmp_path / "cells" / "gemnet_b.json", tmp_path / "cells" / "gemnet_a.json")
    model = timm.create_model(NAME, pretrained=True)
    assert model.cells == shipped.cells != timm.create_model("gemnet_a_cifar").cells


def test_a_damaged_file_is_not_used(shipped, tmp_path):
    file = tmp_path / "weights" / "test.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for load in (lambda name: timm.create_model(name, pretrained=True), gemnet.from_pretrained):
        with pytest.raises(ConfigError, match=r"test\.safetensors is damaged: its sha256 is"):
            load(NAME)
    (row,) = verify(NAME)
    assert "is damaged" in row.problem
    file.unlink()
    (row,) = verify("gemnet_a_cifar")
    assert "cannot read weights" in row.problem
    with pytest.raises(ConfigError, match="cannot read weights"):
        timm.create_model(NAME, pretrained=True)


@pytest.mark.parametrize("file", ["/etc/passwd", "../weights.safetensors", "weights/a.pth"])
def test_a_list_names_files_inside_the_zoo_only(file, tmp_path):
    entry = {"file": file, "sha256": "", "model_args": {"cell": {}, "net": {}}}
    (tmp_path / "list.json").write_text(json.dumps({"schema": "gemnet.pretrained/1", "weights": {"a": entry}}))
    with pytest.raises(ConfigError, match=r"a \.safetensors file inside the zoo"):
        read_weights_list(tmp_path / "list.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "cannot be read"), ("[]", "another schema"), ('{"schema": "gemnet.pretrained/1"}', "another schema"),
     ('{"schema": "gemnet.pretrained/1", "weights": {"a": 1}}', "weights a: expected a JSON object")],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(text, words, tmp_path):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_weights_list(tmp_path / "list.json")


BAD_ENTRIES = {
    "field 'sha256' is missing": {"file": "weights/x.safetensors"},
    "expected a JSON object": 1,
    "unknown field of weights": {"file": "weights/x.safetensors", "sha": ""},
    "unknown field of the cfg": {
        "file": "weights/x.safetensors", "sha256": "", "model_args": {"cell": {}, "net": {}}, "cfg": {"file": "/x.pth"},
    },
}  # fmt: skip


@pytest.mark.parametrize("words", BAD_ENTRIES)
def test_a_users_list_with_a_bad_entry_is_named_and_leaves_the_package_usable(words, shipped, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    file = tmp_path / "mine" / "pretrained.json"
    entries = {"gemnet_a_cifar.q": BAD_ENTRIES[words]}
    file.write_text(json.dumps({"schema": "gemnet.pretrained/1", "weights": entries}))
    told = f"the list of weights {re.escape(str(file))} is refused: .*{words}.*; mend or remove it"
    with monkeypatch.context() as patch:
        patch.setenv("GEMNET_ZOO", str(tmp_path / "mine"))
        with pytest.raises(ConfigError, match=told):
            load_weights_list()
        listed = CliRunner().invoke(main, ["list"])
        with pytest.warns(RuntimeWarning, match=told) as seen:
            register()
    assert len(seen) == 1
    assert listed.exit_code == 2 and re.search(told, listed.stderr)
    model = timm.create_model("gemnet_a_cifar", pretrained=True)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), shipped.state_dict().values()))


def test_weights_of_a_model_of_a_later_version_are_passed_over(shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("GEMNET_ZOO", str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    listed = json.loads((tmp_path / "pretrained.json").read_text())
    listed["weights"] = {"gemnet_z.later": listed["weights"][NAME]}
    (tmp_path / "mine" / "pretrained.json").write_text(json.dumps(listed))
    register()
    assert timm.list_models("gemnet*", pretrained=True) == [NAME]


def test_the_packaged_list_is_read_and_its_files_are_whole():
    for weights in load_weights_list().values():
        weights.check()


def test_packaged_weights_load_by_our_way_too(shipped):
    for name in (NAME, "gemnet_a_cifar"):
        model = gemnet.from_pretrained(name)
        assert not model.training
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), shipped.state_dict().values()))
        assert [row.problem for row in verify(name)] == [""]
    assert gemnet.from_pretrained(NAME, num_classes=3, in_chans=1)(torch.zeros(1, 1, 32, 32)).shape == (1, 3)
    with pytest.raises(NoWeightsError, match=f"the zoo has no weights of gemnet_b; it has those of {NAME}"):
        gemnet.from_pretrained("gemnet_b")
    place = re.escape(str(zoo.path("weights", "test.safetensors")))
    with pytest.raises(UsageError, match=f"names weights in a zoo, {place}: there is nothing to fetch"):
        fetch(NAME, zoo.path("there"))
