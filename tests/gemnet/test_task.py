"""What is evaluated, and which model: a saved one of random weights is enough to see it."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from data_sets import save_image
from PIL import Image

from gemnet import task
from gemnet.catalog import resolve
from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.errors import ConfigError, NoWeightsError
from gemnet.images import MemoryImages
from gemnet.network import GemNet
from gemnet.public_data import PUBLIC
from gemnet.recipe import Recipe
from gemnet.saving import save_folder
from gemnet.task import build_model, open_images, score_model, trained_model
from gemnet.weights import save_weights

CELL = {"schema": "gemnet.cell/1", "ops": ["input", "sepconv3x3"], "edges": [[0, 1]]}
NET = NetConfig(4, (Stage(1, 4, 8, 1), Stage(1, 8, 8, 2)), 8, stem_stride=1)


def save(folder, size=(3, 8, 24), names=("cat", "dog")):
    model = timm.create_model("gemnet", cell=CELL, net=NET.to_dict(), num_classes=len(names), in_chans=size[0])
    cfg = {"input_size": size, "mean": (0.4,) * size[0], "std": (0.3,) * size[0], "crop_pct": 1.0}
    return str(save_folder(model, folder / "model", label_names=names, pretrained_cfg=cfg))


def photos(folder, names=("cat", "dog"), size=(24, 8)):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / "set" / name).mkdir(parents=True)
        for k in range(4):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "set" / name / f"{k}.png")
    return f"folder:{folder / 'set'}"


def evaluate(reference, data, weights=None, macro=None, macs=None, split="val"):
    return score_model(reference, data, split, weights, macro, macs, "cpu", 0)


class TestImages:
    @pytest.mark.parametrize("size", [(24, 8), (16, 16)])
    def test_a_folder_is_evaluated_on_the_pixels_that_a_training_validates_on(self, tmp_path, size, monkeypatch):
        model, data = save(tmp_path, (3, size[1], size[0])), photos(tmp_path, size=size)
        seen = []
        monkeypatch.setattr(task, "score", lambda _, batches, *rest: seen.extend(batches))
        evaluate(model, data)
        images = MemoryImages(open_images(data, Recipe()).data, Recipe(), (0.4,) * 3, (0.3,) * 3)
        (expected,) = images.plain("val", task.Share(), torch.device("cpu"))
        ((got, labels),) = seen
        assert torch.equal(got, expected[0]) and torch.equal(labels, expected[1])

    @pytest.mark.parametrize(("macro", "side"), [("small", 32), ("imagenet", 224)])
    def test_a_folder_is_evaluated_at_the_size_of_the_networks_form(self, tmp_path, macro, side, monkeypatch):
        (tmp_path / "cell.json").write_text(json.dumps(CELL))
        reference, size = str(tmp_path / "cell.json"), {"macro": macro, "macs": 40_000_000}
        cell, net, _ = resolve(reference, **size)
        save_weights(GemNet(cell, net, 2), tmp_path / "model.safetensors")
        seen = []
        monkeypatch.setattr(task, "score", lambda _, batches, *rest: seen.extend(batches))
        evaluate(reference, photos(tmp_path), tmp_path / "model.safetensors", **size)
        ((images, _),) = seen
        assert images.shape == (2, 3, side, side)

    def test_weights_beside_their_config_are_for_the_images_that_it_says(self, tmp_path, monkeypatch, caplog):
        model, data, seen = save(tmp_path, (3, 16, 16)), photos(tmp_path, size=(16, 16)), []
        (tmp_path / "cell.json").write_text(json.dumps(CELL))
        weights, alone = Path(model) / "model.safetensors", tmp_path / "alone.safetensors"
        alone.write_bytes(weights.read_bytes())
        monkeypatch.setattr(task, "resolve", lambda *_: (Cell.from_dict(CELL), NET, "small"))
        monkeypatch.setattr(task, "score", lambda _, batches, *rest: seen.extend(batches))
        evaluate(model, data)
        evaluate(str(tmp_path / "cell.json"), data, weights)
        assert torch.equal(seen[0][0], seen[1][0]) and seen[0][0].shape[-1] == 16
        assert caplog.text == ""
        evaluate(str(tmp_path / "cell.json"), data, alone)
        assert seen[2][0].shape[-1] == 32
        assert "alone.safetensors has no config.json beside it" in caplog.text
        assert "mean 0.485, 0.456, 0.406 and std 0.229" in caplog.text
        with pytest.raises(ConfigError, match="class 1 is 'eel' in the data and 'dog' in the model"):
            evaluate(str(tmp_path / "cell.json"), photos(tmp_path / "b", ("cat", "eel")), weights)

    def test_arrays_of_another_size_than_the_weights_are_told(self, tmp_path, caplog):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
        arrays = {"train_images": pixels, "train_labels": np.arange(20) % 2}
        np.savez(tmp_path / "set.npz", **arrays, classes=np.array(["cat", "dog"]), more=np.zeros(3))
        evaluate(save(tmp_path, (3, 8, 24)), f"npz:{tmp_path / 'set.npz'}")
        assert "are 16x16 pixels (height x width), the weights are for 8x24" in caplog.text
        assert "the arrays more are left out" in caplog.text

    def test_a_saved_model_does_not_promise_the_codes_licence_for_ones_own_images(self, tmp_path):
        data = photos(tmp_path, size=(16, 16))
        images, (cell, net, _) = open_images(data, Recipe()), (Cell.from_dict(CELL), NET, "")
        model = timm.create_model("gemnet", cell=cell.to_dict(), net=net.to_dict(), num_classes=2)
        task.save_model(model, tmp_path / "saved", images, Recipe())
        saved = json.loads((tmp_path / "saved" / "config.json").read_text())
        assert saved["pretrained_cfg"]["license"] == "other"

    def test_images_of_another_shape_than_an_oblong_one_are_refused(self, tmp_path):
        model = save(tmp_path)
        for folder, size in (("square", (8, 8)), ("upright", (8, 24))):
            data = photos(tmp_path / folder, size=size)
            with pytest.raises(ConfigError, match=r"for images of 3 x 8 x 24 \(channels.* are 3 x \d+ x 8 \(channels"):
                evaluate(model, data)


class TestClasses:
    @pytest.mark.parametrize(
        ("names", "words"),
        [
            (("cat", "eel"), "has other classes than .*: class 1 is 'eel' in the data and 'dog' in the model"),
            (("ant", "cat"), "has other classes than .*: class 0 is 'ant' in the data and 'cat' in the model"),
        ],
    )
    def test_another_class_is_named(self, tmp_path, names, words):
        with pytest.raises(ConfigError, match=words):
            evaluate(save(tmp_path), photos(tmp_path, names))

    @pytest.mark.parametrize("names", [("dog", "cat"), ("1", "0")])
    def test_another_order_is_refused(self, tmp_path, names):
        with pytest.raises(ConfigError, match=r"has the same classes in another order than .*: class 0 is"):
            evaluate(save(tmp_path, names=names), photos(tmp_path, sorted(names)))

    @pytest.mark.parametrize(("known", "names"), [(("0", "1"), ("cat", "dog")), (("cat", "dog"), ("0", "1"))])
    def test_numbers_stand_for_any_class(self, tmp_path, known, names):
        part, scores, classes = evaluate(save(tmp_path, names=known), photos(tmp_path, names))
        assert (part, scores.images, classes) == ("val", 2, names)

    def test_weights_of_the_package_are_for_their_own_classes(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
        arrays = {"train_images": pixels, "train_labels": np.arange(20) % 10}
        cifar = PUBLIC["cifar10"].classes
        for classes, allowed in ((None, True), (cifar, True), (cifar[::-1], False)):
            np.savez(tmp_path / "a.npz", **arrays, **({} if classes is None else {"classes": np.array(classes)}))
            if allowed:
                assert evaluate("gemnet_a_cifar", f"npz:{tmp_path / 'a.npz'}")[1].images == 10
            else:
                with pytest.raises(ConfigError, match=r"another order than gemnet_a_cifar: class 0 is 'truck'"):
                    evaluate("gemnet_a_cifar", f"npz:{tmp_path / 'a.npz'}")


class TestReferences:
    @pytest.mark.parametrize(("macro", "macs"), [("proxy", None), (None, 3_000_000)])
    def test_a_model_with_weights_has_its_own_size(self, tmp_path, macro, macs):
        model = save(tmp_path)
        images = open_images(photos(tmp_path), Recipe())
        for place in (model, f"local-dir:{model}", "hf-hub:acme/net"):
            for pretrained in (True, False):
                with pytest.raises(ConfigError, match="has its own size; leave out --macro and --macs"):
                    build_model(place, images, Recipe(), macro=macro, macs=macs, pretrained=pretrained)
            with pytest.raises(ConfigError, match="has its own size; leave out --macro and --macs"):
                trained_model(place, None, None, None, macro, macs)
        for name in ("gemnet_a_cifar", "gemnet_a_cifar.cifar10"):
            with pytest.raises(ConfigError, match=f"{name} has its own size; leave out --macro and --macs"):
                trained_model(name, None, None, None, macro, macs)

    def test_what_is_no_finished_training_is_said(self, tmp_path):
        (tmp_path / "begun").mkdir()
        (tmp_path / "begun" / "train.json").write_text(json.dumps({"result": None}))
        save_image(tmp_path / "set" / "0.png")
        for name, words in (
            ("begun", r"begun holds a training, but no config\.json: .*gemnet train \.\.\. --resume makes it"),
            ("set", "set is no trained folder: it has no config.json"),
            ("none", "there is no trained folder .*none; check the path"),
        ):
            for place in (f"{tmp_path / name}", f"local-dir:{tmp_path / name}"):
                with pytest.raises(ConfigError, match=words):
                    trained_model(place, None, None, None, None, None)

    @pytest.mark.parametrize("content", [b"junk", None])
    def test_weights_that_were_copied_in_part_are_said_to_be(self, tmp_path, content):
        model = Path(save(tmp_path))
        (model / "manifest.json").unlink()
        weights = model / "model.safetensors"
        weights.write_bytes(content or weights.read_bytes()[:-100])
        with pytest.raises(ConfigError, match=r"the weights of local-dir:.* are damaged .*; copy or fetch them again"):
            trained_model(str(model), None, None, None, None, None)

    def test_a_cell_of_the_name_of_an_unfinished_training_is_that_cell(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("GEMNET_ZOO", str(tmp_path / "zoo"))
        (tmp_path / "zoo" / "cells").mkdir(parents=True)
        (tmp_path / "zoo" / "cells" / "mine.json").write_text(json.dumps(CELL))
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "train.json").write_text("{}")
        images = open_images(photos(tmp_path, size=(16, 16)), Recipe())
        assert build_model("mine", images, Recipe(), macro="proxy", macs=1_000_000).num_classes == 2

    def test_weights_that_there_are_not_come_with_the_remedy_of_the_command(self, tmp_path):
        images = open_images(photos(tmp_path, size=(32, 32)), Recipe())
        with pytest.raises(NoWeightsError, match=r"no weights of gemnet_b_cifar; .*; leave out --pretrained$"):
            build_model("gemnet_b_cifar", images, Recipe(), pretrained=True)
        with pytest.raises(NoWeightsError, match=r"no weights of gemnet_b_cifar; .*; name some by --weights FILE$"):
            trained_model("gemnet_b_cifar", None, None, None, None, None)
