"""Batches of graphs hold what one-cell definitions say."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemnet.cell import Cell
from gemnet.errors import CellError, ConfigError, UnknownNameError
from gemnet.search import sampling, wl
from gemnet.search.graphs import NO_NODE, GraphBatch, bit_count, concat, pack
from gemnet.search.ordering import prune, wl_order

OPS = ("input", "sepconv3x3", "conv1x1")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


@st.composite
def cells(draw: st.DrawFn, output: bool = False) -> Cell:
    n = draw(st.integers(2, 12))
    last = "output" if output else draw(st.sampled_from(OPS[1:]))
    ops = ("input", *(draw(st.sampled_from(OPS[1:])) for _ in range(n - 2)), last)
    pairs = [(i, j) for j in range(n) for i in range(j)]
    return Cell(ops, tuple(draw(st.lists(st.sampled_from(pairs), unique=True))), output)


@given(st.lists(cells(), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_conversion_and_counts_equal_the_cells(graphs: list[Cell]) -> None:
    batch = GraphBatch.from_cells(graphs, OPS)
    assert batch.cells() == graphs
    for b, cell in enumerate(graphs):
        n = len(cell.ops)
        assert batch.sizes[b] == n
        assert tuple(np.flatnonzero(batch.leaves[b])) == cell.leaves
        assert batch.in_degree[b, :n].tolist() == [len(preds) for preds in cell.predecessors]
        listed = [tuple(row[row != NO_NODE].tolist()) for row in batch.predecessors[b, :n]]
        assert listed == list(cell.predecessors)
        edges = {(i, j) for j, i in zip(*np.nonzero(batch.dense[b]))}
        assert edges == set(cell.edges)
        assert all(batch.sparse[b * batch.width + j, b * batch.width + i] == 1 for i, j in cell.edges)


@pytest.mark.parametrize("output", [False, True])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_pruning_equals_the_cells_own(output: bool, data: st.DataObject) -> None:
    cell = data.draw(cells(output=output))
    batch = GraphBatch.from_cells([cell], (*OPS, "output"), width=14)
    if not output and not cell.successors[0]:
        with pytest.raises(CellError):
            prune(batch).cell(0)
    else:
        assert prune(batch).cell(0) == cell.prune()


@pytest.mark.parametrize("output", [False, True])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_wl_order_only_renumbers(output: bool, data: st.DataObject) -> None:
    cell = data.draw(cells(output=output))
    ordered = wl_order(GraphBatch.from_cells([cell], (*OPS, "output"), width=13)).cell(0)
    assert ordered.key == cell.key


def test_wl_order_is_the_same_for_relabelled_graphs(relabelled: Callable[[Cell], Cell]) -> None:
    batch = sampling.sample(60, rng(), (8, 30), 4, OPS)
    other = GraphBatch.from_cells([relabelled(cell) for cell in batch.cells()], OPS, 30)
    same = wl_order(batch).adjacency == wl_order(other).adjacency
    assert same.all(1).mean() > 0.8  # twins of equal colour may still differ


def test_bit_count_and_pack_on_all_64_places() -> None:
    bits = rng().integers(0, 2**64, size=(5, 64), dtype=np.uint64)
    assert bit_count(bits).tolist() == [[int(x).bit_count() for x in row] for row in bits]
    lower = np.array([[int(x) & ((1 << j) - 1) for j, x in enumerate(row)] for row in bits], np.uint64)
    batch = GraphBatch(np.ones((5, 64), np.uint8), lower, OPS)
    assert (batch.sparse.sum(1).reshape(5, 64) == batch.in_degree).all()
    assert (pack(batch.dense) == lower).all()


def test_sliced_and_joined_batches_keep_every_graph() -> None:
    small, large = sampling.sample(5, rng(1), (3, 6), 2, OPS), sampling.sample(4, rng(2), (7, 9), 4, OPS)
    joined = concat([small, large])
    assert joined.cells() == small.cells() + large.cells()
    assert joined[5:].cells() == large.cells()
    assert joined[np.array([8, 0])].cells() == [large.cell(3), small.cell(0)]
    assert joined[joined.sizes > 6].cells() == large.cells()


def test_wrong_batches_are_refused_by_name() -> None:
    cell = Cell(("input", "conv1x1", "maxpool3x3"), ((0, 1), (1, 2)))
    with pytest.raises(UnknownNameError, match="maxpool3x3"):
        GraphBatch.from_cells([cell], OPS)
    with pytest.raises(CellError, match="3 nodes does not fit into a batch of 2"):
        GraphBatch.from_cells([cell], (*OPS, "maxpool3x3"), width=2)
    with pytest.raises(ConfigError, match="different vocabularies"):
        concat([sampling.sample(1, rng(), (3, 3), 2, OPS), sampling.sample(1, rng(), (3, 3), 2, (*OPS, "x"))])
    with pytest.raises(ConfigError, match="does not fit into 5"):
        sampling.sample(1, rng(), (9, 9), 2, OPS).widen(5)


def test_sampler_draws_every_choice_uniformly() -> None:
    batch = sampling.sample(40_000, rng(), (3, 6), 3, OPS)
    assert np.allclose(np.bincount(batch.sizes)[3:] / len(batch), 0.25, atol=0.01)
    big = batch[batch.sizes == 6]
    assert np.allclose((big.codes[:, 1:] == 1).mean(0), 0.5, atol=0.02)
    assert np.allclose(np.bincount(big.in_degree[:, 5])[1:] / len(big), 1 / 3, atol=0.02)
    pairs = big.adjacency[big.in_degree[:, 5] == 2, 5]
    chosen = {sum(1 << i for i in pair): 0 for pair in itertools.combinations(range(5), 2)}
    values, counts = np.unique(pairs, return_counts=True)
    assert set(values.tolist()) == set(chosen)
    assert np.allclose(counts / len(pairs), 0.1, atol=0.02)


def test_mutation_makes_the_number_of_edits_asked_and_stays_inside() -> None:
    batch = sampling.sample(3000, rng(), (8, 30), 4, OPS)
    once = sampling.mutate(batch, rng(1), 4, (1, 1))
    changed_ops = (once.codes != batch.codes).sum(1)
    changed_rows = (once.adjacency != batch.adjacency).sum(1)
    assert (changed_ops + changed_rows == 1).all()
    bits = bit_count(once.adjacency ^ batch.adjacency).sum(1)
    assert set(bits.tolist()) == {0, 1, 2}  # op; add or remove; rewire
    assert np.allclose(np.bincount(bits) / len(bits), [1 / 4, 1 / 2, 1 / 4], atol=0.03)
    many = sampling.mutate(batch, rng(2), 4)
    inner = many.present & (np.arange(30) > 0)
    assert (many.sizes == batch.sizes).all()
    assert (many.in_degree[inner] >= 1).all() and (many.in_degree <= 4).all()
    assert (many.adjacency >> np.arange(30, dtype=np.uint64) == 0).all()  # edges go upwards
    assert (wl.graph_hash(many) != wl.graph_hash(batch)).mean() > 0.95


def test_mutation_may_change_the_number_of_nodes_within_bounds() -> None:
    batch = sampling.sample(3000, rng(), (3, 9), 3, OPS)
    once = sampling.mutate(batch, rng(1), 3, (1, 1), nodes=(3, 10))
    change = once.sizes - batch.sizes
    assert set(change.tolist()) == {-1, 0, 1}
    assert (once.sizes >= 3).all() and (once.sizes <= 10).all()
    inner = once.present & (np.arange(once.width) > 0)
    assert (once.in_degree[inner] >= 1).all() and (once.in_degree <= 3).all()
    assert (once.in_degree[~once.present] == 0).all()
    for b in np.flatnonzero(change)[:200]:
        before, after = batch.cell(b), once.cell(b)
        bigger, smaller = (after, before) if change[b] > 0 else (before, after)
        taken_out = {without(bigger, v).key for v in range(1, len(bigger.ops))}
        assert smaller.key in taken_out
    with pytest.raises(ConfigError, match="explicit output"):
        sampling.mutate(GraphBatch(batch.codes, batch.adjacency, batch.ops, output=True), rng(), 3, nodes=(3, 9))


def without(cell: Cell, gone: int) -> Cell:
    """A cell without a node, by the definition: who read only that node reads its predecessors."""
    place = [v - (v > gone) for v in range(len(cell.ops))]
    edges = []
    for j, preds in enumerate(cell.predecessors):
        read = cell.predecessors[gone] if preds == (gone,) else tuple(p for p in preds if p != gone)
        edges += [(place[i], place[j]) for i in read if j != gone]
    return Cell(tuple(op for v, op in enumerate(cell.ops) if v != gone), tuple(edges))


def test_children_have_the_first_nodes_of_one_parent_and_the_others_of_the_second() -> None:
    first, second = sampling.sample(2000, rng(1), (2, 9), 3, OPS), sampling.sample(2000, rng(2), (2, 12), 3, OPS)
    children = sampling.crossover(first, second, rng(3))
    first, second = first.widen(12), second.widen(12)
    like = [(children.codes == p.codes) & (children.adjacency == p.adjacency) for p in (first, second)]
    cuts = np.stack([like[0][:, :c].all(1) & like[1][:, c:].all(1) for c in range(1, 9)])
    assert cuts.any(0).all()
    assert (children.sizes == second.sizes).all()
    new = [wl.graph_hash(children) != wl.graph_hash(parents) for parents in (first, second)]
    assert (new[0] & new[1]).mean() > 0.5
    assert children.adjacency.tobytes() == sampling.crossover(first, second, rng(3)).adjacency.tobytes()
    with pytest.raises(ConfigError, match="parents are two batches"):
        sampling.crossover(first, second[:5], rng())


def test_mutation_of_a_space_without_neighbours_is_refused() -> None:
    only = GraphBatch.from_cells([Cell(("input", "conv1x1"), ((0, 1),))], ("input", "conv1x1"))
    with pytest.raises(ConfigError, match="no neighbour"):
        sampling.mutate(only, rng(), 4)


def test_the_same_generator_gives_the_same_graphs_and_the_sample_is_left_alone() -> None:
    one, two = (sampling.sample(50, rng(7), (8, 30), 4, OPS) for _ in range(2))
    before = one.adjacency.copy()
    assert one.adjacency.tobytes() == two.adjacency.tobytes()
    assert sampling.mutate(one, rng(8), 4).codes.tobytes() == sampling.mutate(two, rng(8), 4).codes.tobytes()
    assert one.adjacency.tobytes() == before.tobytes()
