"""What a reference to a release means."""

import os

import pytest
import torch
from tiny_models import answers

import gemnet
from gemnet.errors import (
    ConfigError,
    FileError,
    NoWeightsError,
    UsageError,
)
from gemnet.export.source import load_source
from gemnet.export.trained import is_trained_folder, load_trained
from gemnet.release import Place, find_place
from gemnet.task import trained_model


@pytest.mark.parametrize(
    ("ref", "place"),
    [
        ("acme/net", Place("hub", "acme/net")),
        ("acme/net@v1", Place("hub", "acme/net", "v1")),
        ("hf-hub:acme/net@refs/pr/1", Place("hub", "acme/net", "refs/pr/1")),
        ("local-dir:a/b@c", Place("folder", "a/b@c")),
        ("gemnet_a_cifar", Place("package", "gemnet_a_cifar")),
        ("gemnet_a_cifar.cifar10", Place("package", "gemnet_a_cifar.cifar10")),
        ("gemnet_a.org/name", Place("hub", "gemnet_a.org/name")),
        (os.curdir, Place("folder", os.curdir)),
    ],
)
def test_a_reference_means_one_thing(ref, place):
    assert find_place(ref) == place


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("gemnet_a", "package"), ("gemnet_a.fitted", "package"), ("gemnet_a.v2", "folder"),
        ("gemnet_a.org/name", "folder"), ("./gemnet_a", "folder"), ("local-dir:gemnet_a", "folder"),
    ],
)  # fmt: skip
def test_only_a_registered_name_wins_over_a_folder(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gemnet.release.load_weights_list", lambda: {"gemnet_a.fitted": None})
    (tmp_path / name.removeprefix("local-dir:")).mkdir(parents=True)
    assert find_place(name).kind == kind


def test_export_and_eval_take_a_name_as_loading_does(folder, published, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename("gemnet_b")
    assert load_trained("gemnet_b") is None
    assert not is_trained_folder("gemnet_b")
    assert load_source("gemnet_b").weights == "random, seed 0"
    with pytest.raises(NoWeightsError):
        trained_model("gemnet_b", None, None, None, None, None)
    for name in ("./gemnet_b", "local-dir:gemnet_b"):
        source = load_source(name)
        assert (source.name, source.labels) == ("gemnet_b", ("a", "b", "c"))
        assert torch.equal(answers(source.model), answers(published))
    with pytest.raises(ConfigError, match=r"none is no folder with config\.json and model\.safetensors"):
        load_trained("local-dir:none")


@pytest.mark.parametrize(
    ("ref", "revision", "words"),
    [
        ("acme/net@v1", "v2", "names a revision, and 'v2' is another"),
        ("a/b/c", None, r"no folder here, and no model on the Hub, which is named ORG/NAME\[@TAG\]"),
        ("../x", None, "no folder here"),
        ("hf-hub:acme", None, "which is named ORG/NAME"),
        ("acme/../net", None, "which is named ORG/NAME"),
        ("acme/net\u202e", None, "which is named ORG/NAME"),
        ("acme/net@../../x", None, "a revision is a tag, a branch or a commit"),
        ("acme/net@a b", None, "a revision is a tag"),
        ("acme/net@", None, "a revision is a tag, .*; got ''"),
        ("hf-hub:acme/net@", None, "a revision is a tag"),
        ("acme/net", "", "a revision is a tag"),
        ("acme/net@", "v1", "names a revision, and 'v1' is another"),
        (os.curdir, "v1", "only models on the Hub have revisions"),
        ("gemnet_a", "v1", "only models on the Hub have revisions"),
        ("gemnet_x", None, r"unknown model or folder 'gemnet_x' \(did you mean"),
        ("gemnet_b.nope", None, "the zoo has no weights of gemnet_b.nope"),
        ("local-dir:/no/folder", None, "there is no folder /no/folder"),
        (None, None, "a model is named by a text or a path, got None"),
        (3, "v1", "a model is named by a text or a path, got 3"),
    ],
)
def test_a_reference_that_means_nothing_is_refused(ref, revision, words):
    with pytest.raises((UsageError, FileError), match=words):
        gemnet.from_pretrained(ref, revision)
