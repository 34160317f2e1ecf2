"""Optimisers through a checkpoint: what goes on from one ends as what was never stopped."""

import dataclasses

import pytest
import torch
from killed_training import run
from timm.optim import list_optimizers
from torch import nn

from gemnet import zoo
from gemnet.checkpoint import Checkpoints
from gemnet.data import load, subset
from gemnet.devices import accelerator
from gemnet.errors import CheckpointError, ConfigError
from gemnet.images import MemoryImages
from gemnet.randomness import borrowed, seeded
from gemnet.recipe import Recipe
from gemnet.recipe import load as load_recipe
from gemnet.snapshot import UNPACKABLE, Snapshot
from gemnet.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

BARE = Recipe(epochs=2, batch_size=25, lr=0.001, crop_padding=0, flip=False, stop_epochs=0)
DATA = subset(load("fashion-mini"), 50, 50)
USUAL = (
    "sgd", "momentum", "adam", "adamw", "nadamw", "radam", "rmsprop", "rmsproptf", "lamb", "lambw", "lars", "lion",
    "adafactor", "adafactorbv", "adabelief", "adamp", "adan", "adopt", "laprop", "madgrad", "mars", "muon", "novograd",
)  # fmt: skip
OF_RECIPES = {(how.opt, how.layer_decay) for how in map(load_recipe, zoo.names("recipes"))}


def trainer(recipe):
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=4, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(196, 10)
        )
    with borrowed(0) as rng:
        return Trainer(model, MemoryImages(DATA, recipe), recipe, accelerator("cpu"), rng)


@pytest.mark.parametrize(("opt", "layer_decay"), sorted({*((name, 1.0) for name in USUAL), *OF_RECIPES}))
def test_a_restored_training_ends_bit_equal(opt, layer_decay, tmp_path):
    recipe = dataclasses.replace(BARE, opt=opt, layer_decay=layer_decay)
    unbroken, restored = trainer(recipe), trainer(recipe)
    unbroken.run_epoch()
    kept = Checkpoints(tmp_path)
    kept.save(unbroken.snapshot())
    restored.restore(kept.load(2))
    before = {name: value.clone() for name, value in restored.bare.state_dict().items()}
    assert unbroken.run_epoch() == restored.run_epoch()
    after = restored.bare.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in unbroken.bare.state_dict().items())
    assert not torch.equal(before["4.weight"], after["4.weight"])


def test_one_whose_state_cannot_be_saved_is_refused_at_the_start(tmp_path):
    assert {name for name in list_optimizers() if "kron" in name} == {*UNPACKABLE}
    with pytest.raises(ConfigError, match="Kron cannot be saved in checkpoints; set another opt"):
        run(tmp_path / "out", dataclasses.replace(BARE, opt="Kron"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("broken", [
    Snapshot({"model": {"w": torch.zeros(1)}}, {"step": 2, "values": torch.float16}),
    Snapshot({"model": dict.fromkeys("ab", torch.zeros(3))}, {"step": 2}),
])  # fmt: skip
def test_a_snapshot_that_no_file_can_hold_is_an_error_and_leaves_nothing(broken, tmp_path):
    with pytest.raises(CheckpointError, match="step 2 has no form to be written in: "):
        Checkpoints(tmp_path).save(broken)
    assert list(tmp_path.iterdir()) == []
