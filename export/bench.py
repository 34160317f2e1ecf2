"""The command `gemnet bench`: models by name, from timm or as ONNX files, timed in one run."""

import copy
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gemnet.errors import ConfigError, UnknownNameError
from gemnet.fold import fold_batch_norm
from gemnet.fuse import fuse
from gemnet.release import is_folder

from .form import Form
from .latency import machine, measure, peak_memory_mb
from .onnx import save, trace
from .profiling import profile
from .source import load_source
from .trained import is_trained_folder
from .verify import session

TIMM = "timm:"


def bench_models(
    models: Sequence[str], backends: Sequence[str], batch: int, threads: int, runs: int, limit_s: float, layers: bool,
    weights: Path | None = None, fused: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Latencies of models, as a JSON object.

    Args:
        models: names, `timm:` names, ONNX files, exported and trained folders.
        backends: of `onnxruntime`, `torch`.
        batch: images in a run.
        threads: of a run.
        runs: of each model.
        limit_s: for all runs.
        layers: whether to say where each ONNX file spends its time.
        weights: of the GEMNet among the models, a safetensors file.
        fused: whether to time each GEMNet also rewritten for speed.

    Raises:
        GemnetError: no such model, or one that a backend cannot run.
    """
    named = [model for model in models if not _files(model) and not model.startswith(TIMM)]
    if weights and len(named) != 1:
        raise ConfigError(f"weights are for one GEMNet by its name, got {', '.join(named) or 'none'}")
    if fused and not named:
        raise ConfigError("no GEMNet by its name to rewrite for speed; ONNX files and timm's models stay as they are")
    torch.set_num_threads(threads)
    before = machine()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        entries = [
            entry for k, model in enumerate(models)
            for entry in _entries(model, tuple(backends), batch, threads, folder / str(k), weights, fused)
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


def _files(name: str) -> list[Path]:
    """The ONNX files that a name stands for; none when it is a model's."""
    if is_folder(name):
        return sorted(Path(name).glob("*.onnx"))
    return [Path(name)] if name.endswith(".onnx") else []


def _entries(
    name: str, backends: tuple[str, ...], batch: int, threads: int, draft: Path, weights: Path | None, fused: bool
) -> list[Entry]:
    """What to time of a model: name, backend, ONNX file and a function that runs once."""
    files = _files(name)
    if any(not file.is_file() for file in files) or (not files and is_folder(name) and not is_trained_folder(name)):
        raise ConfigError(f"{name} is no ONNX file, exported folder or trained folder")
    if files:
        return [
            (str(file) if len(files) > 1 else name, "onnxruntime", file, _onnx_call(file, batch, threads))
            for file in files if "onnxruntime" in backends
        ]  # fmt: skip
    modules, image = _load(name, weights, fused)
    entries: list[Entry] = []
    for k, (label, module) in enumerate(modules.items()):
        for backend in backends:
            if backend == "torch":
                entries.append((label, backend, None, _torch_call(module, torch.zeros(batch, *image))))
            else:
                file = draft.with_suffix(f".{k}.onnx")
                save(trace(module, Form(image)), file)
                entries.append((label, backend, file, _onnx_call(file, batch, threads)))
    return entries


def _load(
    name: str, weights: Path | None, fused: bool
) -> tuple[dict[str, torch.nn.Module], tuple[int, int, int]]:
    """A model for inference, where asked for also one rewritten for speed, and its image's shape."""
    if not name.startswith(TIMM):
        source = load_source(name, weights=weights)
        modules: dict[str, torch.nn.Module] = {name: fold_batch_norm(source.model)}
        if fused:
            modules[f"{name}, fused"] = fuse(source.model)
        return modules, source.image
    import timm

    bare = name.removeprefix(TIMM)
    if not timm.is_model(bare):
        raise UnknownNameError("timm model", bare, timm.list_models(f"{bare[:4]}*") or timm.list_models("mobilenet*"))
    model: Any = timm.create_model(bare).eval()
    return {name: fold_batch_norm(model)}, tuple(model.pretrained_cfg["input_size"])


def _onnx_call(file: Path, batch: int, threads: int) -> Callable[[], object]:
    try:
        loaded = session(file, threads)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base
        raise ConfigError(f"{file} cannot be loaded: {' '.join(str(error).split()):.200}") from None
    if len(loaded.get_inputs()) != 1:
        names = ", ".join(entry.name for entry in loaded.get_inputs())
        raise ConfigError(f"{file} has the inputs {names}; only models of images alone are timed")
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


def _torch_call(module: Any, images: torch.Tensor) -> Callable[[], object]:
    module = copy.deepcopy(module).to(memory_format=torch.channels_last)  # which would stay in its exports
    images = images.to(memory_format=torch.channels_last)

    def call() -> object:
        with torch.inference_mode():
            return module(images)

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
