"""What a release holds, and what is refused before anything is sent."""

import importlib
import json
import os
import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from huggingface_hub import parse_eval_result_entries
from rewriting import REPO, TAG, change_weights, rewrite
from yaml import safe_load

from gemnet import gemnet as entry_points
from gemnet import zoo
from gemnet.errors import GemnetError, ManifestError, ReleaseError, UsageError
from gemnet.export import release as releasing
from gemnet.export.fitness import check_release
from gemnet.export.infer import Model
from gemnet.export.release import Wish, assemble, is_release
from gemnet.manifest import FILE, Manifest, describe
from gemnet.packing import pack
from gemnet.pretrained import Weights
from gemnet.saving import save_folder

WISH = Wish(REPO, TAG, data="fashion-mini")
FILES = {"README.md", "cell.json", "cell.svg", "config.json", "model.safetensors", "report.json", "train.json"}


@pytest.fixture
def trained(trained_folder, tmp_path) -> Path:
    return shutil.copytree(trained_folder, tmp_path / "tiny")


def test_a_release_holds_everything_and_its_manifest_lists_it(release_folder, trained_folder):
    listed = Manifest.read(release_folder / FILE)
    assert set(listed.files) > FILES and "onnx/model.onnx" in listed.files
    assert listed == describe(release_folder) == check_release(release_folder, REPO, TAG)
    assert not any(name.startswith("checkpoints") for name in listed.files)
    for name in ("model.safetensors", "train.json"):
        assert (release_folder / name).read_bytes() == (trained_folder / name).read_bytes()
    assert json.loads((release_folder / "report.json").read_text())["model"] == "tiny"
    assert Model(release_folder / "onnx").labels[0]
    assert is_release(str(release_folder)) and not is_release(str(trained_folder))


def test_a_release_written_again_is_the_same_to_the_byte(trained, release):
    before = describe(release)
    assert assemble(str(trained), release, WISH) == before == describe(release)
    assert {path.name for path in release.parent.iterdir()} == {"tiny", "release"}


def test_another_tag_changes_the_card_alone(trained, release):
    before = describe(release)
    after = assemble(str(trained), release, Wish(REPO, "v1.0.1", data="fashion-mini"))
    assert {name for name, record in after.files.items() if record != before.files[name]} == {"README.md"}


def test_a_benchmark_that_was_named_gets_the_accuracy(trained, release):
    assemble(str(trained), release, Wish(REPO, TAG, data="fashion-mini", benchmark="lab/fashion:top1"))
    path = release / ".eval_results" / "fashion.yaml"
    (entry,) = parse_eval_result_entries(safe_load(path.read_text()))
    top1 = json.loads((trained / "train.json").read_text())["result"]["test"]["top1"]
    assert (entry.dataset_id, entry.task_id, entry.value) == ("lab/fashion", "top1", pytest.approx(100 * top1))


def result_of(top1: float):
    return lambda train: train["result"]["test"].update(top1=top1)


