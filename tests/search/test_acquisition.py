"""Expected improvement: against its integral, far into the tail, and on warped scores."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from gemnet.search.acquisition import LogImprovement, log_gain
from gemnet.search.graphs import GraphBatch
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.warp import Warp

SCORES = np.array([0.1, 0.5, 0.7, 0.72, 0.9, 0.91, 0.93, 0.94])


@pytest.mark.parametrize("z", [3.0, 0.5, -0.5, -0.999, -1.001, -2.0, -6.0, -12.0])
def test_it_is_the_expected_excess_of_a_normal_variable(z: float) -> None:
    expected = quad(lambda t: (t + z) * norm.pdf(t), -z, -z + 20, epsabs=0, epsrel=1e-10)[0]
    assert log_gain(np.array([z]))[0] == pytest.approx(np.log(expected), rel=1e-7)


def test_it_rises_everywhere_and_never_underflows() -> None:
    z = np.concatenate([-np.logspace(8, -3, 500), np.linspace(0, 50, 100)])
    gain = log_gain(z)
    assert np.isfinite(gain).all() and (np.diff(gain) > 0).all()


@pytest.mark.parametrize("kind", ["gap", "raw"])
def test_what_was_restored_is_found_again(kind: str) -> None:
    warp = Warp.of(SCORES, kind)
    mean, std = np.linspace(-1, 4, 7), np.linspace(0.1, 0.5, 7)
    for given, found in zip((mean, std), warp.unrestored(*warp.restored(mean, std))):
        assert found == pytest.approx(given)
    assert warp.unrestored(SCORES, SCORES)[0] == pytest.approx(warp.learned(SCORES))


@pytest.mark.parametrize("kind", ["gap", "raw"])
def test_doubt_is_worth_something_and_equal_doubt_leaves_the_order(kind: str) -> None:
    graphs = CellSpace(max_nodes=8).sample_batch(3, np.random.default_rng(0))
    warp = Warp.of(SCORES, kind)

    def improvement(mean: list[float], std: list[float]) -> np.ndarray:
        def predict(_: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
            return warp.restored(np.array(mean), np.array(std))

        value, spread = LogImprovement(predict, warp, SCORES.max())(graphs)
        assert spread == pytest.approx(predict(graphs)[1])
        return value

    assert np.argsort(improvement([0.1, 0.3, 0.2], [0.1, 0.1, 0.1])).tolist() == [0, 2, 1]
    assert improvement([0.3, 0.3, 0.3], [0.1, 0.0, 0.5]).argmax() == 2
