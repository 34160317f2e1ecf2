"""Weights in the package are tried in a zoo of the test's own."""

import hashlib
import importlib
import json
import shutil
import warnings

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner

import gemnet
from gemnet import gemnet as entry_points
from gemnet import zoo
from gemnet.catalog import FAMILY
from gemnet.cli import main
from gemnet.errors import ConfigError, FileError, GemnetError, NoWeightsError, UsageError
from gemnet.fetching import fetch, verify
from gemnet.packing import pack
from gemnet.pretrained import Result, load_weights_list
from gemnet.saving import save_folder
from gemnet.weights import save_weights

NAME = "gemnet_a_cifar.test"


def register() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm tells that a name is registered again
        importlib.reload(entry_points)


@pytest.fixture
def shipped(tmp_path, monkeypatch):
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
    assert timm.list_models("gemnet*", pretrained=True) == ["gemnet_a_cifar", NAME]
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
        load_weights_list(tmp_path / "list.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "cannot be read"), ("[]", "another schema"), ('{"schema": "gemnet.pretrained/1"}', "another schema"),
     ('{"schema": "gemnet.pretrained/1", "weights": {"a": 1}}', "weights a: expected a JSON object")],
)  # fmt: skip
def test_a_list_that_is_none_is_refused(text, words, tmp_path):
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ConfigError, match=words):
        load_weights_list(tmp_path / "list.json")


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
    with pytest.raises(NoWeightsError, match=f"no weights of gemnet_b; it has those of {NAME}"):
        gemnet.from_pretrained("gemnet_b")
    with pytest.raises(UsageError, match="comes with the package: there is nothing to fetch"):
        fetch(NAME, zoo.path("there"))


TRAIN = {
    "schema": "gemnet.train/1",
    "asked": {"data": {"counts": {"train": 50, "val": 10, "test": 60}, "classes": [*"abcdefghij"]}},
    "result": {"epoch": 1, "test": {"top1": 0.5, "top5": 0.9, "images": 60}},
}  # fmt: skip
CFG = {"mean": (0.4, 0.5, 0.6), "std": (0.1, 0.2, 0.3), "crop_pct": 1.0, "pool_size": None}


