"""How well an encoder keeps graph similarity, and its decoder the graphs, on graphs never trained on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import spearmanr

from .autoencoder import GraphSource, draw, pair_similarities, targets
from .embedding import Encoder
from .graphs import GraphBatch

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class EncoderReport:
    """Figures on held-out graphs.

    Args:
        spearman_random: rank correlation of S_e with S_g over all pairs of random graphs.
        spearman_edited: the same over pairs (G, G after random edits).
        edge_f1: F1 of the decoded edges of present nodes, at probability 1/2.
        op_accuracy: share of present nodes whose op is decoded.
        exact_rate: share of graphs decoded without a fault.
        ops_random, ops_edited: both correlations of op counts' cosine, the baseline to beat.
    """

    spearman_random: float
    spearman_edited: float
    edge_f1: float
    op_accuracy: float
    exact_rate: float
    ops_random: float
    ops_edited: float


def report(encoder: Encoder, space: GraphSource, seed: int) -> EncoderReport:
    """The figures on `settings.held_out` fresh graphs of another stream than training's.

    Args:
        encoder: what is judged.
        space: where graphs come from.
        seed: of the training run; the held-out graphs' own stream is derived from it.
    """
    s = encoder.settings
    half = s.held_out // 2
    graphs = draw(space, half, np.random.Generator(np.random.Philox(key=[seed, 1])))
    z, near = pair_similarities(graphs, s)
    pairs = np.triu_indices(half, k=1)
    true_random = (z @ z.T).toarray()[pairs]
    true_edited = np.asarray(z.multiply(near).sum(1)).reshape(-1)
    counts = np.stack([(graphs.codes == k).sum(1) for k in range(len(graphs.ops))], 1)
    figures = []
    for vectors in (encoder.embed(graphs), counts):
        unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        figures.append(_rank((unit[:half] @ unit[:half].T)[pairs], true_random))
        figures.append(_rank((unit[:half] * unit[half:]).sum(1), true_edited))
    return EncoderReport(figures[0], figures[1], *decoded(encoder, graphs[:half]), figures[2], figures[3])


def decoded(encoder: Encoder, graphs: GraphBatch) -> tuple[float, float, float]:
    """Edge F1, op accuracy, exact rate."""
    decoder = encoder.model.decoder
    with torch.inference_mode():
        op_logits, edge_logits = decoder(torch.from_numpy(encoder.embed(graphs)))
    codes, edges, valid = targets(graphs, decoder.pairs)
    guess = (edge_logits > 0) & valid
    right = int((guess & (edges > 0)).sum())
    f1 = 2 * right / max(int(guess.sum() + edges.sum()), 1)
    ops_right = op_logits.argmax(2) == codes
    present = torch.from_numpy(graphs.present)
    exact = ops_right.all(1) & (guess == (edges > 0)).all(1)
    return f1, float(ops_right[present].float().mean()), float(exact.float().mean())


def _rank(a: Floats, b: Floats) -> float:
    """Spearman's correlation; 0 when one side is constant."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0
