"""The space of cells: what it draws is inside it, and its views are inverses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemnet.cell import Cell
from gemnet.errors import CellError, ConfigError, UnknownNameError
from gemnet.search.spaces.cells import CellSpace

SMALL = CellSpace(min_nodes=3, max_nodes=6, max_in_degree=2)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


@given(st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_sampled_mutated_and_decoded_cells_are_inside(seed: int) -> None:
    space = CellSpace()
    cell = space.sample(1, rng(seed))[0]
    assert space.contains(cell)
    assert space.contains(space.mutate(cell, rng(seed + 1)))
    assert space.decode(space.encode(cell)) == cell


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_choice_of_fields_decodes_into_the_space(data: st.DataObject) -> None:
    code = [data.draw(st.integers(0, len(field.choices) - 1)) for field in SMALL.fields]
    assert SMALL.contains(SMALL.decode(code))


def test_neighbours_are_the_cells_one_edit_away() -> None:
    cell = Cell(("input", "conv1x1", "conv1x1"), ((0, 1), (1, 2)))
    found = {neighbour.key for neighbour in SMALL.neighbours(cell)}
    conv, sep = "conv1x1", "sepconv3x3"
    expected = [
        Cell(("input", sep, conv), ((0, 1), (1, 2))),
        Cell(("input", conv, sep), ((0, 1), (1, 2))),
        Cell(("input", conv, conv), ((0, 1), (1, 2), (0, 2))),
        Cell(("input", conv, conv), ((0, 1), (0, 2))),
    ]
    assert found == {cell.key for cell in expected}


def test_neighbours_of_a_wide_cell_are_inside_and_differ() -> None:
    space = CellSpace()
    cell = space.sample(1, rng(3))[0]
    found = space.neighbours(cell)
    assert all(map(space.contains, found))
    one_edit = CellSpace(max_edits=1)
    keys = {neighbour.key for neighbour in found}
    assert all(space.mutate(cell, rng(k)).key for k in range(3))
    assert all(one_edit.mutate(cell, rng(k)).key in keys | {cell.key} for k in range(30))


@pytest.mark.parametrize(
    "cell",
    [
        Cell(("input", "conv1x1"), ((0, 1),)),
        Cell(("input", "conv1x1", "maxpool3x3"), ((0, 1), (1, 2))),
        Cell(("input", "conv1x1", "conv1x1"), ((0, 1),)),
        Cell(("input", "conv1x1", "conv1x1", "conv1x1"), ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3))),
        Cell(("input", "conv1x1", "conv1x1"), ((0, 1), (1, 2)), output=True),
    ],
    ids=["too small", "foreign op", "no predecessor", "in-degree", "output"],
)
def test_cells_outside_are_known(cell: Cell) -> None:
    assert not SMALL.contains(cell)
    with pytest.raises(CellError, match="not in this space"):
        SMALL.encode(cell)


def test_settings_round_trip_and_decide_the_fingerprint() -> None:
    assert CellSpace.from_dict(SMALL.to_dict()) == SMALL
    assert SMALL.fingerprint != CellSpace().fingerprint
    assert CellSpace.from_dict({}) == CellSpace()
    with pytest.raises(UnknownNameError, match="max_nodes"):
        CellSpace.from_dict({"max_node": 3})


@pytest.mark.parametrize(
    ("wrong", "names"),
    [({"min_nodes": 9, "max_nodes": 8}, "min_nodes"), ({"max_nodes": 65}, "64"),
     ({"max_in_degree": 0}, "max_in_degree"), ({"ops": ()}, "ops"),
     ({"ops": ("input",)}, "input"), ({"max_edits": 0}, "max_edits")],
)  # fmt: skip
def test_impossible_spaces_are_refused(wrong: dict[str, object], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        CellSpace(**wrong)  # type: ignore[arg-type]


def test_decode_refuses_wrong_vectors() -> None:
    code = list(SMALL.encode(SMALL.sample(1, rng())[0]))
    with pytest.raises(ConfigError, match="fields, got"):
        SMALL.decode(code[:-1])
    with pytest.raises(ConfigError, match="nodes"):
        SMALL.decode([99, *code[1:]])


def test_a_sample_is_a_batch_of_the_same_cells() -> None:
    cells = SMALL.sample(20, rng(4))
    assert cells == SMALL.sample_batch(20, rng(4)).cells()
    assert SMALL.batch(cells).width == 6
    assert SMALL.arch(cells[0].to_dict()) == cells[0]
