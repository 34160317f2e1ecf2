"""Costs of a batch equal the exact cost of each of its cells."""

import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.cost import cost
from gemnet.errors import ConfigError
from gemnet.search.batch_cost import batch_cost
from gemnet.search.graphs import GraphBatch
from gemnet.search.spaces.cells import CellSpace

STAGES = (Stage(1, 16, 32, 1), Stage(2, 24, 64, 2))
EVERY_OP = CellSpace(3, 12, 4, ("sepconv3x3", "conv1x1", "sepconv5x5", "maxpool3x3", "identity"))


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


@pytest.mark.parametrize("space", [CellSpace(), EVERY_OP], ids=["default", "every op"])
@pytest.mark.parametrize("merge", ["sum", "concat"])
@pytest.mark.parametrize("image", [32, (33, 48)])
def test_a_batch_costs_what_its_cells_cost(space: CellSpace, merge: str, image: "int | tuple[int, int]") -> None:
    net = NetConfig(16, STAGES, 64, 2, merge)
    graphs = space.sample_batch(60, rng(0))
    together = batch_cost(graphs, net, image, 3, 10)
    for b, cell in enumerate(graphs.cells()):
        alone = cost(cell, net, image, 3, 10)
        got = [together.macs[b], together.params[b], together.acts[b], together.peak_acts[b]]
        assert got == [alone.macs, alone.params, alone.acts, alone.peak_acts]


def test_a_stage_as_wide_as_its_input_has_no_shortcut_convolution() -> None:
    net, cell = NetConfig(32, (Stage(1, 16, 32, 1),), 64, 1), Cell(("input", "conv1x1"), ((0, 1),))
    got = batch_cost(GraphBatch.from_cells([cell], ("input", "conv1x1")), net, 32)
    assert [got.macs[0], got.peak_acts[0]] == [cost(cell, net, 32).macs, cost(cell, net, 32).peak_acts]


def test_what_cannot_be_built_is_refused() -> None:
    graphs = CellSpace().sample_batch(2, rng(1))
    with pytest.raises(ConfigError, match="an image of 2 is too small"):
        batch_cost(graphs, NetConfig(16, STAGES, 64, 2), 2)
    with pytest.raises(ConfigError, match="a network that projects"):
        batch_cost(graphs, NetConfig(16, STAGES, 64, 2, project=False))