@pytest.fixture
def outcome(tmp_path):
    """What a training of `gemnet_a_cifar` leaves."""
    model = timm.create_model("gemnet_a_cifar")
    folder = save_folder(model, tmp_path / "outcome", label_names=list("abcdefghij"), pretrained_cfg=CFG)
    (folder / "train.json").write_text(json.dumps(TRAIN))
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A zoo to pack into, whose weights are registered by `register()`."""
    for kind in ("cells", "recipes"):
        shutil.copytree(zoo.path(kind), tmp_path / "zoo" / kind)
    (tmp_path / "zoo" / "pretrained.json").write_text('{"schema": "gemnet.pretrained/1", "weights": {}}')
    with monkeypatch.context() as patch:
        patch.setattr(zoo, "PACKAGE", tmp_path / "zoo")
        yield tmp_path / "zoo"
    register()


def test_a_trainings_outcome_becomes_weights_of_the_package(outcome, home):
    weights = pack(outcome, "gemnet_a_cifar.tiny", data="cifar10", licence="other")
    content = (outcome / "model.safetensors").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert weights.file == f"weights/gemnet_a_cifar.tiny-{digest[:8]}.safetensors"
    assert (weights.sha256, weights.result) == (digest, Result("cifar10", "test", 60, 0.5, 0.9))
    assert (home / weights.file).read_bytes() == content
    record = home / "weights" / f"gemnet_a_cifar.tiny-{digest[:8]}.train.json"
    assert record.read_text() == (outcome / "train.json").read_text()
    assert set(weights.cfg) == {"mean", "std", "label_names", "license"}  # the rest is the name's own
    (listed,) = load_weights_list().values()
    assert (listed.sha256, listed.cfg["mean"], listed.cfg["license"]) == (digest, [0.4, 0.5, 0.6], "other")
    register()
    for model in (timm.create_model("gemnet_a_cifar", pretrained=True), gemnet.from_pretrained("gemnet_a_cifar.tiny")):
        expected = timm.create_model(f"local-dir:{outcome}", pretrained=True).state_dict()
        assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), expected.values()))
        assert tuple(model.pretrained_cfg["mean"]) == (0.4, 0.5, 0.6)


def test_other_weights_take_a_names_place_only_by_force(outcome, home):
    first = pack(outcome, "gemnet_a_cifar.tiny")
    with pytest.raises(UsageError, match="has weights already; --force replaces them"):
        pack(outcome, "gemnet_a_cifar.tiny")
    save_folder(timm.create_model("gemnet_a_cifar"), outcome, pretrained_cfg=CFG)
    other = pack(outcome, "gemnet_a_cifar.tiny", force=True)
    assert other.sha256 != first.sha256
    assert sorted(file.name for file in (home / "weights").iterdir()) == sorted(
        [other.path.name, other.path.with_suffix(".train.json").name]
    )
    pack(outcome, "gemnet_a_cifar.more")
    assert list(load_weights_list()) == ["gemnet_a_cifar.more", "gemnet_a_cifar.tiny"]


def spoil_weights(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def set_train(**fields):
    return lambda folder: (folder / "train.json").write_text(json.dumps({**TRAIN, **fields}))


@pytest.mark.parametrize(
    ("change", "name", "error", "words"),
    [
        (lambda folder: None, "gemnet_a_cifar", UsageError, r"named ARCH\.TAG"),
        (lambda folder: None, "../x.y", UsageError, r"named ARCH\.TAG"),
        (lambda folder: None, "gemnet_c.x", UsageError, "unknown model 'gemnet_c'"),
        (lambda folder: None, "gemnet_b_cifar.x", ConfigError, "holds another network than gemnet_b_cifar; train"),
        (lambda folder: None, "gemnet_a.x", ConfigError, "holds another network than gemnet_a; train"),
        (spoil_weights, "gemnet_a_cifar.x", FileError, r"model\.safetensors is damaged"),
        (set_train(result=None), "gemnet_a_cifar.x", UsageError, "is not over; finish it by gemnet train --resume"),
        (set_train(result={"test": None}), "gemnet_a_cifar.x", UsageError, "scored no test split"),
        (set_train(asked={}), "gemnet_a_cifar.x", FileError, "is no record of gemnet train"),
        (set_train(result={"test": {"top1": "most", "top5": 1, "images": 60}}), "gemnet_a_cifar.x", FileError,
         "is no record of gemnet train"),
        (set_train(result={**TRAIN["result"], "weights_sha256": "0" * 64}), "gemnet_a_cifar.x", FileError,
         "is not the file that the training of train.json wrote"),
        (set_train(result={"test": {"top1": 0.29, "top5": 0.5, "images": 60}}), "gemnet_a_cifar.x", UsageError,
         "look untrained: 29.0 % of 60 test images are right, at least 29.4 % is asked for"),
        (lambda folder: (folder / "train.json").unlink(), "gemnet_a_cifar.x", FileError, "cannot read .*train.json"),
        (shutil.rmtree, "gemnet_a_cifar.x", FileError, "there is no folder"),
    ],
)
def test_what_cannot_be_packed_changes_nothing(change, name, error, words, outcome, home):
    change(outcome)
    before = (home / "pretrained.json").read_bytes()
    with pytest.raises(error, match=words) as caught:
        pack(outcome, name)
    assert isinstance(caught.value, GemnetError)
    assert (home / "pretrained.json").read_bytes() == before
    assert not (home / "weights").exists()


def test_the_command_packs(outcome, home, tmp_path):
    done = CliRunner().invoke(main, ["promote-weights", str(outcome), "gemnet_a_cifar.tiny", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["result"] == {"data": "tiny", "split": "test", "images": 60, "top1": 0.5, "top5": 0.9}
    (tmp_path / "other").mkdir()
    elsewhere = ["gemnet_a_cifar.x", "--zoo", str(tmp_path / "other")]
    done = CliRunner().invoke(main, ["promote-weights", str(outcome), *elsewhere])
    assert (done.exit_code, "test top-1 50.00 % on x" in done.stdout) == (0, True), done.output
    assert list(load_weights_list(tmp_path / "other" / "pretrained.json")) == ["gemnet_a_cifar.x"]
    assert CliRunner().invoke(main, ["promote-weights", str(outcome), "gemnet_a_cifar.tiny"]).exit_code == 2


@pytest.mark.slow
def test_a_real_training_is_packed_and_evaluated_the_same(home, tmp_path, monkeypatch):
    monkeypatch.setattr("gemnet.packing.CHANCE", -9.0)  # there is nothing to learn in noise
    rng, classes = np.random.default_rng(0), [f"c{k}" for k in range(10)]
    arrays = {}
    for part, count in (("train", 64), ("test", 40)):
        arrays[f"{part}_labels"] = np.arange(count) % 10
        arrays[f"{part}_images"] = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "set.npz", **arrays, classes=np.array(classes))
    data, out = ["--data", f"npz:{tmp_path / 'set.npz'}"], str(tmp_path / "out")
    options = ["--recipe", "cifar-cpu", "--set", "epochs=1", "--set", "batch_size=32", "--set", "warmup_epochs=0"]
    trained = CliRunner().invoke(main, ["train", "gemnet_a_cifar", *data, *options, "--out", out, "--json"])
    assert trained.exit_code == 0, trained.output
    weights = pack(tmp_path / "out", "gemnet_a_cifar.noise")
    register()
    scored = CliRunner().invoke(main, ["eval", "gemnet_a_cifar", *data, "--json"])
    assert json.loads(scored.stdout)["top1"] == weights.result.top1 == json.loads(trained.stdout)["test"]["top1"]
