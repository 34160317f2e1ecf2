"""Images as bytes, a batch at a time: moved and mirrored at random, and made the floats that a net reads."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Moves:
    """How each of N images is shifted and mirrored.

    Args:
        padding: largest shift in pixels.
        top, left: corner of the crop in the padded image, int64 [N, 1] from 0 to 2 * padding.
        mirrored: bool [N, 1]; None when no image is.
    """

    padding: int
    top: Tensor
    left: Tensor
    mirrored: Tensor | None

    @classmethod
    def draw(cls, n: int, padding: int, flip: bool, rng: torch.Generator) -> "Moves":
        """Random moves of n images, half of them mirrored if `flip`; drawn on the CPU, the same for every device."""
        top, left = torch.randint(2 * padding + 1, (2, n, 1), generator=rng)
        return cls(padding, top, left, torch.rand(n, 1, generator=rng) < 0.5 if flip else None)

    def of(self, part: slice) -> "Moves":
        """The moves of some of the images."""
        mirrored = None if self.mirrored is None else self.mirrored[part]
        return Moves(self.padding, self.top[part], self.left[part], mirrored)

    def to(self, device: torch.device) -> "Moves":
        """The same moves, on the device of the images."""
        top, left = to_device(torch.stack((self.top, self.left)), device)
        return Moves(self.padding, top, left, None if self.mirrored is None else to_device(self.mirrored, device))

    def apply(self, images: Tensor) -> Tensor:
        """The moved images, bytes [N, H, W, C] on the moves' device; what is shifted in is black."""
        n, height, width, _ = images.shape
        each, rows, cols = (torch.arange(size, device=images.device) for size in (n, height, width))
        rows, cols = self.top + rows, self.left + cols
        if self.mirrored is not None:
            cols = torch.where(self.mirrored, cols.flip(1), cols)
        edge = self.padding
        padded = F.pad(images, (0, 0, edge, edge, edge, edge))  # [N, H + 2p, W + 2p, C]
        return padded[each[:, None, None], rows[:, :, None], cols[:, None, :]]


class Normalise:
    """Bytes [N, H, W, C] to floats [N, C, H, W] of mean 0 and variance 1, channels last in memory."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: str | torch.device) -> None:
        self.mean = 255 * torch.tensor(mean, device=device)
        self.scale = 1 / (255 * torch.tensor(std, device=device))

    def __call__(self, images: Tensor) -> Tensor:
        return ((images - self.mean) * self.scale).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def augment(images: Tensor, padding: int, flip: bool, rng: torch.Generator) -> Tensor:
    """Images randomly shifted by up to `padding` pixels in each direction, and half of them mirrored.

    Args:
        images: bytes [N, H, W, C]; what is shifted in is black.
        padding: largest shift in pixels.
        flip: whether to mirror at all.
        rng: a generator on the CPU, so that a seed means the same on every device.
    """
    return Moves.draw(len(images), padding, flip, rng).to(images.device).apply(images)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; a GPU goes on with what it does meanwhile."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
