import itertools
import json
import random

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import DiGraphMatcher, categorical_node_match

from gemnet.cell import Cell
from gemnet.errors import CellError

EIGHT_CYCLE = [(1 + i, 5 + j) for i in range(4) for j in (i, (i + 1) % 4)]
TWO_FOUR_CYCLES = [(1 + i, 5 + j) for i in range(4) for j in (2 * (i // 2), 2 * (i // 2) + 1)]


def to_networkx(cell: Cell) -> networkx.DiGraph:
    graph = networkx.DiGraph()
    for node, op in enumerate(cell.ops):
        graph.add_node(node, op="output" if cell.output and node == len(cell.ops) - 1 else op)
    graph.add_edges_from(cell.edges)
    return graph


def isomorphic(a: Cell, b: Cell) -> bool:
    return DiGraphMatcher(to_networkx(a), to_networkx(b), categorical_node_match("op", None)).is_isomorphic()


def every_cell(nodes: int):
    slots = list(itertools.combinations(range(nodes), 2))
    for ops in itertools.product("ab", repeat=nodes - 1):
        for chosen in itertools.product((False, True), repeat=len(slots)):
            yield Cell(("input", *ops), tuple(edge for edge, take in zip(slots, chosen) if take))


@pytest.mark.parametrize("nodes", [2, 3, 4, 5])
def test_key_is_equal_exactly_for_isomorphic_cells(nodes):
    classes: dict[str, Cell] = {}
    for cell in every_cell(nodes):
        first = classes.setdefault(cell.key, cell)
        assert isomorphic(first, cell)  # equal keys only for isomorphic cells
    coarse: dict[tuple, list[Cell]] = {}
    for cell in classes.values():
        degrees = sorted((op, len(p), len(s)) for op, p, s in zip(cell.ops, cell.predecessors, cell.successors))
        coarse.setdefault(tuple(degrees), []).append(cell)
    for alike in coarse.values():
        assert not any(isomorphic(a, b) for a, b in itertools.combinations(alike, 2))


@pytest.fixture
def keyed_in_10_ms(relabelled, within):
    """Whether a cell, its nodes in another order, gets its key within 10 ms."""

    def keyed(cell: Cell) -> bool:
        others = iter([relabelled(cell) for _ in range(10)])  # one for each try: a cell keeps its key
        return within(0.010, lambda: next(others).key)

    return keyed


def test_relabelled_30_node_cells_keep_their_key_in_under_10_ms(cell_of, relabelled, keyed_in_10_ms):
    for _ in range(1000):
        cell = cell_of(30)
        assert keyed_in_10_ms(cell), cell
        assert relabelled(cell).key == cell.key


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("29 siblings", Cell(("input",) + ("a",) * 29, tuple((0, j) for j in range(1, 30)))),
        ("8-cycle", Cell(("input",) + ("a",) * 8, (*((0, j) for j in range(1, 5)), *EIGHT_CYCLE))),
        ("two 4-cycles", Cell(("input",) + ("a",) * 8, (*((0, j) for j in range(1, 5)), *TWO_FOUR_CYCLES))),
    ],
)
def test_symmetric_cells_keep_their_key_in_under_10_ms(name, cell, relabelled, keyed_in_10_ms):
    assert keyed_in_10_ms(cell)
    assert relabelled(cell).key == cell.key


def test_cells_that_wl_cannot_tell_apart_get_two_keys():
    wide = tuple((0, j) for j in range(1, 5))
    one = Cell(("input",) + ("a",) * 8, (*wide, *EIGHT_CYCLE))
    two = Cell(("input",) + ("a",) * 8, (*wide, *TWO_FOUR_CYCLES))
    assert not isomorphic(one, two)
    assert one.key != two.key


@pytest.mark.parametrize("blocks", [7, 14, 31])
def test_a_cell_of_equal_chains_has_a_normal_form(blocks, relabelled):
    starts = tuple((0, j) for j in range(1, blocks + 1))
    ends = tuple((j, j + blocks) for j in range(1, blocks + 1))
    cell = Cell(("input",) + ("a",) * (2 * blocks), starts + ends)
    assert relabelled(cell).key == cell.key


def test_normal_form_is_isomorphic_topological_and_its_own(cell_of):
    for nodes in (2, 5, 12, 30):
        cell = cell_of(nodes)
        normal = cell.normal_form()
        assert isomorphic(cell, normal)
        assert normal.normal_form() == normal


def test_an_explicit_output_stays_last(relabelled):
    cell = Cell(("input", "a", "a", "b", "output"), ((0, 1), (0, 2), (1, 3), (2, 4), (3, 4)), output=True)
    assert cell.normal_form().ops[-1] == "output"
    assert relabelled(cell).key == cell.key != Cell(cell.ops, cell.edges).key
    assert cell.leaves == (4,)


def test_pruning_drops_what_the_input_does_not_reach():
    cell = Cell(("input", "a", "b", "c"), ((0, 2), (1, 3)))
    assert cell.prune() == Cell(("input", "b"), ((0, 1),))


def test_pruning_drops_a_dangling_node_when_there_is_an_output():
    cell = Cell(("input", "a", "b", "output"), ((0, 1), (0, 2), (1, 3)), output=True)
    assert cell.prune() == Cell(("input", "a", "output"), ((0, 1), (1, 2)), output=True)


def test_pruning_keeps_an_output_that_nothing_reaches():
    cell = Cell(("input", "a", "output"), ((0, 1),), output=True)
    assert cell.prune() == Cell(("input", "output"), (), output=True)


def test_edges_are_kept_sorted_by_reader_so_equal_cells_are_equal():
    assert Cell(("input", "a", "a"), ((1, 2), (0, 1))) == Cell(("input", "a", "a"), ((0, 1), (1, 2)))


@given(st.integers(2, 20), st.randoms(use_true_random=False))
def test_to_dict_and_from_dict_are_inverse(nodes, rng: random.Random):
    edges = [(i, j) for j in range(1, nodes) for i in range(j) if rng.random() < 0.3]
    cell = Cell(("input", *(rng.choice("ab") for _ in range(nodes - 1))), tuple(edges))
    assert Cell.from_dict(json.loads(json.dumps(cell.to_dict()))) == cell


def valid(**changes):
    return {"schema": "gemnet.cell/1", "ops": ["input", "a", "b"], "edges": [[0, 1], [1, 2]], **changes}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (valid(edges=[[0, 1], [1, 2], [2, 1]]), "cycle 1 -> 2 -> 1"),
        (valid(edges=[[0, 2], [2, 1]]), "runs backwards"),
        (valid(edges=[[1, 1]]), "cycle 1 -> 1"),
        (valid(edges=[[0, 7]]), "missing node; nodes are 0 to 2"),
        (valid(edges=[[-1, 1]]), "missing node"),
        (valid(edges=[[0, 1], [0, 1]]), "listed twice"),
        (valid(edges=[[0, True]]), "pairs of whole numbers"),
        (valid(edges=[[0, 1.0]]), "pairs of whole numbers"),
        (valid(edges=[[0, 1]] * 10**6), "has no 1000000 edges"),
        (valid(edges="no"), "pairs of whole numbers"),
        (valid(edges=None), "pairs of whole numbers"),
        (valid(ops=["input"] + ["a"] * 199), "2 to 64 nodes, got 200"),
        (valid(ops=["input"] + ["a"] * 10**6), "2 to 64 nodes"),
        (valid(ops=["input"]), "2 to 64 nodes, got 1"),
        (valid(ops=["a", "input", "b"]), "node 0"),
        (valid(ops=["input", "input", "b"]), "node 0"),
        (valid(ops="input"), "list of names"),
        (valid(ops=["input", 3, "b"]), "strings"),
        (valid(schema="gemnet.cell/2"), "gemnet.cell/2"),
        (valid(colour="red"), "'colour'"),
        (valid(output="yes"), "true or false"),
        (valid(output=True, edges=[[0, 1], [0, 2]], ops=["input", "a", "output"]), None),
        ([1, 2], "JSON object"),
    ],
)
def test_malformed_cells_are_refused_with_the_reason(data, words):
    if words is None:
        Cell.from_dict(data)
        return
    with pytest.raises(CellError, match=words):
        Cell.from_dict(data)


def test_an_output_node_with_a_successor_is_refused():
    assert Cell(("input", "output"), ((0, 1),), output=True).leaves == (1,)
    with pytest.raises(CellError, match="missing node"):
        Cell(("input", "output"), ((0, 2),), output=True)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000])
def test_a_file_that_is_no_json_is_named(tmp_path, content):
    file = tmp_path / "cell.json"
    file.write_bytes(content)
    with pytest.raises(CellError, match=r"cell\.json is no JSON file"):
        Cell.load(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CellError, match=r"cannot read cell file .*nothing\.json"):
        Cell.load(tmp_path / "nothing.json")
