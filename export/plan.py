"""Which rewrites of `gemnet.fuse` pay for a model, measured on ONNX Runtime."""

import tempfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gemnet.fuse import Plan, fuse
from gemnet.network import GemNet

from .form import Form
from .latency import measure
from .onnx import save, trace
from .verify import session

NOTHING = Plan(**{field.name: False for field in fields(Plan)})
WORTH = 0.99  # a rewrite stays when it takes at most this share of the time without it


def choose_plan(
    model: GemNet, image: tuple[int, int, int], runs: int = 40, threads: int = 1
) -> tuple[Plan, list[dict[str, Any]]]:
    """The plan that is fastest for one image at a time, and what was measured.

    The rewrites are tried one after the other, each on top of those that paid; one that changes nothing is not
    taken. Measured times differ from run to run, so store the plan (`Plan.to_dict`) where exports must be equal.

    Args:
        model: to be fused.
        image: C, H and W of an image.
        runs: of each candidate; they take turns.
        threads: of the runtime.
    """
    best, rows = NOTHING, []
    for field in fields(Plan):
        candidate = replace(best, **{field.name: True})
        modules = {"without": fuse(model, best), "with": fuse(model, candidate)}
        if modules["without"].code == modules["with"].code:
            rows.append({"rewrite": field.name, "changes": False, "ratio": 1.0, "taken": False})
            continue
        times = measure({name: runner(module, image, threads) for name, module in modules.items()}, runs, warm=True)
        taken = times["with"].ratio <= WORTH
        rows.append({"rewrite": field.name, "changes": True, "ratio": round(times["with"].ratio, 3), "taken": taken})
        best = candidate if taken else best
    return best, rows


def runner(module: nn.Module, image: tuple[int, int, int], threads: int = 1, batch: int = 1) -> Callable[[], object]:
    """A function that runs a module once on ONNX Runtime."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save(trace(module, Form(image)), path)
        runtime = session(path, threads)
    feed = {runtime.get_inputs()[0].name: np.zeros((batch, *image), np.float32)}
    return lambda: runtime.run(None, feed)
