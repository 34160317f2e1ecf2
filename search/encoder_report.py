"""How well an encoder keeps graph similarity, and its decoder the graphs, on graphs never trained on."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from scipy.stats import spearmanr
from torch import Tensor

from .autoencoder import GraphSource, draw, log_loss, pair_similarities, targets
from .embedding import Encoder
from .encoders import pairs_of
from .graphs import GraphBatch
from .ordering import wl_order

Floats = npt.NDArray[np.floating]


class Decoded(NamedTuple):
    """How well a decoder gives graphs back.

    Args:
        edge_f1: F1 of the edges chosen by `likely_edges`, over all graphs' edges together.
        op_accuracy: share of present nodes whose likeliest op is right.
        exact_rate: share of graphs whose likeliest ops and edges (each above 1/2) are all right.
        bits: what a graph still costs to describe, given the decoder's probabilities, in bits.
    """

    edge_f1: float
    op_accuracy: float
    exact_rate: float
    bits: float


@dataclass(frozen=True)
class EncoderReport:
    """Figures on held-out graphs.

    Args:
        spearman_random: rank correlation of S_e with S_g over all pairs of random graphs.
        spearman_edited: the same over pairs (G, G after random edits).
        edge_f1, op_accuracy, exact_rate, bits: see Decoded.
        ops_random, ops_edited: both correlations of op counts' cosine, the baseline to beat.
    """

    spearman_random: float
    spearman_edited: float
    edge_f1: float
    op_accuracy: float
    exact_rate: float
    bits: float
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
    truth = pair_similarities(graphs, s)
    random, edited = rank_correlations(encoder.embed(graphs), *truth)
    counts = np.stack([(graphs.codes == k).sum(1) for k in range(len(graphs.ops))], 1)
    return EncoderReport(random, edited, *decoded(encoder, graphs[:half]), *rank_correlations(counts, *truth))


def rank_correlations(vectors: npt.NDArray[np.number], z: sp.csr_matrix, near: sp.csr_matrix) -> tuple[float, float]:
    """Spearman's correlation of cosines with S_g: over all pairs of n graphs, and over graphs and their edits.

    Args:
        vectors: of n graphs, then of their edits [2 n, p].
        z, near: of the same two halves, as `pair_similarities` gives them.
    """
    n = len(vectors) // 2
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    pairs = np.triu_indices(n, k=1)
    random = _rank((unit[:n] @ unit[:n].T)[pairs], (z @ z.T).toarray()[pairs])
    return random, _rank((unit[:n] * unit[n:]).sum(1), np.asarray(z.multiply(near).sum(1)).reshape(-1))


def decoded(encoder: Encoder, graphs: GraphBatch) -> Decoded:
    """How well an encoder's decoder gives graphs back, in the order of `wl_order`."""
    graphs = wl_order(graphs)
    with torch.inference_mode():
        op_logits, edge_logits = encoder.model.decoder(torch.from_numpy(encoder.embed(graphs)))
    return judged(op_logits, edge_logits, graphs)


def judged(op_logits: Tensor, edge_logits: Tensor, graphs: GraphBatch) -> Decoded:
    """The figures of logits of ops [B, N, ops + 1] and edges [B, N(N-1)/2]."""
    codes, edges, valid = targets(graphs, pairs_of(graphs.width))
    true, probability = edges > 0, torch.where(valid, edge_logits.sigmoid(), 0)
    chosen = likely_edges(probability)
    f1 = 2 * int((chosen & true).sum()) / max(int(chosen.sum() + true.sum()), 1)
    right = op_logits.argmax(2) == codes
    accuracy = right[torch.from_numpy(graphs.present)].float().mean()
    exact = right.all(1) & ((probability > 0.5) == true).all(1)
    nats = log_loss(op_logits, edge_logits, codes, edges, valid) * graphs.width
    return Decoded(f1, float(accuracy), float(exact.float().mean()), float(nats) / math.log(2))


def likely_edges(probability: Tensor) -> Tensor:
    """The edges to name of every graph, its likeliest ones: as many as give the best expected F1 [B, P].

    With probabilities q sorted downwards, naming k edges is expected to give F1 of about
    2 (q_1 + .. + q_k) / (k + sum of all q). At probability 1/2 hardly an edge of an unsure decoder is named.
    """
    q, place = probability.sort(1, descending=True)
    k = torch.arange(1, q.shape[1] + 1)
    count = (2 * q.cumsum(1) / (k + q.sum(1, keepdim=True))).argmax(1, keepdim=True) + 1
    return place.argsort(1) < count


def _rank(a: Floats, b: Floats) -> float:
    """Spearman's correlation; 0 when one side is constant."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0
