"""NAS-Bench-201's space against the published counts and a graph built by hand."""

import csv
import gzip
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.errors import CellError, ConfigError
from gemnet.search import wl
from gemnet.search.spaces.nasbench201 import EDGES, OPS, NASBench201, Topology
from gemnet.search.structures import connected

SPACE = NASBench201()
SHARED = Path(__file__).parents[3] / "shared" / "data" / "nas-bench-201" / "cifar10.csv.gz"
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=0))


def graph_by_hand(arch: Topology) -> Cell:
    """Every edge's op as a node, `none` left out, edges between ops that meet in a node of the benchmark's cell."""
    kept = [k for k, op in enumerate(arch.ops) if op != "none"]
    place = {k: n + 1 for n, k in enumerate(kept)}
    last = len(kept) + 1
    edges = [(0, place[k]) for k in kept if EDGES[k][0] == 0]
    edges += [(place[a], place[b]) for a, b in product(kept, kept) if EDGES[a][1] == EDGES[b][0]]
    edges += [(place[k], last) for k in kept if EDGES[k][1] == 3]
    return Cell(("input", *(arch.ops[k] for k in kept), "output"), tuple(edges), output=True).prune()


def test_the_space_has_the_published_sizes() -> None:
    archs = SPACE.all()
    assert len({arch.key for arch in archs}) == 15_625
    assert len({arch.isomorphism_string() for arch in archs}) == 6_466
    assert len({SPACE.structure(arch) for arch in archs}) == 5_615


def test_an_arch_string_becomes_a_graph_of_its_ops() -> None:
    ops = ("input", *["nor_conv_3x3"] * 3, "skip_connect", "nor_conv_3x3", "nor_conv_1x1", "output")
    edges = ((0, 1), (0, 2), (1, 3), (0, 4), (1, 5), (2, 6), (3, 6), (4, 7), (5, 7), (6, 7))
    assert Topology.parse(BEST).cell.key == Cell(ops, edges, output=True).key


def test_graphs_are_those_built_one_by_one(rng: np.random.Generator) -> None:
    archs = SPACE.sample(150, rng)
    assert [cell.key for cell in SPACE.batch(archs).cells()] == [graph_by_hand(arch).key for arch in archs]


def test_dead_branches_are_pruned_from_both_ends() -> None:
    arch = Topology(("none", "nor_conv_1x1", "nor_conv_3x3", "none", "avg_pool_3x3", "nor_conv_1x1"))
    assert arch.cell == Cell(("input", "nor_conv_1x1", "nor_conv_1x1", "output"), ((0, 1), (1, 2), (2, 3)), True)
    nothing = Topology(("nor_conv_3x3", "none", "none", "none", "none", "nor_conv_3x3"))
    assert nothing.cell == Cell(("input", "output"), (), True)


def test_a_graph_leads_back_to_all_its_strings(rng: np.random.Generator) -> None:
    for arch in SPACE.sample(5, rng):
        found = SPACE.listings(arch.cell)
        assert arch in found
        assert {graph_by_hand(other).key for other in found} == {arch.cell.key}
        assert SPACE.arch(arch.cell.to_dict()) == found[0]
    with pytest.raises(CellError, match="no NAS-Bench-201 cell has this graph"):
        SPACE.listings(Cell(("input", "nor_conv_3x3"), ((0, 1),)))


def test_neighbours_differ_in_one_edge(rng: np.random.Generator) -> None:
    arch = SPACE.sample(1, rng)[0]
    found = SPACE.neighbours(arch)
    assert len({near.key for near in found}) == 24
    for near in [*found, SPACE.mutate(arch, rng)]:
        assert sum(a != b for a, b in zip(arch.ops, near.ops)) == 1


def test_mutated_graphs_are_the_spaces(rng: np.random.Generator) -> None:
    graphs = SPACE.sample_batch(300, rng)
    mutated = SPACE.mutate_batch(graphs, rng)
    known = wl.graph_hash(SPACE.batch(SPACE.all()))
    assert np.isin(wl.graph_hash(mutated), known).all()
    assert (wl.graph_hash(mutated) != wl.graph_hash(graphs)).mean() > 0.8


def test_texts_and_fields_lead_back(rng: np.random.Generator) -> None:
    for arch in SPACE.sample(20, rng):
        assert Topology.parse(arch.key) == SPACE.decode(SPACE.encode(arch)) == SPACE.arch(arch.to_dict()) == arch
        assert SPACE.contains(arch)
    assert [len(field.choices) for field in SPACE.fields] == [5] * 6


@pytest.mark.parametrize("text", ["", BEST[1:], BEST.replace("~1", "~0"), BEST.replace("skip", "hop")])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(CellError):
        Topology.parse(text)


def test_vectors_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match="6 fields of 5 choices"):
        SPACE.decode([0] * 5)
    with pytest.raises(ConfigError, match="6 fields of 5 choices"):
        SPACE.decode([0, 0, 0, 0, 0, 5])


def test_rows_connect_by_way_of_others() -> None:
    assert connected(np.array([7, 7, 3, 4, 3]), np.array(["a", "b", "c", "b", "d"])).tolist() == [0, 0, 1, 0, 1]


@pytest.mark.skipif(not SHARED.exists(), reason="the CSV of NAS-Bench-201 is not here")
def test_structures_equal_those_of_the_published_ids() -> None:
    with gzip.open(SHARED, "rt") as file:
        rows = list(csv.DictReader(file))
    archs = [Topology.parse(row["arch_str"]) for row in rows]
    ids = np.array([int(row["iso_id"]) for row in rows])
    published = connected(ids, wl.graph_hash(SPACE.batch(archs)))
    assert int(published.max()) + 1 == 5_615
    assert (published == connected(np.array([SPACE.structure(arch) for arch in archs]))).all()
    assert (connected(ids) == connected(np.array([arch.isomorphism_string() for arch in archs]))).all()
    assert set(OPS) == {op for arch in archs for op in arch.ops}
