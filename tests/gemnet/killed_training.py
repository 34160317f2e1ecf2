"""A short training that is killed (SIGKILL) while it writes a given file: python killed_training.py DIR NUMBER...

For each number a process of its own trains into DIR/NUMBER and is killed as it begins to write that many-th file.
"""

import itertools
import os
import signal
import sys
from pathlib import Path

import torch
from torch import nn

from gemnet import checkpoint
from gemnet.data import load, subset
from gemnet.fit import Plan, fit
from gemnet.images import MemoryImages
from gemnet.recipe import Recipe
from gemnet.train import seeded

RECIPE = Recipe(
    epochs=2, batch_size=50, lr=0.01, opt="adamw", crop_padding=2, stop_epochs=0, ema_decay=0.99, mixup=0.2,
    cutmix=1.0, random_erase=0.3, clip_grad=1.0, accumulate=2,
)  # fmt: skip
DATA = subset(load("fashion-mini"), 300, 100)


def net(num_classes: int = 10) -> nn.Module:
    with seeded(0):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1),
            nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, num_classes),
        )  # fmt: skip


def run(folder: Path, recipe: Recipe = RECIPE, resume: bool = False, model: nn.Module | None = None, **plan):
    """Trains into a folder, with a checkpoint after every step unless told otherwise."""
    torch.set_num_threads(1)
    how = Plan(**{"save_every_s": 0.0, **plan})
    about, images = {"name": "net"}, MemoryImages(DATA, recipe)
    return fit(model or net(), images, recipe, 1, folder, about=about, device="cpu", resume=resume, plan=how)


def kill_at(number: int) -> None:
    """Makes this process kill itself when it begins to write the number-th file."""
    written, write = itertools.count(1), checkpoint.write_synced

    def deadly(path: Path, content: bytes) -> None:
        if next(written) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, content)

    checkpoint.write_synced = deadly


if __name__ == "__main__":
    for text in sys.argv[2:]:
        child = os.fork()
        if child == 0:
            kill_at(int(text))
            run(Path(sys.argv[1], text))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.WTERMSIG(status))
