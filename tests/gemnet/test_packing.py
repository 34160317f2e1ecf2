"""Outcomes of trainings are put into a zoo of the test's own."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from registering import register
from safetensors.torch import load_file

import gemnet
from gemnet import zoo
from gemnet.cli import main
from gemnet.errors import ConfigError, FileError, GemnetError, UsageError
from gemnet.export.source import load_source
from gemnet.export.trained import load_trained, misfit, own_labels
from gemnet.fetching import verify
from gemnet.listing import list_models
from gemnet.packing import pack
from gemnet.pretrained import Result, load_weights_list, read_weights_list
from gemnet.public_data import PUBLIC
from gemnet.saving import save_folder
from gemnet.task import trained_model

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
def home(tmp_path, monkeypatch, nobodys_zoo):
    """The zoo of a checkout, whose weights are registered by `register()`."""
    for kind in ("cells", "recipes", "results"):
        shutil.copytree(zoo.path(kind), tmp_path / "zoo" / kind)
    (tmp_path / "zoo" / "pretrained.json").write_text('{"schema": "gemnet.pretrained/1", "weights": {}}')
    (tmp_path / "pyproject.toml").touch()
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


def test_the_first_of_several_tags_is_the_default(outcome, home):
    first = pack(outcome, "gemnet_a_cifar.tiny")
    save_folder(timm.create_model("gemnet_a_cifar"), outcome, pretrained_cfg=CFG)
    second = pack(outcome, "gemnet_a_cifar.more")
    assert list(load_weights_list()) == ["gemnet_a_cifar.tiny", "gemnet_a_cifar.more"]
    register()
    assert timm.get_pretrained_cfg("gemnet_a_cifar").tag == "tiny"
    third = pack(outcome, "gemnet_a_cifar.third", target=outcome.parent)
    assert third.cfg == second.cfg  # whatever weights the arch has now
    assert [row.sha256 for row in verify("gemnet_a_cifar")] == [first.sha256, second.sha256]
    for name, weights in (("gemnet_a_cifar", first), ("gemnet_a_cifar.tiny", first), ("gemnet_a_cifar.more", second)):
        tensors = load_file(weights.path)
        model, origin = load_trained(name)
        assert origin == f"sha256 {weights.sha256}"
        for loaded in (model, timm.create_model(name, pretrained=True), gemnet.from_pretrained(name),
                       trained_model(name, None, 10, 3, None, None)):  # fmt: skip
            assert torch.equal(loaded.state_dict()["head.fc.weight"], tensors["head.fc.weight"])
    with pytest.raises(ConfigError, match=r"gemnet_a_cifar\.more are for 10 classes, but --num-classes asks for 5"):
        load_source("gemnet_a_cifar.more", num_classes=5)
    assert misfit(model, 5, None, None, sized=False) == "are for 10 classes, but --num-classes asks for 5"
    info = CliRunner().invoke(main, ["info", "gemnet_a_cifar.more", "--json"])
    assert [row["tag"] for row in json.loads(info.stdout)["weights"]] == ["more"]


def test_weights_of_the_users_zoo_are_found_and_the_packages_stay_the_default(outcome, home, tmp_path, monkeypatch):
    packaged = pack(outcome, "gemnet_a_cifar.tiny")
    monkeypatch.setenv("GEMNET_ZOO", str(tmp_path / "mine"))
    save_folder(timm.create_model("gemnet_a_cifar"), outcome, pretrained_cfg=CFG)
    with pytest.raises(UsageError, match="has weights already"):
        pack(outcome, "gemnet_a_cifar.tiny")
    own = pack(outcome, "gemnet_a_cifar.own")
    assert own.path.parent == tmp_path / "mine" / "weights" and packaged.path.parent == home / "weights"
    assert list(read_weights_list(home / "pretrained.json")) == ["gemnet_a_cifar.tiny"]
    register()
    for name, weights in (("gemnet_a_cifar", packaged), ("gemnet_a_cifar.own", own)):
        wanted = load_file(weights.path)["head.fc.weight"]
        assert torch.equal(timm.create_model(name, pretrained=True).state_dict()["head.fc.weight"], wanted)
    assert [row.problem for row in verify("gemnet_a_cifar.own")] == [""]
    shown = {entry.name: entry.weights for entry in list_models()}
    assert shown["gemnet_a_cifar.own"] == str(own.path)
    assert shown["gemnet_a_cifar.tiny"] == f"package: {packaged.file}"
    other = pack(outcome, "gemnet_a_cifar.tiny", force=True)
    assert load_weights_list()["gemnet_a_cifar.tiny"].path == other.path != packaged.path
    own.path.unlink()
    with pytest.raises(ConfigError, match=r"cannot read weights .*mine.*have gemnet promote-weights write them again"):
        load_weights_list()["gemnet_a_cifar.own"].check()


def test_a_zoo_of_nobody_is_not_written_to(outcome, home, monkeypatch):
    monkeypatch.setenv("GEMNET_ZOO", "~nobody-is-called-so/zoo")
    words = "GEMNET_ZOO is ~nobody-is-called-so/zoo, but there is no home of ~nobody-is-called-so; set it to a folder"
    with pytest.raises(UsageError, match=words):
        pack(outcome, "gemnet_a_cifar.tiny")
    assert not Path("~nobody-is-called-so").exists()


@pytest.mark.parametrize("about", [{"data_set": "cifar10"}, {"fingerprint": PUBLIC["cifar10"].fingerprints[0]}])
def test_weights_of_cifar10_name_its_classes_and_have_no_formal_licence(about, outcome, home):
    save_folder(timm.create_model("gemnet_a_cifar"), outcome, label_names=[*"0123456789"], pretrained_cfg=CFG)
    told = json.loads(json.dumps(TRAIN))
    (told["asked"]["data"] if "fingerprint" in about else told["result"]).update(about)
    (outcome / "train.json").write_text(json.dumps(told))
    weights = pack(outcome, "gemnet_a_cifar.cifar10")
    assert (weights.cfg["label_names"], weights.cfg["license"]) == (PUBLIC["cifar10"].classes, "other")
    register()
    model, _ = load_trained("gemnet_a_cifar")
    assert own_labels(model) == PUBLIC["cifar10"].classes


@pytest.mark.parametrize(
    ("about", "data", "told"),
    [
        ({}, None, "tag"), ({}, "pets", "pets"), ({"asked": {"name": "pets"}}, None, "pets"),
        ({"result": {"data_set": "cifar10"}}, None, "cifar10"),
        ({"result": {"data_set": "cifar10"}}, "cifar10", "cifar10"),
        ({"asked": {"fingerprint": PUBLIC["cifar10"].fingerprints[0], "name": "npz:x"}}, None, "cifar10"),
    ],
)  # fmt: skip
def test_the_datas_name_is_what_the_training_knows_and_not_the_tag(about, data, told, outcome, home):
    record = json.loads(json.dumps(TRAIN))
    record["asked"]["data"].update(about.get("asked", {}))
    record["result"].update(about.get("result", {}))
    (outcome / "train.json").write_text(json.dumps(record))
    assert pack(outcome, "gemnet_a_cifar.tag", data=data).result.data == told


def test_another_data_set_than_the_one_trained_on_is_refused(outcome, home):
    (outcome / "train.json").write_text(json.dumps({**TRAIN, "result": {**TRAIN["result"], "data_set": "cifar10"}}))
    with pytest.raises(UsageError, match=r"trained on cifar10, as train\.json says, not on cifar100; leave out --data"):
        pack(outcome, "gemnet_a_cifar.tag", data="cifar100")
    assert not (home / "weights").exists()


def spoil_weights(folder):
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "model.safetensors").write_bytes(content)


def set_train(**fields):
    return lambda folder: (folder / "train.json").write_text(json.dumps({**TRAIN, **fields}))


@pytest.mark.parametrize(
    ("change", "name", "error", "words"),
    [
        (lambda folder: None, "gemnet_a_cifar", UsageError, r"^weights in a zoo are named ARCH\.TAG"),
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
    assert list(read_weights_list(tmp_path / "other" / "pretrained.json")) == ["gemnet_a_cifar.x"]
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
