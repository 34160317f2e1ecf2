"""A label network without torch, so that processes that only predict need none of it."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .graphs import GraphBatch
from .learning import EncoderSettings
from .sketch import matrix, sketch

Embeddings = npt.NDArray[np.float32]
BLOCK = 2048  # graphs embedded at a time


@dataclass(frozen=True, eq=False)
class Readout:
    """An encoder of form "wl" (see `encoders.LabelNet`) as arrays.

    Args:
        ops: vocabulary of the graphs it embeds.
        settings: of the encoder.
        table: a vector for each place of a label [places, p].
        bias: added to the sum of a graph's vectors [p].
    """

    ops: tuple[str, ...]
    settings: EncoderSettings
    table: Embeddings
    bias: Embeddings

    def embed(self, graphs: GraphBatch) -> Embeddings:
        """Embeddings of graphs [B, p], but for rounding those of the encoder."""
        out = np.empty((len(graphs), len(self.bias)), np.float32)
        s = self.settings
        for start in range(0, len(graphs), BLOCK):
            places, weights = sketch(graphs[start : start + BLOCK], s.h, s.directed, s.buckets)
            out[start : start + BLOCK] = matrix(places, weights, len(self.table)) @ self.table + self.bias
        return out


def light(encoder: Any) -> Any:
    """An encoder of form "wl" as a `Readout`, the same one each time; any other as it is."""
    return _light(encoder)


@lru_cache(maxsize=8)
def _light(encoder: Any) -> Any:
    settings = getattr(encoder, "settings", None)
    if isinstance(encoder, Readout) or not isinstance(settings, EncoderSettings) or settings.form != "wl":
        return encoder
    net = encoder.model.encoder
    return Readout(encoder.ops, settings, net.table.detach().numpy().copy(), net.bias.detach().numpy().copy())
