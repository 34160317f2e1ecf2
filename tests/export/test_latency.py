import time

import numpy as np
import onnx
import pytest

from gemnet.export.latency import machine, measure, peak_memory_mb
from gemnet.export.profiling import profile


def test_runs_are_taken_in_turn_and_ratios_are_to_the_first():
    order = []

    def model(name, seconds):
        def run():
            order.append(name)
            time.sleep(seconds)

        return run

    found = measure({"a": model("a", 0.002), "b": model("b", 0.006)}, runs=10)
    assert sorted(order[:2]) == sorted(order[2:4]) == ["a", "b"]
    assert order[:2] == order[2:4][::-1]
    assert order.count("a") == order.count("b") == 15  # with the warm-up
    assert found["a"].ratio == 1
    assert 1.5 < found["b"].ratio < 4
    assert found["b"].p50_ms >= 6
    assert found["b"].p90_ms >= found["b"].p50_ms > found["a"].p50_ms
    assert found["a"].runs == 10


def test_a_limit_of_time_ends_the_measurement_after_five_rounds():
    found = measure({"slow": lambda: time.sleep(0.02)}, runs=1000, limit_s=0.01)
    assert found["slow"].runs == 5


def test_a_warm_run_follows_one_of_the_same_model():
    order = []
    found = measure({name: lambda name=name: order.append(name) for name in "ab"}, runs=4, warm=True)
    assert found["a"].runs == 4
    assert order[::2] == order[1::2] and order.count("a") == order.count("b") == 18


def test_the_machine_is_named():
    found = machine()
    assert found["processor"] and found["cpus"] >= 1
    assert isinstance(found["busy"], bool)


def test_peak_memory_grows_with_the_batch(bundle):
    path = bundle.folder / "model.onnx"
    small, large = (peak_memory_mb(path, (batch, 1, 28, 28)) for batch in (1, 256))
    if small is None or large is None:
        pytest.skip("this system does not tell a process's memory")
    images_mb = 256 * 28 * 28 * 4 / 1e6
    assert large - small > 4 * images_mb


def test_a_profile_shares_out_the_time_of_a_run(bundle):
    found = profile(bundle.folder / "model.onnx", np.zeros((1, 1, 28, 28), np.float32), runs=5)
    assert all(ms > 0 for ms in found.parts.values())
    layers = {node.name.partition("/")[0] for node in onnx.load(bundle.folder / "model.onnx").graph.node}
    assert all(any(layer.startswith(name) for layer in layers) for name in found.parts if name != "elsewhere")
