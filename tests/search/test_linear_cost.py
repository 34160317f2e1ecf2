"""The linear law of costs equals the exact count, cell by cell."""

import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.cost import cost
from gemnet.search.linear_cost import find_law, probes_needed
from gemnet.search.spaces.cells import CellSpace

SPACE, POOLS = CellSpace(), CellSpace(ops=("sepconv3x3", "conv1x1", "maxpool3x3"))
STAGES = (Stage(1, 16, 32, 1), Stage(2, 32, 64, 2))


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


@pytest.mark.parametrize(("merge", "space"), [("sum", SPACE), ("sum", POOLS), ("concat", SPACE)])
def test_macs_params_and_acts_are_exact_for_a_fixed_network(merge: str, space: CellSpace) -> None:
    net = NetConfig(16, STAGES, 64, 1, merge)

    def count(cell: Cell) -> tuple[int, int, int]:
        price = cost(cell, net, 32, 3, 10)
        return price.macs, price.params, price.acts

    law = find_law(count, space.sample_batch(probes_needed(len(space.vocabulary)), rng(0)))
    assert law is not None
    unseen = space.sample_batch(60, rng(1))
    assert law(unseen).tolist() == [list(count(cell)) for cell in unseen.cells()]


def test_a_pool_behind_concat_follows_no_law() -> None:
    """It needs a convolution only where the widths differ."""
    net = NetConfig(16, STAGES, 64, 1, "concat")
    probes = POOLS.sample_batch(probes_needed(len(POOLS.vocabulary)), rng(0))
    assert find_law(lambda cell: [cost(cell, net, 32, 3, 10).macs], probes) is None


def test_peak_activations_follow_no_law() -> None:
    net = NetConfig(16, STAGES, 64, 1)
    probes = SPACE.sample_batch(probes_needed(len(SPACE.vocabulary)), rng(0))
    assert find_law(lambda cell: [cost(cell, net, 32, 3, 10).peak_acts], probes) is None
