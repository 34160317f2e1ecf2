"""The evidence of a Gaussian process: its value by scipy's normal distribution, its slope by differences."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from gemnet.search.evidence import HOPELESS, JITTER, loss_and_slope, matern

rng = np.random.default_rng(0)
POINTS, UNIT = rng.normal(size=(12, 3)), rng.normal(size=(12, 5))
FAR = ((POINTS[:, None] - POINTS) ** 2).sum(2)
SIMILAR = UNIT @ UNIT.T / np.linalg.norm(UNIT, axis=1) / np.linalg.norm(UNIT, axis=1)[:, None]
SCORES = rng.normal(size=12)
PARTS = ([SIMILAR, SIMILAR**2], [FAR, FAR**1.5 / 4])
BOTH = np.array([-0.3, 0.4, -1.0, 0.1, 0.2, -0.5, -2.0])


def test_the_loss_is_that_of_the_normal_distribution() -> None:
    amplitude, length = np.exp(BOTH[:4]), np.exp(BOTH[4:6])
    parts = [*PARTS[0], *(matern(far / side**2)[0] for far, side in zip(PARTS[1], length))]
    kernel = sum(a * part for a, part in zip(amplitude, parts)) + (np.exp(BOTH[6]) + JITTER) * np.eye(12)
    expected = -multivariate_normal(np.zeros(12), kernel).logpdf(SCORES) - 6 * np.log(2 * np.pi)
    assert loss_and_slope(BOTH, *PARTS, SCORES)[0] == pytest.approx(expected)


@pytest.mark.parametrize(("theta", "parts"), [
    (BOTH, PARTS), (BOTH[[0, 1, 6]], (PARTS[0], [])), (BOTH[[2, 4, 6]], ([], PARTS[1][:1])),
])  # fmt: skip
def test_the_slope_is_the_derivative(theta: np.ndarray, parts: tuple[list[np.ndarray], list[np.ndarray]]) -> None:
    slope = loss_and_slope(theta, *parts, SCORES)[1]
    expected = approx_fprime(theta, lambda values: loss_and_slope(values, *parts, SCORES)[0], 1e-6)
    assert slope == pytest.approx(expected, abs=1e-4)


def test_matern_falls_from_one_and_knows_its_slope() -> None:
    r = np.linspace(0, 3, 20)
    value, slope = matern(r**2)
    assert value[0] == 1 and (np.diff(value) < 0).all()
    step = 1e-6
    longer, shorter = (matern((r / np.exp(sign * step)) ** 2)[0] for sign in (1, -1))
    assert slope == pytest.approx((longer - shorter) / (2 * step), abs=1e-6)


def test_what_cannot_be_factored_is_hopeless_not_an_error() -> None:
    value, slope = loss_and_slope(np.array([3.0, -20.0]), [-np.eye(12)], [], SCORES)
    assert value == HOPELESS and not slope.any()
