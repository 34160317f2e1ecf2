"""The encoder's figures: what they are of perfect, blind and faulty decoders, and of cosines that are right."""

from itertools import chain, combinations

import numpy as np
import pytest
import torch

from gemnet.search import wl
from gemnet.search.autoencoder import draw, pair_similarities, targets
from gemnet.search.embedding import train_encoder
from gemnet.search.encoder_report import decoded, judged, likely_edges, rank_correlations
from gemnet.search.encoders import pairs_of
from gemnet.search.graphs import GraphBatch
from gemnet.search.learning import EncoderSettings
from gemnet.search.ordering import wl_order
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.spaces.nasbench201 import NASBench201

SPACE = CellSpace(min_nodes=4, max_nodes=10, max_in_degree=3)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def perfect(graphs: GraphBatch) -> tuple[torch.Tensor, torch.Tensor]:
    codes, edges, _ = targets(graphs, pairs_of(graphs.width))
    return torch.nn.functional.one_hot(codes, len(graphs.ops) + 1) * 100.0, edges * 200 - 100


def test_likely_edges_give_the_best_expected_f1_of_all_sets() -> None:
    q = torch.rand(6, 9, generator=torch.Generator().manual_seed(0)) ** 3
    sets = [list(s) for s in chain.from_iterable(combinations(range(9), k) for k in range(1, 10))]
    for row, chosen in zip(q, likely_edges(q)):
        best = max(2 * float(row[s].sum()) / (len(s) + float(row.sum())) for s in sets)
        assert 2 * float(row[chosen].sum()) / (int(chosen.sum()) + float(row.sum())) == pytest.approx(best)


def test_a_perfect_decoder_and_one_with_a_single_fault() -> None:
    graphs = SPACE.sample_batch(20, rng())
    ops, edges = perfect(graphs)
    assert judged(ops, edges, graphs) == pytest.approx((1, 1, 1, 0))
    edges[3, 0] *= -1  # the pair (0, 1), which every graph of the space has
    assert int((graphs.adjacency[:, 1] == 1).sum()) == 20
    found = judged(ops, edges, graphs)
    assert found.exact_rate == pytest.approx(0.95) and found.op_accuracy == 1
    count = int(graphs.in_degree.sum())
    assert found.edge_f1 == pytest.approx((2 * count - 2) / (2 * count - 1))


def test_a_decoder_that_knows_nothing_needs_a_bit_for_every_pair_of_nodes() -> None:
    graphs = CellSpace(min_nodes=6, max_nodes=6).sample_batch(5, rng())
    found = judged(torch.zeros(5, 6, 4), torch.zeros(5, 15), graphs)
    assert found.bits == pytest.approx(15 + 6 * 2)


def test_cosines_equal_to_the_similarity_correlate_fully() -> None:
    graphs = draw(SPACE, 40, rng())
    z, near = pair_similarities(graphs, EncoderSettings())
    exact = wl.scaled(wl.features(graphs, 3, False)).toarray()
    assert rank_correlations(exact, z, near) == pytest.approx((1, 1), abs=1e-3)  # rounding breaks ties
    assert rank_correlations(np.ones((80, 3)), z, near) == (0, 0)


def test_ordered_edges_join_nearer_places_than_sampled_ones() -> None:
    graphs = CellSpace().sample_batch(300, rng())
    places = np.arange(graphs.width)
    length = [float((g.dense * (places[:, None] - places)).sum() / g.dense.sum()) for g in (graphs, wl_order(graphs))]
    assert length[1] < 0.95 * length[0]


@pytest.mark.slow
def test_all_nas_bench_201_graphs_come_back() -> None:
    space = NASBench201()
    settings = EncoderSettings("mlp", decoder_width=512, lr=3e-3, steps=600)
    assert decoded(train_encoder(space, settings, 0), space.batch(space.all())).exact_rate > 0.99
