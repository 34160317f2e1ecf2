"""What a benchmark keeps is published under the settings it was measured with, and under no others."""

import json

import pytest
import torch
from torch import nn

from gemnet.cell import Cell
from gemnet.data import load
from gemnet.errors import CheckpointError
from gemnet.recipe import Recipe

SETTINGS = {"epochs": 30, "data_sha256": "ab", "limits": (1, 2)}


@pytest.fixture
def kept(load_script):
    return load_script("kept")


def test_a_row_is_found_again(kept, tmp_path):
    path = tmp_path / "work" / "row.json"
    assert kept.read_kept(path, SETTINGS) is None
    kept.write_kept(path, SETTINGS, {"ap": 0.5})
    assert kept.read_kept(path, SETTINGS) == {"ap": 0.5}
    assert [file.name for file in path.parent.iterdir()] == ["row.json"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"epochs": 3}, "epochs was 30, is 3"), ({"data_sha256": "cd"}, 'data_sha256 was "ab", is "cd"'),
     ({"width": 320}, "width was nothing, is 320")],
)  # fmt: skip
def test_other_settings_are_refused(changes, words, kept, tmp_path):
    path = tmp_path / "row.json"
    kept.write_kept(path, SETTINGS, {"ap": 0.5})
    with pytest.raises(CheckpointError, match="choose another folder") as caught:
        kept.read_kept(path, SETTINGS | changes)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[1]", '"text"'])
def test_what_is_no_such_file_is_refused(content, kept, tmp_path):
    (tmp_path / "row.json").write_text(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        kept.read_kept(tmp_path / "row.json", SETTINGS)


def test_a_row_without_settings_is_refused(kept, tmp_path):
    (tmp_path / "row.json").write_text(json.dumps({"ap": 0.5}))
    with pytest.raises(CheckpointError, match="other settings: epochs was nothing"):
        kept.read_kept(tmp_path / "row.json", SETTINGS)


def test_random_cells_are_measured_once_for_the_same_images(load_script, tmp_path, monkeypatch):
    controls, measured = load_script("train_controls"), []

    def evaluate(_task, cell, _seed):
        measured.append(cell)
        return {"val_acc": len(measured) / 100}

    monkeypatch.setattr(controls.ProxyTask, "evaluate", evaluate)

    def best(images, device="cpu"):
        name = f"{images} under any name"
        return controls.best_random(controls.Common(name, load(images), Recipe(), "proxy", 10**7, device, tmp_path))

    first = best("fashion-mini")
    assert isinstance(first, Cell)
    assert first == measured[-1]
    assert best("fashion-mini", "auto") == first
    assert len(measured) == controls.RANDOM_CELLS
    monkeypatch.setattr(controls, "Recipe", lambda epochs, **other: Recipe(epochs=epochs + 1, **other))
    with pytest.raises(CheckpointError, match=r"random\.json was measured .*: recipe\.epochs was 6, is 7"):
        best("fashion-mini")


def test_a_whole_model_is_counted_and_left_in_its_mode(load_script):
    count_macs = load_script("macs").count_macs
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 16, 5))
    before = model[1].running_mean.clone()
    assert count_macs(model, torch.ones(2, 3, 4, 4)) == 2 * (8 * 3 * 9 * 16 + 8 * 16 * 5)
    assert model.training
    assert torch.equal(model[1].running_mean, before)
    model.eval()
    count_macs(model, torch.ones(1, 3, 4, 4))
    assert not model.training
