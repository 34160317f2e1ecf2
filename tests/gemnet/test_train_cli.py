import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file

from gemnet.cli import main
from gemnet.data import load

pytestmark = pytest.mark.usefixtures("one_thread")

CELL = {"schema": "gemnet.cell/1", "ops": ["input", "sepconv3x3"], "edges": [[0, 1]]}
SMALL = ["--macro", "proxy", "--macs", "0.8", "--device", "cpu"]
QUICK = ["--recipe", "cifar-cpu-short", "--set", "epochs=2", "--set", "batch_size=32", "--set", "crop_padding=0"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a cell and a set of 200 + 60 images of two classes, told apart by their brightness."""
    folder, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    (folder / "cell.json").write_text(json.dumps(CELL))
    arrays = {}
    for part, count in (("train", 200), ("test", 60)):
        labels = np.arange(count) % 2
        noise = rng.integers(0, 100, (count, 16, 16, 3))
        images = (noise + 120 * labels[:, None, None, None]).astype(np.uint8)
        arrays |= {f"{part}_images": images, f"{part}_labels": labels}
    np.savez(folder / "set.npz", **arrays, classes=np.array(["dark", "bright"]))
    return folder


def call(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def fails(*arguments):
    """The one line of a command that fails as a usage error or a failure, without a traceback."""
    result = call(*arguments)
    assert result.exit_code in (1, 2) and result.stderr.startswith("Error: "), result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture(scope="module")
def trained(home):
    torch.set_num_threads(1)
    out = home / "out"
    asked = [home / "cell.json", "--data", f"npz:{home / 'set.npz'}", *QUICK, *SMALL, "--out", out]
    result = call("train", *asked, "--json")
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


class TestTrain:
    def test_leaves_a_model_that_timm_loads_with_the_scores_told(self, home, trained):
        out, result = trained
        assert result["test"]["top1"] > 0.9 and result["test"]["images"] == 60
        model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
        data = load(f"npz:{home / 'set.npz'}")
        cfg = model.pretrained_cfg
        assert (cfg["mean"], cfg["input_size"]) == (pytest.approx(data.mean), (3, 16, 16))
        assert cfg["label_names"] == ["dark", "bright"]
        pixels = (torch.from_numpy(data.test.images) / 255 - torch.tensor(cfg["mean"])) / torch.tensor(cfg["std"])
        with torch.inference_mode():
            chosen = model(pixels.permute(0, 3, 1, 2)).argmax(1).numpy()
        assert (chosen == data.test.labels).mean() == result["test"]["top1"]

    def test_the_same_command_with_resume_tells_the_result_again(self, home, trained):
        out, before = trained
        again = call(
            "train", home / "cell.json", "--data", f"npz:{home / 'set.npz'}", *QUICK, *SMALL, "--out", out, "--resume"
        )
        assert again.exit_code == 0
        assert f"top-1 {100 * before['test']['top1']:.2f} %" in again.stdout

    def test_pretrained_weights_are_begun_with_and_a_head_of_other_classes_is_new(self, home, trained, tmp_path):
        images = load(f"npz:{home / 'set.npz'}").train.images[:90]
        np.savez(tmp_path / "three.npz", train_images=images, train_labels=np.arange(90) % 3)
        place = f"local-dir:{trained[0]}"
        changes = ["epochs=1", "lr=1e-12", "warmup_epochs=0", "layer_decay=0.5"]
        still = [*QUICK, *(word for change in changes for word in ("--set", change))]
        command = ["train", place, "--data", f"npz:{tmp_path / 'three.npz'}", *still, "--device", "cpu", "--pretrained"]
        result = call(*command, "--out", tmp_path / "out", "--json")
        assert result.exit_code == 0, result.output
        before, after = (timm.create_model(f"local-dir:{p}", pretrained=True) for p in (trained[0], tmp_path / "out"))
        assert after.num_classes == 3
        assert torch.allclose(before.stem.conv.weight, after.stem.conv.weight)
        assert after.pretrained_cfg["mean"] == before.pretrained_cfg["mean"]

    def test_other_pretrained_weights_are_noticed_and_the_same_by_another_path_are_not(
        self, home, trained, tmp_path, monkeypatch
    ):
        out, first = trained[0], trained[1]
        once = [*QUICK, "--set", "epochs=1", "--set", "warmup_epochs=0", "--device", "cpu", "--pretrained"]
        asked = ["--data", f"npz:{home / 'set.npz'}", *once, "--out", tmp_path / "mine", "--resume"]
        assert call("train", f"local-dir:{out}", *asked).exit_code == 0
        told = json.loads((tmp_path / "mine" / "train.json").read_text())["asked"]["model"]
        assert told["weights_sha256"] == first["weights_sha256"] and told["name"] == out.name
        monkeypatch.chdir(out)
        for same in (out, Path("."), Path("..") / out.name, "local-dir:."):
            assert call("train", same, *asked).exit_code == 0, same
        other = shutil.copytree(out, tmp_path / "other" / out.name)
        tensors = load_file(other / "model.safetensors")
        save_file({**tensors, "stem.conv.weight": tensors["stem.conv.weight"] * 2}, other / "model.safetensors")
        (other / "manifest.json").unlink()
        assert "model.weights_sha256 was " in fails("train", other, *asked)

    def test_says_at_the_start_what_it_trains_on(self, home, tmp_path):
        asked = [home / "cell.json", "--data", f"npz:{home / 'set.npz'}", *QUICK, *SMALL, "--out", tmp_path / "x"]
        lines = call("train", *asked, "--set", "epochs=1", "--set", "warmup_epochs=0").stderr.splitlines()
        assert re.fullmatch(r"180 training images, 2 classes, 0\.\d M MACs, recipe cifar-cpu.*, device cpu", lines[0])
        assert lines[1].startswith("epoch 1: ") and len(lines) == 2

    def test_what_is_trained_may_not_lie_among_its_images(self, home, tmp_path):
        for name in ("dark", "bright"):
            (tmp_path / "set" / name).mkdir(parents=True)
        for out in (tmp_path / "set", tmp_path / "set" / "new", tmp_path / "x" / ".." / "set"):
            asked = [home / "cell.json", "--data", f"folder:{tmp_path / 'set'}", *QUICK, *SMALL, "--out", out]
            assert "is in the folder of the images" in fails("train", *asked)
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["bright", "dark", "set"]

    def test_fields_without_effect_and_a_training_given_up_are_told(self, home, tmp_path):
        asked = [home / "cell.json", "--data", f"npz:{home / 'set.npz'}", *QUICK, *SMALL, "--out", tmp_path / "x"]
        changes = ("epochs=3", "stop_epochs=1", "stop_factor=100", "lr=.000001", "flip=True", "auto_augment=rand-m9")
        told = call("train", *asked, *(word for change in changes for word in ("--set", change)))
        assert told.exit_code == 0, told.stderr
        assert "auto_augment has no effect: it is for images read while training" in told.stderr
        assert "given up after epoch 1 of 3: val_acc is below" in told.stdout
        recipe = json.loads((tmp_path / "x" / "train.json").read_text())["asked"]["recipe"]
        assert (recipe["lr"], recipe["flip"]) == (1e-6, True)

    def test_of_several_processes_the_first_tells_what_all_meet(self, home, trained, tmp_path, monkeypatch):
        unknown = ["train", "gemnt_a", "--data", f"npz:{home / 'set.npz'}", *QUICK, "--out", tmp_path / "x"]
        in_use = ["train", home / "cell.json", "--data", f"npz:{home / 'set.npz'}", *QUICK, *SMALL, "--out", trained[0]]
        for lines in (1, 0):
            monkeypatch.setattr("gemnet.train_cli.is_first", lambda lines=lines: bool(lines))
            for command, code in ((unknown, 2), (in_use, 1)):
                result = call(*command)
                told = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
                assert (result.exit_code, len(told)) == (code, lines)

    def test_images_of_a_folder_are_streamed_when_the_recipe_has_a_size(self, home, tmp_path):
        for name, value in (("dark", 20), ("bright", 200)):
            (tmp_path / "images" / name).mkdir(parents=True)
            for k in range(10):
                Image.new("RGB", (30, 24), (value + k,) * 3).save(tmp_path / "images" / name / f"{k}.png")
        folder = f"folder:{tmp_path / 'images'}"
        small = ["--set", "img_size=16", "--set", "batch_size=9", "--set", "epochs=1", "--set", "warmup_epochs=0"]
        asked = [home / "cell.json", "--data", folder, "--recipe", "finetune", *small, *SMALL, "--workers", "0"]
        result = call("train", *asked, "--out", tmp_path / "out")
        assert result.exit_code == 0, result.output
        scored = call("eval", tmp_path / "out", "--data", folder, "--workers", "0", "--split", "train", "--json")
        told = json.loads(scored.stdout)
        assert told["images"] == 18 and told["classes"] == ["bright", "dark"]
        assert json.loads((tmp_path / "out" / "config.json").read_text())["pretrained_cfg"]["input_size"] == [3, 16, 16]

    def test_wrong_requests_are_one_line(self, home, trained, tmp_path):
        data, cell = f"npz:{home / 'set.npz'}", home / "cell.json"
        misspelt = ["--recipe", "cifar", "--out", tmp_path / "x"]
        assert "did you mean 'cifar-" in fails("train", cell, "--data", data, *misspelt)
        wrong = ["--set", "epoch=3", "--out", tmp_path / "x"]
        assert "did you mean 'epochs'" in fails("train", cell, "--data", data, *QUICK, *wrong)
        assert "--resume" in fails("train", cell, "--data", data, *QUICK, *SMALL, "--out", trained[0])
        other = [*QUICK, "--set", "lr=0.2", *SMALL, "--out", trained[0], "--resume"]
        assert "recipe.lr was 0.1 and is now 0.2" in fails("train", cell, "--data", data, *other)
        assert "unknown model or cell" in fails("train", "gemnt_a", "--data", data, *QUICK, "--out", tmp_path / "x")
        fresh = [cell, "--data", data, *QUICK, "--pretrained", "--out", tmp_path / "x"]
        assert "has no weights of that form; begin with a trained folder" in fails("train", *fresh)
        (tmp_path / "file").write_text("")
        nowhere = [*QUICK, *SMALL, "--out", tmp_path / "file" / "x"]
        assert "cannot be written" in fails("train", cell, "--data", data, *nowhere)
        assert not (tmp_path / "x").exists()

    def test_networks_that_the_images_or_the_memory_cannot_hold_are_refused_before_they_are_made(self, home, tmp_path):
        asked = ["--data", f"npz:{home / 'set.npz'}", *QUICK, "--out", tmp_path / "x"]
        assert "images of 16x16 are too small" in fails("train", "gemnet_a", *asked)
        huge = fails("train", "gemnet_a_cifar", *asked, "--macs", "1e9")
        assert "parameters is too large, allowed are 1,000 M" in huge
        assert not (tmp_path / "x").exists()


class TestEval:
    def test_scores_a_trained_folder_as_the_training_did(self, home, trained):
        out, result = trained
        scored = call("eval", out, "--data", f"npz:{home / 'set.npz'}", "--json")
        told = json.loads(scored.stdout)
        assert {name: told[name] for name in ("top1", "top5", "images")} == {
            name: result["test"][name] for name in ("top1", "top5", "images")
        }
        assert told["split"] == "test" and told["images_per_s"] > 0
        shown = call("eval", f"local-dir:{out}", "--data", f"npz:{home / 'set.npz'}", "--split", "val")
        assert "val split, 20 images" in shown.stdout and "bright" in shown.stdout

    def test_outputs_that_are_no_numbers_are_no_score(self, home, trained, tmp_path):
        tensors = load_file(trained[0] / "model.safetensors")
        huge = {name: value * 1e38 if name == "stem.conv.weight" else value for name, value in tensors.items()}
        save_file(huge, tmp_path / "huge.safetensors")
        weights = ["--weights", tmp_path / "huge.safetensors", *SMALL]
        told = fails("eval", home / "cell.json", "--data", f"npz:{home / 'set.npz'}", *weights)
        assert re.search(r"outputs for \d+ of 60 images are infinite or not a number", told)

    def test_weights_in_a_file_go_with_a_cell(self, home, trained):
        weights = ["--weights", trained[0] / "model.safetensors"]
        scored = call("eval", home / "cell.json", *SMALL, "--data", f"npz:{home / 'set.npz'}", *weights, "--json")
        assert json.loads(scored.stdout)["top1"] == trained[1]["test"]["top1"]

    def test_wrong_requests_are_one_line(self, home, trained, tmp_path):
        data = f"npz:{home / 'set.npz'}"
        assert "for 2 classes, but the data has 10" in fails("eval", trained[0], "--data", "fashion-mini")
        assert "has no weights of its own" in fails("eval", home / "cell.json", "--data", data)
        weights = ["--weights", trained[0] / "model.safetensors"]
        assert "another model's weights" in fails("eval", "gemnet_a", *SMALL, "--macs", "3", "--data", data, *weights)
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / "config.json").write_text((trained[0] / "config.json").read_text())
        assert "cannot be made or loaded" in fails("eval", tmp_path / "broken", "--data", data)
        np.savez(tmp_path / "only.npz", train_images=np.zeros((8, 4, 4, 3), np.uint8), train_labels=np.arange(8) % 2)
        only = f"npz:{tmp_path / 'only.npz'}"
        assert "has no test split" in fails("eval", trained[0], "--data", only, "--split", "test")
