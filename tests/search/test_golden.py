"""What a generator draws and a graph hashes to never changes: studies are resumed and compared by it."""

import hashlib

import numpy as np
import pytest

from gemnet.search import wl
from gemnet.search.bootstrap import top_candidates
from gemnet.search.graphs import GraphBatch
from gemnet.search.ordering import wl_order
from gemnet.search.spaces.cells import CellSpace

SMALL = CellSpace(min_nodes=3, max_nodes=7, max_in_degree=2, ops=("sepconv3x3", "conv1x1", "maxpool3x3"))


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def digest(*arrays: np.ndarray) -> str:
    content = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize(
    ("space", "drawn", "edited", "ordered", "hashed"),
    [
        (CellSpace(), "12345774aa201435", "dc78a8134e506ad1", "77cb09ba7c6921af", "a80180c7a24331e1"),
        (SMALL, "f815935e65260f8e", "b4275906c330d10b", "91765fac54bae8f1", "cd15cf84ee6745e8"),
    ],
    ids=["default", "small"],
)
def test_draws_edits_orders_and_hashes_are_what_they_were(
    space: CellSpace, drawn: str, edited: str, ordered: str, hashed: str
) -> None:
    generator = rng(11)
    graphs = space.sample_batch(500, generator)
    edits = space.mutate_batch(graphs, generator)
    in_order = wl_order(edits)
    assert digest(graphs.codes, graphs.adjacency) == drawn
    assert digest(edits.codes, edits.adjacency) == edited
    assert digest(in_order.codes, in_order.adjacency) == ordered
    assert digest(wl.graph_hash(edits), *wl.labels(graphs, 3), *wl.labels(graphs, 3, directed=False)) == hashed


def test_the_bootstrap_finds_what_it_found() -> None:
    def predict(graphs: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        mean = graphs.in_degree.sum(1) + graphs.leaves.sum(1) / 100
        return mean.astype(np.float64), np.zeros(len(graphs))

    best = top_candidates(SMALL, predict, rng(2), 3000, 20, block=512)
    assert digest(best.hashes, best.mean, best.graphs.codes, best.graphs.adjacency) == "3db3153bfa32c570"
