"""What a name, a size or a trained folder becomes before it is exported."""

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image

from gemnet.cli import main
from gemnet.cost import cost
from gemnet.errors import ConfigError
from gemnet.export import trained
from gemnet.export.bench import bench_models
from gemnet.export.bundle import Plan, export_bundle
from gemnet.export.form import Form
from gemnet.export.source import RANDOM, load_source
from gemnet.saving import save_folder


@pytest.fixture(scope="module")
def folder(source, data, tmp_path_factory):
    """The fitted network as a folder that timm loads, normalised otherwise than the data."""
    parts = {"cell": source.cell.to_dict(), "net": source.net.to_dict()}
    model = timm.create_model("gemnet", **parts, num_classes=10, in_chans=1)
    model.load_state_dict(source.model.state_dict())
    cfg = {"input_size": (1, 28, 28), "mean": (0.25,), "std": (0.5,), "crop_pct": 0.875}
    return save_folder(model, tmp_path_factory.mktemp("trained") / "net", label_names=data.classes, pretrained_cfg=cfg)


def test_a_trained_folder_brings_network_weights_labels_and_preprocessing(folder, source, data):
    found = load_source(str(folder))
    assert (found.name, found.cell, found.net) == ("net", source.cell, source.net)
    assert (found.image, found.labels, found.resize) == ((1, 28, 28), data.classes, 32)
    assert (found.scaling.mean, found.scaling.std) == ((0.25,), (0.5,))
    assert found.weights == f"sha256 {hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()}"
    images = torch.randn(2, 1, 28, 28)
    with torch.no_grad():
        assert torch.equal(found.model(images), source.model(images))
    assert not found.model.training
    assert load_source(str(folder), data=data).scaling == found.scaling
    assert load_source(str(folder), size=40).resize == 45


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_classes": 7}, "are for 10 classes, but --num-classes asks for 7; leave that out, or name a model"),
        ({"in_chans": 3}, "are for 1 channels, but --in-chans asks for 3; leave that out"),
        ({"data": SimpleNamespace(name="seven", num_classes=7, in_chans=1)}, "are for 10 classes, but seven has 7"),
        ({"macs": 2_000_000}, "brings its own network and weights; leave out --macro, --macs and --weights"),
        ({"size": 1}, "too small"),
    ],
)
def test_a_trained_folder_is_not_made_into_something_else(folder, options, words):
    with pytest.raises(ConfigError, match=words):
        load_source(str(folder), **options)


def test_a_trained_folder_is_exported_predicted_with_and_timed(folder, samples, data, tmp_path):
    export_bundle(load_source(str(folder)), tmp_path / "out", Plan(Form((1, 28, 28))), samples)
    Image.fromarray(data.val.images[3, :, :, 0]).save(tmp_path / "one.png")
    said = []
    for model in (folder, tmp_path / "out"):
        result = CliRunner().invoke(main, ["predict", str(model), str(tmp_path / "one.png"), "--json"])
        assert result.exit_code == 0, result.output
        said.append(json.loads(result.stdout)["top"])
    assert [item["label"] for item in said[0]] == [item["label"] for item in said[1]]
    np.testing.assert_allclose(*([item["logit"] for item in top] for top in said), rtol=1e-4, atol=1e-4)
    rows = bench_models([str(folder)], ["onnxruntime", "torch"], 1, 1, 5, 10, False, fused=True)["rows"]
    assert [(row["model"], row["backend"]) for row in rows] == [
        (f"{folder}{form}", backend) for form in ("", ", fused") for backend in ("onnxruntime", "torch")
    ]


def test_published_weights_are_taken_where_the_network_is_theirs(monkeypatch, source):
    entry = SimpleNamespace(sha256="abc")
    monkeypatch.setattr(trained, "load_weights_list", lambda: {"gemnet_a_cifar.fashion": entry})
    monkeypatch.setattr(trained, "trained_model", lambda *given: source.model)
    assert trained.load_trained("gemnet_a_cifar") == (source.model, "sha256 abc")
    assert trained.load_trained("gemnet_a") is None
    assert trained.misfit(source.model, 10, 1, None, sized=False) == ""


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_classes": 7}, "are for 10 classes, but --num-classes asks for 7"),
        ({"in_chans": 1}, "are for 3 channels, but --in-chans asks for 1"),
        ({"macs": 30_000_000}, "are for its own network, but --macro or --macs asks for another"),
        ({"macro": "proxy"}, "are for its own network, but --macro or --macs asks for another"),
    ],
)
def test_a_name_asked_for_otherwise_says_that_its_weights_are_not_used(options, reason):
    name = "gemnet_a_cifar"
    found = load_source(name, **options)
    assert (found.weights, found.warnings) == (RANDOM, [f"the weights of {name} {reason}; these are random, seed 0"])
    assert load_source(name).warnings == []
    with pytest.raises(ConfigError, match=rf"the weights of {name}\.cifar10 {reason}; leave that out"):
        load_source(f"{name}.cifar10", **options)


def test_macs_hold_for_the_images_that_a_network_is_exported_for():
    macs = 3_000_000
    for options in ({}, {"size": 20}, {"size": 20, "in_chans": 1, "num_classes": 100}):
        found = load_source("gemnet_a", "proxy", macs, **options)
        counted = cost(found.cell, found.net, found.image[1:], found.image[0], found.model.num_classes).macs
        assert 0.85 * macs < counted <= macs


def test_weights_are_for_the_network_that_training_makes(tmp_path):
    from safetensors.torch import save_file

    plain = load_source("gemnet_a", "proxy", 3_000_000)
    save_file(plain.model.state_dict(), tmp_path / "w.safetensors")
    found = load_source("gemnet_a", "proxy", 3_000_000, size=20, weights=tmp_path / "w.safetensors")
    assert (found.net, found.image) == (plain.net, (3, 20, 20))
