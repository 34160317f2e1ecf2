"""Settings of what NASGEM learns, the encoder and the predictor; light, so that settings are checked without torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from gemnet import settings
from gemnet.errors import UnknownNameError

ENCODERS = ("wl", "graph", "mlp")
PARTS = {  # what a Gaussian process compares graphs by
    "gp-wl": ("wl",),
    "gp-embedding": ("embedding",),
    "gp-traits": ("traits",),
    "combined": ("wl", "contracted", "traits"),
    "gp-all": ("wl", "contracted", "traits", "embedding"),
}
PREDICTORS = ("mlp", *PARTS)
TARGETS = ("gap", "raw")
SIMILARITIES = ("mean", "plain")


@dataclass(frozen=True)
class EncoderSettings:
    """How an encoder looks and is trained.

    Args:
        form: `"wl"` (learned table of WL labels: keeps similarity best), `"graph"` (bidirectional graph network) or
            `"mlp"` (keeps the graph itself best; takes `lr` 3e-3).
        dim: size p of an embedding; at 64 cells of 30 nodes miss a rank correlation of .95 with S_g.
        buckets: places of the label network's table for each round of labels.
        axes: principal axes of labels per number of the embedding, and as many random directions, that the label
            network is trained in.
        warm_start: graphs these axes, and those of waves, come from.
        waves: fixed features the graph network and the MLP start from (search/waves.py); both keep similarity best
            with `dim` 128, and reach rank correlations of .83 and .61 without any.
        width: channels of the graph network's layers.
        depth: number of them.
        decoder_width: channels of the decoder's hidden layers.
        alpha: weight of the WL term beside the nats per node of the decoder.
        calibrate: whether the WL term compares S_g with an affine function of S_e (see `similarity_loss`).
        h: rounds of WL labels.
        directed: whether labels tell predecessors from successors.
        similarity: `"mean"` or `"plain"`, see search/wl.py.
        steps: optimiser steps.
        batch_size: graphs of one step, edited ones included.
        lr: Adam's rate at the start; a cosine takes it to 0.
        held_out: graphs of the report, never trained on.
        block: graphs embedded at a time.
    """

    form: str = "wl"
    dim: int = 96
    buckets: int = 4096
    axes: int = 4
    warm_start: int = 8192
    waves: int = 512
    width: int = 64
    depth: int = 3
    decoder_width: int = 256
    alpha: float = 10.0
    calibrate: bool = True
    h: int = 3
    directed: bool = False
    similarity: str = "mean"
    steps: int = 2000
    batch_size: int = 256
    lr: float = 1e-3
    held_out: int = 512
    block: int = 1024

    def __post_init__(self) -> None:
        if self.form not in ENCODERS:
            raise UnknownNameError("encoder", self.form, ENCODERS)
        if self.similarity not in SIMILARITIES:
            raise UnknownNameError("similarity", self.similarity, SIMILARITIES)
        at_least = dict.fromkeys(("dim", "buckets", "axes", "width", "depth", "decoder_width", "steps", "block"), 1)
        at_least |= {"batch_size": 4, "held_out": 4, "warm_start": 4, "waves": 0, "h": 0, "alpha": 0}
        settings.check_ranges(self, "encoder", {**_least(self, at_least), "lr": (self.lr > 0, "above 0")})


@dataclass(frozen=True)
class PredictorSettings:
    """Which predictor, and how it is fitted.

    Args:
        form: `"mlp"` (ensemble on embeddings), or a Gaussian process on what PARTS lists: `"gp-wl"`,
            `"gp-embedding"`, `"gp-traits"`, `"combined"` or `"gp-all"`.
        target: `"gap"` or `"raw"`: how scores are learned, see search/warp.py.
        members: networks of the ensemble.
        hidden: channels of an MLP's hidden layers.
        ranking: weight of the ranking term.
        margin: how far apart, in standard deviations, the ranking term wants two scores.
        held_out: share of the measured cells that stops a member's training; each member has its own.
        steps: most optimiser steps, each over all cells.
        patience: steps without improvement after which training stops.
        lr: Adam's rate.
        weight_decay: decoupled weight decay.
        h: rounds of the WL kernel.
        directed: whether its labels tell predecessors from successors.
        similarity: `"mean"` or `"plain"`, see search/wl.py.
    """

    form: str = "combined"
    target: str = "gap"
    members: int = 5
    hidden: tuple[int, ...] = (128, 64)
    ranking: float = 1.0
    margin: float = 0.1
    held_out: float = 0.15
    steps: int = 400
    patience: int = 60
    lr: float = 3e-3
    weight_decay: float = 1e-2
    h: int = 2
    directed: bool = True
    similarity: str = "mean"

    def __post_init__(self) -> None:
        if self.form not in PREDICTORS:
            raise UnknownNameError("predictor", self.form, PREDICTORS)
        if self.target not in TARGETS:
            raise UnknownNameError("target", self.target, TARGETS)
        if self.similarity not in SIMILARITIES:
            raise UnknownNameError("similarity", self.similarity, SIMILARITIES)
        hidden = bool(self.hidden) and min(self.hidden) >= 1
        at_least = {"members": 1, "steps": 1, "patience": 1, "ranking": 0, "margin": 0, "weight_decay": 0, "h": 0}
        settings.check_ranges(self, "predictor", {
            **_least(self, at_least), "lr": (self.lr > 0, "above 0"),
            "held_out": (0 <= self.held_out < 1, "from 0 to below 1"),
            "hidden": (hidden, "a list of numbers of at least 1"),
        })  # fmt: skip

    @property
    def embeds(self) -> bool:
        """Whether the predictor looks at embeddings."""
        return "embedding" in PARTS.get(self.form, ("embedding",))


def _least(value: object, least: Mapping[str, float]) -> dict[str, tuple[bool, str]]:
    """For each field that has a least value, whether it is at least that."""
    return {name: (getattr(value, name) >= number, f"at least {number}") for name, number in least.items()}
