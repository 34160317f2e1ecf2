"""Predictors: from a few measured architectures to a score, with its spread, for any other."""

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from gemnet.errors import ConfigError

from . import wl
from .enumerated import EnumeratedGraphs, once
from .gp import Arrays, GaussianProcess, Similarity, Vectors
from .graphs import GraphBatch
from .learning import PARTS, PredictorSettings
from .ordering import contract
from .readout import light
from .similar import SimilarTo
from .traits import IDENTITY, traits

Floats = npt.NDArray[np.float64]
FILE = "predictor.safetensors"


class Predictor(Protocol):
    """Learns scores of graphs."""

    def fit(self, archs: GraphBatch, scores: Floats) -> None: ...
    def predict(self, archs: GraphBatch) -> tuple[Floats, Floats]: ...
    def state(self) -> Arrays: ...
    def restore(self, state: Arrays) -> None: ...


class Embedder(Protocol):
    """What a predictor needs of an encoder; one that looks at no embedding asks for the ops only."""

    @property
    def ops(self) -> tuple[str, ...]: ...
    def embed(self, graphs: GraphBatch) -> npt.NDArray[np.float32]: ...


def build_predictor(settings: PredictorSettings, encoder: Embedder, seed: int) -> Predictor:
    """The predictor that the settings name, not yet fitted."""
    if settings.form == "mlp":
        from .ensemble import MLPEnsemble  # imports torch, which the others do without

        return MLPEnsemble(encoder, settings, seed)
    similarities: list[Similarity] = []
    vectors: list[Vectors] = []
    for part in PARTS[settings.form]:
        if part == "wl":
            similarities.append(wl_similarity(settings))
        elif part == "contracted" and IDENTITY & set(encoder.ops):
            similarities.append(wl_similarity(settings, IDENTITY))
        elif part == "traits":
            vectors.append(once(traits))
        elif part == "embedding":
            vectors.append(once(light(encoder).embed))
    return GaussianProcess(similarities, vectors, settings.target)


def wl_similarity(settings: PredictorSettings, without: Collection[str] = ()) -> Similarity:
    """The WL similarity of the settings, of graphs contracted to what computes something."""
    kernel = (settings.h, settings.directed, settings.similarity)
    key = ("wl", frozenset(without), *kernel)

    def contracted(graphs: GraphBatch) -> GraphBatch:
        return contract(graphs, without) if without else graphs

    def features(graphs: GraphBatch) -> sp.csr_matrix:
        return wl.scaled(wl.features(contracted(graphs), *kernel[:2]), kernel[2])

    def similar_to(known: GraphBatch) -> Callable[[GraphBatch], Floats]:
        similar = cache(lambda: SimilarTo(contracted(known), *kernel))

        def similarity(some: GraphBatch) -> Floats:
            if isinstance(some, EnumeratedGraphs) and isinstance(known, EnumeratedGraphs) and some.whole is known.whole:
                z = some.whole.keep(key, features)
                out: Floats = (z[some.rows] @ z[known.rows].T).toarray()
                return out
            return similar()(contracted(some))

        return similarity

    return similar_to


def save_predictor(predictor: Predictor, folder: Path) -> None:
    """Writes a fitted predictor's state into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(value) for name, value in predictor.state().items()}, folder / FILE)


def load_predictor(folder: Path, settings: PredictorSettings, encoder: Embedder, seed: int) -> Predictor:
    """The predictor a folder holds; raises ConfigError when it holds none of these settings."""
    predictor = build_predictor(settings, encoder, seed)
    try:
        predictor.restore(load_file(folder / FILE))
    except (OSError, KeyError, SafetensorError) as error:
        raise ConfigError(f"{folder} holds no predictor of form {settings.form!r}: {error!s:.200}") from None
    return predictor
