"""Graphs of a listed space: what is computed once is what would be computed anew."""

import numpy as np
import pytest

from gemnet.search.enumerated import EnumeratedGraphs, Enumeration, once
from gemnet.search.graphs import GraphBatch, concat
from gemnet.search.learning import PredictorSettings
from gemnet.search.predictor import build_predictor
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.strategies.nasgem import Unembedded
from gemnet.search.traits import traits

SPACE = CellSpace(min_nodes=4, max_nodes=9, ops=("sepconv3x3", "conv1x1", "identity"))
GRAPHS = SPACE.sample_batch(60, np.random.default_rng(0))
ALL = Enumeration(GRAPHS)
ROWS = np.random.default_rng(1).permutation(60)


def plain(graphs: GraphBatch) -> GraphBatch:
    return GraphBatch(graphs.codes, graphs.adjacency, graphs.ops, graphs.output)


@pytest.mark.parametrize("index", [slice(3, 9), np.array([5, 2, 2]), np.arange(60) % 3 == 0])
def test_a_selection_knows_its_rows(index: slice | np.ndarray) -> None:
    graphs = ALL[ROWS][index]
    assert isinstance(graphs, EnumeratedGraphs) and graphs.rows.tolist() == ROWS[index].tolist()
    assert (graphs.codes == GRAPHS.codes[ROWS][index]).all()
    assert (graphs.adjacency == GRAPHS.adjacency[ROWS][index]).all()


def test_a_function_is_computed_once_and_anew_for_other_graphs() -> None:
    calls: list[int] = []

    def count(graphs: GraphBatch) -> np.ndarray:
        calls.append(len(graphs))
        return traits(graphs)

    remembered, whole = once(count), Enumeration(GRAPHS)
    for rows in (ROWS[:7], ROWS[5:30]):
        assert (remembered(whole[rows]) == traits(GRAPHS[rows])).all()
    assert calls == [60]
    joined = concat([whole[ROWS[:2]], whole[ROWS[2:4]]])
    assert (remembered(joined) == traits(GRAPHS[ROWS[:4]])).all()
    assert calls == [60, 4]


@pytest.mark.parametrize("form", ["gp-wl", "combined"])
@pytest.mark.parametrize("similarity", ["mean", "plain"])
def test_a_predictor_says_the_same_of_listed_graphs(form: str, similarity: str) -> None:
    known, unseen = ALL[ROWS[:20]], ALL[ROWS[20:]]
    scores = traits(known)[:, 0] + traits(known)[:, 3] / 10
    found = []
    for change in (lambda graphs: graphs, plain):
        predictor = build_predictor(PredictorSettings(form, similarity=similarity), Unembedded(SPACE.vocabulary), 0)
        predictor.fit(change(known), scores)
        found.append(np.stack(predictor.predict(change(unseen))))
    assert found[0] == pytest.approx(found[1], rel=1e-4, abs=1e-6)
