"""A PyTorch model that predicts like an exported file."""

from gemnet.errors import NoWeightsError
from gemnet.pretrained import load_weights_list

from .infer import Model, Pixels
from .parity import answer
from .source import RANDOM, Source


class LiveModel(Model):
    """`infer.Model` whose logits come from PyTorch.

    Raises:
        NoWeightsError: the weights are random, so that answers would mean nothing.
    """

    def __init__(self, source: Source) -> None:
        if source.weights == RANDOM:
            raise NoWeightsError(
                f"{source.unused or f'there are no weights of {source.name}'}; name some that fit by --weights FILE, "
                f"or a model that has some: a folder of gemnet train, {', '.join(load_weights_list())}"
            )
        self.source, self.name, self.weights = source, source.name, source.weights
        self.labels, self.preprocessing = list(source.labels), source.preprocessing(as_bytes=True)

    def logits(self, images: Pixels) -> Pixels:
        """Scores [N, num_classes] of pixels [N, H, W, C]."""
        return answer(self.source.model, images, self.source.scaling)