UNFIT = {
    "no record": (lambda folder: (folder / "train.json").unlink(), r"no record of a training \(train.json\)"),
    "not over": (lambda folder: rewrite(folder, "train.json", lambda train: train.update(result=None)), "is not over"),
    "another record": (lambda folder: (folder / "train.json").write_text("{}"), "not what gemnet train writes"),
    "at chance": (lambda folder: rewrite(folder, "train.json", result_of(0.11)), "look untrained: train.json says"),
    "fresh norms": (
        lambda folder: change_weights(folder, lambda name, v: torch.ones_like(v) if name.endswith("_var") else v),
        r"look untrained: (\d+) of \1 batch norms have seen no image, such as",
    ),
    "not finite": (
        lambda folder: change_weights(folder, lambda name, v: v / 0 if name == "head.fc.weight" else v),
        "'head.fc.weight' has values that are infinite",
    ),
    "other weights": (
        lambda folder: change_weights(folder, lambda name, v: v * 2 if name == "head.fc.weight" else v, honest=False),
        r"^model.safetensors is not the file that the training of train.json wrote",
    ),
    "result of text": (lambda folder: rewrite(folder, "train.json", lambda t: t.update(result="x")), "gemnet train w"),
    "no top1": (lambda folder: rewrite(folder, "train.json", result_of(None)), r"it says that None of \d+ images"),
    "more than all": (lambda folder: rewrite(folder, "train.json", result_of(1e9)), r"it says that 1000000000.0 of"),
    "another network": (
        lambda folder: rewrite(folder, "train.json", lambda t: t["asked"]["model"]["cells"][0]["ops"].reverse()),
        "different networks",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNFIT)
def test_a_model_that_is_not_fit_is_refused_and_nothing_is_written(trained, tmp_path, case):
    spoil, message = UNFIT[case]
    spoil(trained)
    with pytest.raises(GemnetError, match=message):
        assemble(str(trained), tmp_path / "out", WISH)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_weights_that_were_exchanged_after_the_training_are_refused(trained, tmp_path):
    listed = (trained / FILE).read_bytes()
    change_weights(trained, lambda _, value: value * 2)
    (trained / FILE).write_bytes(listed)
    with pytest.raises(GemnetError, match=r"model\.safetensors"):
        assemble(str(trained), tmp_path / "out", WISH)


@pytest.mark.parametrize(
    ("name", "message"), [("gemnet_b", "the zoo has no weights of gemnet_b"), ("tiny", "unknown model or folder")]
)
def test_a_name_without_weights_is_refused(tmp_path, name, message):
    with pytest.raises(UsageError, match=message):
        assemble(name, tmp_path / "out", Wish(REPO))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemnet_a_cifar", "gemnet_a_cifar.second"])
def test_a_registered_name_is_published_with_the_weights_of_the_package(name, trained, tmp_path, monkeypatch):
    monkeypatch.setenv("GEMNET_ZOO", str(tmp_path / "none"))
    home = tmp_path / "zoo"
    shutil.copytree(zoo.path("cells"), home / "cells")
    (home / "data").symlink_to(zoo.path("data"))
    (home / "results").symlink_to(zoo.path("results"))
    torch.manual_seed(0)
    model = timm.create_model("gemnet_a_cifar")
    model.train()(torch.randn(16, 3, 32, 32))  # lets batch norms see images
    save_folder(model, trained)
    told = {"cells": [cell.to_dict() for cell in dict.fromkeys(model.cells)], "net": model.net.to_dict()}
    rewrite(trained, "train.json", lambda train: train["asked"]["model"].update(name="gemnet_a_cifar", **told))
    change_weights(trained, lambda _, value: value)  # records which they are
    pack(trained, "gemnet_a_cifar.test", data="fashion-mini", target=home)
    change_weights(trained, lambda tensor, value: 2 * value if tensor == "head.fc.bias" else value)
    pack(trained, "gemnet_a_cifar.second", data="fashion-mini", target=home)
    monkeypatch.setattr(zoo, "PACKAGE", home)
    try:
        register()
        listed = assemble(name, tmp_path / "out", Wish("lab/a"))
    finally:
        monkeypatch.undo()
        register()
    weights = json.loads((home / "pretrained.json").read_text())["weights"]
    tagged = name if "." in name else f"{name}.test"
    assert listed.files["model.safetensors"].sha256 == weights[tagged]["sha256"]
    assert json.loads((tmp_path / "out" / "cell.json").read_text())["provenance"]["rank"] == 1


def register() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm tells that a name is registered again
        importlib.reload(entry_points)


@pytest.mark.parametrize("name", ["model.safetensors", "train.json"])
def test_a_link_out_of_the_folder_is_refused(trained, tmp_path, name):
    os.rename(trained / name, tmp_path / name)
    (trained / name).symlink_to(tmp_path / name)
    with pytest.raises(ManifestError, match="is a link"):
        assemble(str(trained), tmp_path / "out", WISH)


def test_an_earlier_release_that_was_changed_is_refused(trained, release):
    (release / "README.md").write_text("Better.")
    with pytest.raises(ReleaseError, match="was changed after it was written; delete it"):
        assemble(str(trained), release, WISH)
    assert (release / "README.md").read_text() == "Better."


def test_a_folder_of_other_files_is_left_alone(trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="holds other files; choose another folder by --out"):
        assemble(str(trained), tmp_path / "out", WISH)


def test_a_link_or_a_file_is_no_place_for_a_release(trained, release, tmp_path):
    places = {"file": tmp_path / "file", "dangling": tmp_path / "dangling", "link": tmp_path / "link"}
    places["file"].write_text("notes")
    places["dangling"].symlink_to(tmp_path / "nowhere")
    places["link"].symlink_to(release)
    for place in places.values():
        with pytest.raises(UsageError, match="is a link or a file, and stays; choose another folder by --out"):
            assemble(str(trained), place, WISH)
    assert places["file"].read_text() == "notes"
    assert os.readlink(places["dangling"]) == str(tmp_path / "nowhere") and os.readlink(places["link"]) == str(release)


def test_an_interrupt_between_the_renames_keeps_the_earlier_release(trained, release, monkeypatch):
    before, rename = describe(release), os.rename

    def interrupt(source, target):
        if Path(target) == release and Path(source).name == "release" and ".release-" in str(source):
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        assemble(str(trained), release, Wish(REPO, "v1.0.1", data="fashion-mini"))
    assert describe(release) == before
    assert {path.name for path in release.parent.iterdir()} == {"tiny", "release"}


def test_an_earlier_release_that_is_changed_meanwhile_stays(trained, release):
    def edit(what: str) -> None:
        if what == "writing the card":
            (release / "README.md").write_text("Better.")

    with pytest.raises(ReleaseError, match="was changed after it was written"):
        assemble(str(trained), release, WISH, edit)
    assert (release / "README.md").read_text() == "Better."


def test_a_trained_folder_with_a_readme_is_no_release(trained):
    assert (trained / FILE).is_file()
    (trained / "README.md").write_text("# My training")
    assert not is_release(str(trained))
    (trained / FILE).write_text("{}")
    assert not is_release(str(trained))


@pytest.mark.parametrize(("name", "loaded", "words"), [
    ("gemnet_a_cifar", "a", "reached"), ("gemnet_a_cifar.more", "b", "reached"),
    ("gemnet_a_cifar", "random", "the weights of gemnet_a_cifar are not for the classes or channels of fashion-mini"),
])  # fmt: skip
def test_a_name_stands_for_its_first_weights_and_with_a_tag_for_those(monkeypatch, tmp_path, name, loaded, words):
    args = {"cell": {}, "net": {}}
    listed = {f"gemnet_a_cifar.{tag}": Weights(f"weights/{tag}.safetensors", letter * 64, args)
              for tag, letter in (("cifar10", "a"), ("more", "b"))}  # fmt: skip
    monkeypatch.setattr("gemnet.pretrained.load_weights_list", lambda: listed)
    asked = []

    def load_source(name, data):
        asked.append(name)
        return SimpleNamespace(weights=f"sha256 {loaded * 64}")

    monkeypatch.setattr(releasing, "load_source", load_source)
    monkeypatch.setattr(releasing, "_copy_model", lambda *_: None)
    monkeypatch.setattr(releasing, "check_trained", refuse)
    with pytest.raises((ReleaseError, UsageError), match=words):
        assemble(name, tmp_path / "out", Wish(REPO, data="fashion-mini"))
    assert asked == [name]


def refuse(_folder: Path) -> None:
    raise ReleaseError("reached")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"repo": "tiny"}, "named ORG/NAME"),
        ({"repo": "lab/../x"}, "named ORG/NAME"),
        ({"repo": "lab/a--b"}, "named ORG/NAME"),
        ({"repo": "lab/tiny-"}, "named ORG/NAME as the Hub allows it"),
        ({"repo": "lab/tiny.git"}, r"as the Hub allows it: .*\.git"),
        ({"repo": "lab/" + "x" * 99}, "named ORG/NAME"),
        ({"repo": "lab/tiny", "tag": "newest"}, r"a tag is a version such as v1\.0\.0, got 'newest'"),
        ({"repo": "lab/tiny", "tag": "v1.0.0;ls"}, "a tag is a version"),
        ({"repo": "lab/tiny", "tag": "v1.0.٣"}, "a tag is a version"),
        ({"repo": "lab/tiny", "tag": "v1.0.0-a..b"}, "a tag is a version"),
        ({"repo": "lab/tiny", "tag": "v1.0.0.lock"}, "a tag is a version"),
        ({"repo": "lab/tiny", "benchmark": "fashion"}, "ORG/DATASET:TASK"),
    ],
)
def test_a_wish_that_the_hub_has_no_name_for_is_refused(wish, message):
    with pytest.raises(UsageError, match=message):
        Wish(**wish)
