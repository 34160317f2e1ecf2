"""Where an ONNX file spends its time, by the parts of the network."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import onnxruntime

from .layers import part_of

RUNS = 20
ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Profile:
    """Milliseconds of each part in one run, by name, and the share of time whose part is known."""

    parts: dict[str, float]
    known: float


def profile(path: Path, images: "np.ndarray[Any, Any]", runs: int = RUNS) -> Profile:
    """The time of each part of a file on one thread: the medians over runs of its kernels, summed.

    ONNX Runtime fuses and renames nodes; what it makes is named after the node or the tensor it replaces, which
    leads back to the part.
    """
    proto = onnx.load(path, load_external_data=False)
    owners = {node.name: node.name for node in proto.graph.node}
    owners |= {name: node.name for node in proto.graph.node for name in node.output}
    kernels: dict[str, list[float]] = {}
    for event in _events(path, images, runs):
        kernels.setdefault(event["name"], []).append(event["dur"] / 1000)
    totals: dict[str, float] = {}
    for name, times in kernels.items():
        owner = _owner(name.removesuffix("_kernel_time"), owners)
        part = part_of(owner) if owner else ELSEWHERE
        totals[part] = totals.get(part, 0.0) + median(times)
    whole = sum(totals.values())
    return Profile(totals, 1 - totals.get(ELSEWHERE, 0.0) / whole if whole else 0.0)


def _events(path: Path, images: "np.ndarray[Any, Any]", runs: int) -> list[dict[str, Any]]:
    """The kernel times of the runs after the first."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = 1, 1, 3
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: images}
        for _ in range(runs + 1):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    starts = sorted(event["ts"] for event in events if event["name"] == "model_run")
    return [event for event in events if event["name"].endswith("_kernel_time") and event["ts"] >= starts[1]]


def _owner(name: str, owners: dict[str, str]) -> str | None:
    """The node that a kernel's name leads to: the name itself, or a beginning of it."""
    while name:
        if name in owners:
            return owners[name]
        name = name[: max(name.rfind("_"), 0)]
    return None
