"""A tiny network, really trained on the packaged images, in the folder that `gemnet train` would leave."""

from pathlib import Path

import timm

from gemnet.config import NetConfig, Stage
from gemnet.fit import Plan, fit
from gemnet.randomness import seeded
from gemnet.recipe import Recipe
from gemnet.task import describe_model, open_images, save_model

CELL = {"schema": "gemnet.cell/1", "ops": ["input", "sepconv3x3", "conv1x1"], "edges": [[0, 1], [0, 2]]}
NET = NetConfig(8, (Stage(1, 8, 16, 2), Stage(1, 16, 24, 2)), 32)


def train_tiny(folder: Path, seed: int = 0) -> Path:
    """Trains for an epoch, which is above chance, and returns the folder."""
    recipe = Recipe(epochs=1, lr=0.1, batch_size=64, stop_epochs=0)
    images = open_images("fashion-mini", recipe, seed)
    with seeded(seed):
        model = timm.create_model("gemnet", cell=CELL, net=NET.to_dict(), num_classes=10, in_chans=1)
    plan = Plan(save_model=lambda best, to: save_model(best, to, images, recipe))
    fit(model, images, recipe, seed, folder, about=describe_model("tiny.json", model, False), device="cpu", plan=plan)
    return folder
