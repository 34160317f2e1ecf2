"""Public data sets known again in whatever form they come; CIFAR-10's own images are not at hand in a test."""

import json

import numpy as np
import pytest

from gemnet import public_data
from gemnet.data import Dataset, Split, load, subset
from gemnet.images import MemoryImages
from gemnet.public_data import PUBLIC, PublicData, contents_of, data_of, label_names, licence, recognise
from gemnet.recipe import Recipe
from gemnet.task import build_model, save_model

NAMES = ("cat", "dog", "owl")


def arrays(seed=0):
    """Thirty training and six test images of three classes, in an order that the seed decides."""
    rng = np.random.default_rng(7)
    images, labels = rng.integers(0, 256, (36, 32, 32, 3), dtype=np.uint8), np.arange(36) % 3
    train, test = (np.random.default_rng(seed).permutation(part) for part in (np.arange(30), np.arange(30, 36)))
    return {"train_images": images[train], "train_labels": labels[train], "test_images": images[test],
            "test_labels": labels[test]}  # fmt: skip


@pytest.fixture
def forms(tmp_path, monkeypatch):
    """Three forms of one set, which is then a public one: without names, in another order, with names and a split."""
    np.savez(tmp_path / "plain.npz", **arrays())
    np.savez(tmp_path / "other.npz", **arrays(1))
    whole = arrays(2)
    split = {f"val_{name}": whole[f"train_{name}"][:9] for name in ("images", "labels")}
    rest = {f"train_{name}": whole[f"train_{name}"][9:] for name in ("images", "labels")}
    np.savez(tmp_path / "named.npz", **{**whole, **rest, **split}, classes=np.array(NAMES))
    found = [load(f"npz:{tmp_path / name}.npz") for name in ("plain", "other", "named")]
    known = PublicData("Pets", "lab/pets", "", "pets.", NAMES, (30, 6), contents_of(found[0]))
    monkeypatch.setitem(public_data.PUBLIC, "pets", known)
    return found


def test_a_set_is_known_in_every_order_and_split_with_names_or_without(forms):
    assert len({data.fingerprint for data in forms}) == 3
    assert [recognise(data) for data in forms] == ["pets"] * 3


def test_another_label_or_image_makes_another_set(forms):
    train = forms[0].train
    for change in ("images", "labels"):
        both = {"images": train.images.copy(), "labels": train.labels.copy()}
        both[change][0] = (both[change][0] + 1) % 3
        data = Dataset("npz:mine", Split(**both), forms[0].val, forms[0].test, NAMES)
        assert recognise(data) == ""
    assert recognise(subset(forms[0], 15, 3)) == ""


def test_a_name_is_enough_for_what_torchvision_has_checked(forms):
    plain = forms[0]
    assert recognise(Dataset("cifar10", plain.train, plain.val, plain.test, plain.classes)) == "cifar10"
    assert recognise(load("fashion-mini")) == "fashion-mini"


def test_a_training_names_the_classes_of_a_public_set(forms, tmp_path):
    recipe = Recipe()
    for data, names in zip(forms, (NAMES, NAMES, NAMES)):
        images = MemoryImages(data, recipe)
        save_model(build_model("gemnet_a_cifar", images, recipe), tmp_path / "model", images, recipe)
        assert tuple(json.loads((tmp_path / "model" / "config.json").read_text())["label_names"]) == names


@pytest.mark.parametrize(
    ("classes", "names"), [([*"012"], NAMES), ([*"abc"], tuple("abc")), ([*"0123"], tuple("0123"))]
)
def test_only_numbers_are_replaced_by_names(classes, names):
    assert label_names(classes, PublicData("Pets", "lab/pets", "", "", NAMES)) == names
    assert label_names(classes, None) == tuple(classes)
    assert label_names([], PUBLIC["fashion-mini"]) == ()


def test_the_record_of_a_training_tells_its_data():
    record = {"asked": {"data": {"fingerprint": PUBLIC["cifar10"].fingerprints[0]}}, "result": {}}
    assert data_of(record) is PUBLIC["cifar10"]
    assert data_of({**record, "result": {"data_set": "cifar100"}}) is PUBLIC["cifar100"]
    for nothing in ("", None, "mine", ["cifar10"]):
        assert data_of({"asked": {"data": {}}, "result": {"data_set": nothing}}) is None


def test_fingerprints_are_those_of_the_packaged_set():
    assert PUBLIC["fashion-mini"].fingerprints == (load("fashion-mini").fingerprint,)


def test_a_licence_is_the_codes_only_where_the_images_have_one():
    assert {name: licence(data).id for name, data in PUBLIC.items()} == {
        "cifar10": "other", "cifar100": "other", "fashion-mnist": "apache-2.0", "fashion-mini": "apache-2.0",
    }  # fmt: skip
    assert licence(None).id == "other"
