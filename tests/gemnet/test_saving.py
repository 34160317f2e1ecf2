import json
import stat

import pytest
import timm
import torch

import gemnet  # noqa: F401 - registers the models
from gemnet.config import NetConfig, Stage
from gemnet.errors import CellError, ConfigError, UsageError
from gemnet.manifest import describe
from gemnet.network import GemNet
from gemnet.saving import save_folder

NET = NetConfig(8, (Stage(1, 8, 16, 1), Stage(1, 16, 24, 2)), 32, stem_stride=1)


@pytest.fixture
def model(shrinkcnn):
    return timm.create_model("gemnet", cell=shrinkcnn.to_dict(), net=NET.to_dict(), num_classes=3, in_chans=1)


@pytest.fixture
def saved(model, tmp_path):
    cfg = {"mean": (0.3,), "std": (0.2,), "input_size": (1, 28, 28)}
    return save_folder(model, tmp_path / "saved", label_names=["a", "b", "c"], pretrained_cfg=cfg)


def load(folder):
    return timm.create_model(f"local-dir:{folder}", pretrained=True)


def same(model, other):
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())


def change(folder, **fields):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name, value in fields.items():
        config["model_args"][name] = value
    path.write_text(json.dumps(config))
    describe(folder).write(folder / "manifest.json")


def test_a_saved_model_is_loaded_by_timm(model, saved, shrinkcnn):
    config = json.loads((saved / "config.json").read_text())
    assert config["architecture"] == "gemnet"
    assert config["cell_key"] == shrinkcnn.key
    assert config["label_names"] == ["a", "b", "c"]
    assert config["model_args"]["cell"] == shrinkcnn.to_dict()
    assert config["model_args"]["net"] == NET.to_dict()
    again = load(saved)
    assert same(model, again)
    assert again.pretrained_cfg["mean"] == [0.3]
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "manifest.json", "model.safetensors"]


def test_other_users_can_read_the_files(saved):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in saved.iterdir()}
    (saved / "plain").write_text("")
    assert set(modes.values()) == {stat.S_IMODE((saved / "plain").stat().st_mode)}


def test_a_registered_name_is_saved_as_its_cell(tmp_path):
    """So it loads whatever becomes of the zoo's cell; timm's own saver does the same."""
    model = timm.create_model("gemnet_a_cifar", num_classes=4)
    save_folder(model, tmp_path / "ours")
    timm.models.save_for_hf(model, tmp_path / "timms", safe_serialization=True)
    for folder in ("ours", "timms"):
        config = json.loads((tmp_path / folder / "config.json").read_text())
        assert config["architecture"] == "gemnet"
        assert config["model_args"]["cell"] == model.cells[0].to_dict()
        assert same(model, load(tmp_path / folder))


def test_a_cell_given_by_name_is_saved_as_an_object(tmp_path):
    model = timm.create_model("gemnet", cell="gemnet_b", net=NET.to_dict(), num_classes=2)
    save_folder(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_args"]["cell"] == model.cells[0].to_dict()


def test_one_cell_per_stage_and_a_reset_head_come_back(chain, shrinkcnn, tmp_path):
    model = timm.create_model("gemnet", cell=[chain.to_dict(), shrinkcnn.to_dict()], net=NET.to_dict())
    model.reset_classifier(6, "max")
    save_folder(model, tmp_path)
    again = load(tmp_path)
    assert (again.cells, again.num_classes) == ((chain, shrinkcnn), 6)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(again.eval()(x), model.eval()(x))
    assert json.loads((tmp_path / "config.json").read_text())["cell_key"] == [chain.key, shrinkcnn.key]


def test_more_classes_or_channels_are_adapted_to(saved):
    model = timm.create_model(f"local-dir:{saved}", pretrained=True, num_classes=7, in_chans=3)
    assert model(torch.zeros(2, 3, 28, 28)).shape == (2, 7)


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"cell": "gemnet_a"}, ConfigError, "cell in a config from local-dir must be a JSON object, got 'gemnet_a'"),
        ({"cell": ["/etc/passwd"]}, ConfigError, "must be a JSON object"),
        ({"net": "net.json"}, ConfigError, "net in a config from local-dir must be a JSON object"),
        ({"cell": {"schema": "gemnet.cell/1", "ops": ["input"] + ["conv1x1"] * 64, "edges": []}}, CellError, "2 to 64"),
        ({"num_classes": 10**9}, ConfigError, "num_classes in a config from local-dir must be 0 to 100000"),
        ({"in_chans": 10**6}, ConfigError, "in_chans in a config from local-dir must be 0 to 1024"),
        ({"net": {"stem_chs": 8192, "head_chs": 8192, "stages": [{"depth": 16, "node_chs": 8192, "out_chs": 8192}]}},
         ConfigError, "may have 1e\\+09 parameters"),
        ({"net": {"stem_chs": 8, "head_chs": 8, "stages": [{"depth": 65, "node_chs": 8, "out_chs": 8}]}},
         ConfigError, "stage.depth must be 1 to 64"),
    ],
)  # fmt: skip
def test_a_config_from_elsewhere_is_kept_within_limits(fields, error, words, saved):
    change(saved, **fields)
    with pytest.raises(error, match=words):
        load(saved)


def test_what_cannot_be_saved_so_is_refused(model, shrinkcnn, tmp_path):
    with pytest.raises(UsageError, match="got a GemNet"):
        save_folder(GemNet(shrinkcnn, NET), tmp_path / "a")
    with pytest.raises(ConfigError, match="2 label names for a model of 3 classes"):
        save_folder(model, tmp_path / "b", label_names=["x", "y"])
    odd = timm.create_model("gemnet", cell=shrinkcnn.to_dict(), net=NET.to_dict(), act_layer=torch.nn.SiLU)
    with pytest.raises(ConfigError, match="pass layers by name, such as act_layer='silu'"):
        save_folder(odd, tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write to"):
        save_folder(model, tmp_path / "file")
