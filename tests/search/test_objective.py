import numpy as np
import pytest

from gemnet.errors import ConfigError, EvaluationError
from gemnet.search.objective import Objective


def test_the_score_is_accuracy_less_a_price_for_each_factor_of_ten():
    assert Objective().score({"val_acc": 0.7, "macs": 1e6}) == pytest.approx(0.7)
    assert Objective().score({"val_acc": 0.7, "macs": 1e8}) == pytest.approx(0.5)
    assert Objective(lam=0.2).score({"val_acc": 0.7, "macs": 1e5}) == pytest.approx(0.9)
    assert Objective(lam=0).score({"val_acc": 0.7}) == 0.7


@pytest.mark.parametrize("metrics", [{"macs": 1.0}, {"val_acc": 0.5}, {"val_acc": 0.5, "macs": 0.0}])
def test_a_missing_metric_is_named(metrics):
    with pytest.raises(EvaluationError, match=r"the objective needs (val_acc|macs), got"):
        Objective().score(metrics)


def test_limits_hold_for_numbers_and_arrays_alike():
    objective = Objective(max_macs=10, max_acts=5)
    macs, params, acts = np.array([10, 11, 1, 1]), np.array([99, 1, 1, 1]), np.array([5, 1, 6, 1])
    expected = [True, False, False, True]
    assert objective.allows(macs, params, acts).tolist() == expected
    assert [objective.allows(*row) for row in zip(macs.tolist(), params.tolist(), acts.tolist())] == expected
    assert Objective().allows(macs, params, acts).tolist() == [True] * 4
    assert Objective(max_params=50).allows(macs, params, acts).tolist() == [False, True, True, True]


def test_a_measurement_without_a_limited_metric_is_accepted():
    assert Objective(max_acts=5).accepts({"val_acc": 0.5, "macs": 3})
    assert not Objective(max_acts=5).accepts({"val_acc": 0.5, "macs": 3, "peak_acts": 6})


@pytest.mark.parametrize("bad", [{"lam": -1.0}, {"lam": float("nan")}, {"max_macs": 0}, {"max_params": -3}])
def test_bad_settings_are_named(bad):
    with pytest.raises(ConfigError, match=f"objective.{next(iter(bad))}: expected"):
        Objective(**bad)
