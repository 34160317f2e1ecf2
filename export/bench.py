"""The command `gemnet bench`: models by name, from timm or as ONNX files, timed in one run."""

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemnet.errors import ConfigError, UnknownNameError
from gemnet.fold import fold_batch_norm

from .form import Form
from .latency import machine, measure, peak_memory_mb
from .onnx import save, trace
from .profiling import profile
from .source import load_source
from .verify import session

TIMM = "timm:"


def bench_models(
    models: Sequence[str], backends: Sequence[str], batch: int, threads: int, runs: int, limit_s: float, layers: bool
) -> dict[str, Any]:
    """Latencies of models, as a JSON object.

    Args:
        models: names, `timm:` names, ONNX files, exported folders.
        backends: of `onnxruntime`, `torch`.
        batch: images in a run.
        threads: of a run.
        runs: of each model.
        limit_s: for all runs.
        layers: whether to say where each ONNX file spends its time.

    Raises:
        GemnetError: no such model, or one that a backend cannot run.
    """
    torch.set_num_threads(threads)
    before = machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        entries = [
            entry for k, model in enumerate(models)
            for entry in _entries(model, tuple(backends), batch, threads, folder / str(k))
        ]  # fmt: skip
        if not entries:
            raise ConfigError("nothing to time: the backend torch takes names, not files")
        times = measure({f"{k}": call for k, (_, _, _, call) in enumerate(entries)}, runs, limit_s)
        rows = [_row(*entries[int(k)][:3], vars(found), batch, layers) for k, found in times.items()]
    return {"batch": batch, "threads": threads, "machine": before, "rows": rows}


def to_plot(result: dict[str, Any]) -> str:
    """A page with a bar for each row, from the median to the 90 % quantile."""
    import plotly.graph_objects as go

    rows = result["rows"]
    figure = go.Figure(go.Bar(
        x=[row["p50_ms"] for row in rows], y=[f"{row['model']} ({row['backend']})" for row in rows], orientation="h",
        error_x={"array": [row["p90_ms"] - row["p50_ms"] for row in rows], "arrayminus": [0] * len(rows)},
    ))  # fmt: skip
    title = f"median ms a run (whisker: p90), batch {result['batch']}, threads {result['threads']}"
    figure.update_layout(xaxis_title=title, yaxis_autorange="reversed", template="plotly_white")
    page: str = figure.to_html(include_plotlyjs=True)
    return page


Entry = tuple[str, str, Path | None, Callable[[], object]]


def _entries(name: str, backends: tuple[str, ...], batch: int, threads: int, draft: Path) -> list[Entry]:
    """What to time of a model: name, backend, ONNX file and a function that runs once."""
    place = Path(name)
    if place.suffix == ".onnx" or place.is_dir():
        files = sorted(place.glob("*.onnx")) if place.is_dir() else [place]
        if not files or not files[0].is_file():
            raise ConfigError(f"{name} is no ONNX file or exported folder")
        many = place.is_dir() and len(files) > 1
        return [
            (str(file) if many else name, "onnxruntime", file, _onnx_call(file, batch, threads))
            for file in files if "onnxruntime" in backends
        ]  # fmt: skip
    model, image = _load(name)
    entries: list[Entry] = []
    for backend in backends:
        if backend == "torch":
            entries.append((name, backend, None, _torch_call(model, torch.zeros(batch, *image))))
        else:
            file = draft.with_suffix(".onnx")
            save(trace(fold_batch_norm(model), Form(image)), file)
            entries.append((name, backend, file, _onnx_call(file, batch, threads)))
    return entries


def _load(name: str) -> tuple[Any, tuple[int, int, int]]:
    if not name.startswith(TIMM):
        source = load_source(name)
        return source.model, source.image
    import timm

    bare = name.removeprefix(TIMM)
    if not timm.is_model(bare):
        raise UnknownNameError("timm model", bare, timm.list_models(f"{bare[:4]}*") or timm.list_models("mobilenet*"))
    model: Any = timm.create_model(bare).eval()
    return model, tuple(model.pretrained_cfg["input_size"])


def _onnx_call(file: Path, batch: int, threads: int) -> Callable[[], object]:
    loaded = session(file, threads)
    feed = {loaded.get_inputs()[0].name: _zeros(loaded, batch)}
    return lambda: loaded.run(None, feed)


def _zeros(loaded: Any, batch: int) -> Any:
    """An input of a session at its own size, 224 pixels where that is free."""
    (entry,) = loaded.get_inputs()
    first, *rest = entry.shape
    if not isinstance(first, str) and first != batch:
        raise ConfigError(f"a file takes batches of {first}, got {batch}; give --batch {first}")
    shape = (batch, *(224 if isinstance(n, str) else n for n in rest))
    return np.zeros(shape, np.uint8 if "uint8" in entry.type else np.float32)


def _torch_call(model: Any, images: torch.Tensor) -> Callable[[], object]:
    folded = fold_batch_norm(model).to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)

    def call() -> object:
        with torch.inference_mode():
            return folded(images)

    return call


def _row(name: str, backend: str, file: Path | None, times: dict[str, Any], batch: int, layers: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"model": name, "backend": backend, **times, "peak_memory_mb": None}
    if file is not None:
        one = _zeros(session(file), batch)
        row["peak_memory_mb"] = peak_memory_mb(file, one.shape)
        if layers:
            parts = profile(file, one).parts
            row["layers"] = dict(sorted(parts.items(), key=lambda item: -item[1]))
    return row
