"""Traits against the paths of each graph listed one by one, and contraction against its definition."""

import networkx as nx
import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.search.graphs import GraphBatch
from gemnet.search.ordering import contract
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.traits import op_sets, traits

SPACE = CellSpace(min_nodes=3, max_nodes=8, max_in_degree=3, ops=("conv1x1", "identity", "maxpool3x3"))


def graphs(seed: int = 0) -> GraphBatch:
    return SPACE.sample_batch(30, np.random.Generator(np.random.Philox(key=seed)))


def test_sets_leave_out_identities_and_name_no_set_twice() -> None:
    assert op_sets(graphs()) == [(1,), (3,), (1, 3)]


def test_traits_are_those_of_the_listed_paths() -> None:
    batch = graphs()
    for cell, row in zip(batch.cells(), traits(batch)):
        graph = nx.DiGraph(cell.edges)
        leaves = [v for v in graph if graph.out_degree(v) == 0]
        paths = [path for leaf in leaves for path in nx.all_simple_paths(graph, 0, leaf)]
        expected = [cell.ops.count(op) for op in SPACE.ops]
        for ops in (("conv1x1",), ("maxpool3x3",), ("conv1x1", "maxpool3x3")):
            depth = [sum(cell.ops[v] in ops for v in path) for path in paths]
            walk = [np.prod([1 / graph.in_degree(v) for v in path[1:]]) / len(leaves) for path in paths]
            expected += [max(depth), min(depth), np.mean(depth), np.dot(walk, depth)]
        assert row == pytest.approx([*expected, np.log1p(len(paths))])


def test_a_graph_without_a_path_has_traits() -> None:
    dead = GraphBatch.from_cells([Cell(("input", "output"), (), True)], ("input", "conv1x1", "output"), 4)
    assert traits(dead).tolist() == [[0.0] * 6]


def test_contracting_joins_what_an_identity_parts() -> None:
    ops = ("input", "conv1x1", "identity", "identity", "conv1x1", "output")
    cell = Cell(ops, ((0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (3, 5), (4, 5)), True)
    batch = GraphBatch.from_cells([cell], ("input", "conv1x1", "identity", "output"), 7)
    joined = Cell(("input", "conv1x1", "conv1x1", "output"), ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)), True)
    assert contract(batch, {"identity"}).cells() == [joined]
    assert contract(batch, {"maxpool3x3"}).cells() == [cell]
