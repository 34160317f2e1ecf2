"""How long models take, measured side by side."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemnet.machine import gpus, processor

WARM_UP = 5  # runs of each that are not counted
BUSY = 0.5  # processes waiting per processor, above which other work disturbs the figures
PEAK = """
import json, sys
import numpy, onnxruntime
def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))
before = status("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads, options.log_severity_level = 1, 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = session.get_inputs()[0]
images = numpy.zeros(json.loads(sys.argv[2]), "uint8" if "uint8" in feed.type else "float32")
for _ in range(3):
    session.run(None, {feed.name: images})
print(status("VmHWM") - before)
"""  # 5 sets the peak back to what is taken now: the libraries' own memory does not count


@dataclass(frozen=True)
class Latency:
    """Times of one model, in milliseconds a run.

    Args:
        p50_ms, p90_ms: median and 90 % quantile.
        iqr_ms: between the quartiles.
        ratio: median of the run-by-run ratio to the first model of the measurement.
        runs: that were counted.
    """

    p50_ms: float
    p90_ms: float
    iqr_ms: float
    ratio: float
    runs: int


def measure(
    models: Mapping[str, Callable[[], object]], runs: int = 50, limit_s: float = 60.0, warm: bool = False
) -> dict[str, Latency]:
    """Times of each model, taken in turn, so that a machine's changing speed meets all of them alike.

    Args:
        models: a function that runs once, by name.
        runs: of each; an odd round goes through the models in the opposite order.
        limit_s: no further round is begun after so many seconds, though five rounds are always made.
        warm: whether each run follows one of the same model that is not counted, so that it finds its weights in the
            processor's caches, as where a model runs alone.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    names, begin = list(models), time.perf_counter()
    for round_ in range(-WARM_UP, runs):
        if round_ >= 5 and time.perf_counter() - begin > limit_s:
            break
        for name in names if round_ % 2 else reversed(names):
            if warm:
                models[name]()
            start = time.perf_counter()
            models[name]()
            if round_ >= 0:
                times[name].append(1000 * (time.perf_counter() - start))
    first = np.asarray(times[names[0]])
    return {name: _summary(np.asarray(values), first) for name, values in times.items()}


def _summary(times: "np.ndarray[Any, Any]", first: "np.ndarray[Any, Any]") -> Latency:
    p25, p50, p75, p90 = (float(value) for value in np.percentile(times, (25, 50, 75, 90)))
    return Latency(p50, p90, p75 - p25, float(np.median(times / first)), len(times))


def machine() -> dict[str, Any]:
    """The processor and GPUs, and whether other work goes on that disturbs a measurement."""
    cpus = os.cpu_count() or 1
    waiting = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    load = {"load": round(waiting, 2), "busy": waiting > BUSY * cpus}
    return {"processor": processor(), "cpus": cpus, **load, **gpus()}


def peak_memory_mb(path: Path, shape: tuple[int, ...]) -> float | None:
    """Memory in 10^6 bytes that ONNX Runtime takes for a file and an input of that shape; None where unknown.

    Linux alone tells it.
    """
    command = [sys.executable, "-c", PEAK, str(path), json.dumps(shape)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    return int(done.stdout) * 1024 / 1e6
