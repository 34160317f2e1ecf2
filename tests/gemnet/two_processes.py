"""The gradients of one step, written to a file: torchrun --nproc-per-node N two_processes.py FILE ACCUMULATE."""

import sys

import torch
from killed_training import DATA
from safetensors.torch import save_file
from torch import nn

from gemnet.devices import accelerator
from gemnet.images import MemoryImages
from gemnet.randomness import borrowed, seeded
from gemnet.recipe import Recipe
from gemnet.trainer import Trainer


def gradients(accumulate: int) -> dict[str, torch.Tensor]:
    """Of the first step of a net with batch norm, augmentation off, by name."""
    torch.set_default_dtype(torch.float64)  # so that nothing but the function decides
    recipe = Recipe(epochs=1, batch_size=61, crop_padding=0, flip=False, stop_epochs=0, accumulate=accumulate)
    with seeded(0):
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
            nn.Flatten(), nn.Linear(32, 10),
        )  # fmt: skip
    runner = accelerator("auto", recipe.precision, recipe.accumulate)
    seen: dict[str, torch.Tensor] = {}
    with borrowed(0, runner.process_index) as rng:
        trainer = Trainer(model, MemoryImages(DATA, recipe), recipe, runner, rng)
        trainer.optimizer.optimizer.register_step_pre_hook(
            lambda *_: seen.update({name: p.grad.clone() for name, p in trainer.bare.named_parameters()})
        )
        numbers = trainer._order().tensor_split(trainer.batches)[0]
        feed = trainer.images.training([numbers], trainer.share, 0, rng, trainer.device)
        trainer._run_step(numbers, feed)
    if runner.is_main_process:
        print("processes", runner.num_processes)
    return seen if runner.is_main_process else {}


if __name__ == "__main__":
    torch.set_num_threads(1)
    if found := gradients(int(sys.argv[2])):
        save_file(found, sys.argv[1])
