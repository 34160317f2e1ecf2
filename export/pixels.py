"""Preprocessing as the first layer of a model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """A model that takes bytes [N, H, W, C] instead of normalised floats [N, C, H, W].

    Args:
        model: maps normalised images to logits.
        mean, std: of each channel, of images in [0, 1].
    """

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.model = model
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", 255 * torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("scale", 1 / (255 * torch.tensor(std).view(1, -1, 1, 1)))

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, num_classes]."""
        floats = images.permute(0, 3, 1, 2).to(self.mean.dtype)
        logits: Tensor = self.model(((floats - self.mean) * self.scale).contiguous())  # strides would be exported
        return logits
