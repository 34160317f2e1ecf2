"""What `gemnet info` says of a folder with a saved model; of names and cells see test_cli.py."""

import json

import pytest
import timm
from click.testing import CliRunner

from gemnet.cli import main
from gemnet.config import NetConfig, Stage
from gemnet.cost import cost
from gemnet.description import describe
from gemnet.errors import ConfigError, FileError, GemnetError, UsageError
from gemnet.saving import save_folder

NET = NetConfig(4, (Stage(1, 4, 8, 1), Stage(1, 8, 8, 2)), 8, stem_stride=1)
TOLD = {
    "asked": {"data": {"counts": {"train": 80, "val": 20, "test": 40}}},
    "result": {"data_set": "cifar10", "test": {"top1": 0.625, "top5": 1.0}},
}


@pytest.fixture
def saved(tmp_path, shrinkcnn, chain):
    model = timm.create_model(
        "gemnet", cell=[chain.to_dict(), shrinkcnn.to_dict()], net=NET.to_dict(), num_classes=3, in_chans=1
    )
    cfg = {"input_size": (1, 16, 24), "mean": (0.4,), "std": (0.3,), "crop_pct": 1.0}
    return save_folder(model, tmp_path / "trained", pretrained_cfg=cfg)


def test_a_saved_model_is_told_as_it_was_saved(saved, shrinkcnn, chain):
    found = describe(str(saved))
    assert (found.cells, found.net, found.macro) == ((chain, shrinkcnn), NET, None)
    assert (found.in_chans, found.img_size, found.num_classes) == (1, (16, 24), 3)
    assert found.price == cost([chain, shrinkcnn], NET, (16, 24), 1, 3)
    assert describe(f"local-dir:{saved}").to_dict() == found.to_dict()


def test_the_command_shows_size_cells_and_what_the_weights_scored(saved, shrinkcnn, chain):
    (saved / "train.json").write_text(json.dumps(TOLD))
    text = CliRunner().invoke(main, ["info", str(saved)]).stdout
    assert "16x24 px, 3 classes" in text
    assert "top-1 62.50 % on cifar10, test split" in text
    assert all(f"cell {cell.key[:12]}, {len(cell.ops)} nodes\n" in text for cell in (chain, shrinkcnn))
    told = json.loads(CliRunner().invoke(main, ["info", str(saved), "--json"]).stdout)
    assert (told["img_size"], len(told["cells"]), told["weights"][0]["result"]["images"]) == ([16, 24], 2, 40)


def test_records_of_earlier_versions_name_no_data_set(saved):
    told = {**TOLD, "result": {"test": TOLD["result"]["test"]}}
    (saved / "train.json").write_text(json.dumps(told))
    assert "top-1 62.50 % on its data set, test split" in CliRunner().invoke(main, ["info", str(saved)]).stdout


@pytest.mark.parametrize("told", [None, {**TOLD, "result": None}, {**TOLD, "result": {"data_set": "", "test": None}}])
def test_weights_that_were_not_scored_are_told_as_such(saved, told):
    if told is not None:
        (saved / "train.json").write_text(json.dumps(told))
    assert "weights: not scored; " in CliRunner().invoke(main, ["info", str(saved)]).stdout
    (saved / "model.safetensors").unlink()
    assert "no weights" in CliRunner().invoke(main, ["info", str(saved)]).stdout


def test_what_is_no_saved_model_is_an_error(saved, tmp_path):
    with pytest.raises(ConfigError, match="has its own size"):
        describe(str(saved), macs=10**7)
    with pytest.raises(ConfigError, match="is no trained folder"):
        describe(str(tmp_path))
    with pytest.raises(UsageError, match="gemnet fetch hf-hub:acme/net --to DIR"):
        describe("hf-hub:acme/net")
    (saved / "train.json").write_text("{")
    with pytest.raises(FileError, match=r"train\.json"):
        describe(str(saved))
    damaged = {**TOLD, "result": {"data_set": "", "test": {"top1": "x", "top5": 1}}}
    (saved / "train.json").write_text(json.dumps(damaged))
    with pytest.raises(GemnetError, match="top1"):
        describe(str(saved))
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "architecture": "resnet50"}))
    with pytest.raises(ConfigError, match="resnet50"):
        describe(str(saved))
