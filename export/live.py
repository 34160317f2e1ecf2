"""A PyTorch model that predicts like an exported file."""

from .infer import Model, Pixels
from .parity import answer
from .source import Source


class LiveModel(Model):
    """`infer.Model` whose logits come from PyTorch."""

    def __init__(self, source: Source) -> None:
        self.source, self.name, self.weights = source, source.name, source.weights
        self.labels, self.preprocessing = list(source.labels), source.preprocessing(as_bytes=True)

    def logits(self, images: Pixels) -> Pixels:
        """Scores [N, num_classes] of pixels [N, H, W, C]."""
        return answer(self.source.model, images, self.source.scaling)
