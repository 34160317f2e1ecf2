"""Fixtures shared by all tests. Random cells are drawn here by hand, so that no code under test draws them."""

import random
from collections.abc import Callable

import pytest

from gemnet.cell import Cell

ALL_OPS = ("sepconv3x3", "conv1x1", "sepconv5x5", "maxpool3x3", "identity")


def draw_cell(rng: random.Random, nodes: int, ops: tuple[str, ...] = ALL_OPS, max_in_degree: int = 4) -> Cell:
    edges = [(i, j) for j in range(1, nodes) for i in rng.sample(range(j), min(j, rng.randint(1, max_in_degree)))]
    return Cell(("input", *(rng.choice(ops) for _ in range(nodes - 1))), tuple(edges))


def relabel(cell: Cell, rng: random.Random) -> Cell:
    """The same cell with its nodes in another random topological order."""
    waiting = [len(preds) for preds in cell.predecessors]
    ready = [0]
    ready += [v for v, count in enumerate(waiting) if count == 0 and v > 0]
    order = [ready.pop(0)]
    ready += [s for s in cell.successors[0] if not _waits(waiting, s)]
    while ready:
        order.append(ready.pop(rng.randrange(len(ready))))
        ready += [s for s in cell.successors[order[-1]] if not _waits(waiting, s)]
    place = {v: k for k, v in enumerate(order)}
    return Cell(tuple(cell.ops[v] for v in order), tuple((place[i], place[j]) for i, j in cell.edges), cell.output)


def _waits(waiting: list[int], node: int) -> bool:
    waiting[node] -= 1
    return waiting[node] > 0


@pytest.fixture
def rng() -> random.Random:
    return random.Random(0)


@pytest.fixture
def cell_of(rng: random.Random) -> Callable[..., Cell]:
    """Draws a random cell of a number of nodes."""
    return lambda nodes, **kwargs: draw_cell(rng, nodes, **kwargs)


@pytest.fixture
def relabelled(rng: random.Random) -> Callable[[Cell], Cell]:
    return lambda cell: relabel(cell, rng)


@pytest.fixture
def shrinkcnn() -> Cell:
    """ShrinkCNN's cell: a reference, found by another method."""
    ops = ("input", "sepconv3x3", "sepconv3x3", "sepconv3x3", "conv1x1")
    return Cell(ops, ((0, 1), (0, 2), (0, 3), (1, 3), (0, 4), (2, 4)))


@pytest.fixture
def chain() -> Cell:
    """Two separable convolutions in a row, as in MobileNet: a reference."""
    return Cell(("input", "sepconv3x3", "sepconv3x3"), ((0, 1), (1, 2)))
