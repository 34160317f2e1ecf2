"""The gate: an ONNX file is read back and compared with the model it was written from."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from gemnet.errors import ExportError

BATCHES = (1, 2, 5)
TOLERANCE = 1e-4  # of the largest output; fp32 rounding over a hundred layers stays below 1e-5


@dataclass(frozen=True)
class Verification:
    """What was read from an ONNX file and how far its outputs are from the model's.

    Args:
        opset, ir_version: as the file says.
        inputs, outputs: name and shape of each; a free axis by its name.
        op_types: how often each operator occurs.
        size_mb: size of the file in 10^6 bytes.
        max_abs_diff: largest difference of an output, over all batches.
        max_rel_diff: the same, divided by the largest output.
        batches: the batch sizes tried.
    """

    opset: int
    ir_version: int
    inputs: dict[str, list[str | int]]
    outputs: dict[str, list[str | int]]
    op_types: dict[str, int]
    size_mb: float
    max_abs_diff: float
    max_rel_diff: float
    batches: tuple[int, ...] = BATCHES


def verify(
    model: nn.Module, path: str | Path, image: tuple[int, int, int], opset: int, tolerance: float = TOLERANCE
) -> Verification:
    """Compares an ONNX file with its model on random images: names, then shapes, then values.

    Args:
        model: maps [N, C, H, W] to [N, num_classes]; put into eval mode for the comparison and back.
        path: the ONNX file.
        image: C, H and W of one image.
        opset: the opset the file must have.
        tolerance: largest difference allowed, relative to the largest output.

    Raises:
        ExportError: what differs, by how much, and where.
    """
    proto = onnx.load(path)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"the written file is no valid ONNX model: {error}") from None
    found = next(entry.version for entry in proto.opset_import if entry.domain == "")
    if found != opset:
        raise ExportError(f"opset {opset} was asked for, the written file has {found}; ask for {found}")
    inputs, outputs = ({v.name: _shape(v) for v in values} for values in (proto.graph.input, proto.graph.output))
    if len(inputs) != 1 or len(outputs) != 1:
        raise ExportError(f"one input and one output expected, the file has {list(inputs)} and {list(outputs)}")
    for name, shape in {**inputs, **outputs}.items():
        if not isinstance(shape[0], str):
            raise ExportError(f"the batch axis of {name!r} is fixed to {shape[0]}; it must be free")
    worst_abs, worst_rel = _compare(model, str(path), image, tolerance)
    return Verification(
        found, proto.ir_version, inputs, outputs, dict(Counter(node.op_type for node in proto.graph.node)),
        Path(path).stat().st_size / 1e6, worst_abs, worst_rel,
    )  # fmt: skip


def session(path: str | Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ONNX Runtime CPU session with that many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _compare(model: nn.Module, path: str, image: tuple[int, int, int], tolerance: float) -> tuple[float, float]:
    runtime = session(path)
    (feed,), (fetch,) = runtime.get_inputs(), runtime.get_outputs()
    generator = torch.Generator().manual_seed(0)
    worst_abs = worst_rel = 0.0
    for batch in BATCHES:
        images = torch.randn(batch, *image, generator=generator)
        want = _run(model, images)
        got = runtime.run([fetch.name], {feed.name: images.numpy()})[0]
        if got.shape != want.shape:
            raise ExportError(
                f"{fetch.name!r} at batch {batch} has shape {list(got.shape)}, the model {list(want.shape)}"
            )
        if not np.isfinite(want).all():
            raise ExportError("the model's own outputs are not finite; train it or check its weights")
        diff = float(np.abs(got - want).max())
        relative = diff / max(float(np.abs(want).max()), 1e-12)
        if not relative <= tolerance:
            raise ExportError(
                f"{fetch.name!r} at batch {batch} differs from the model by {diff:.3g} "
                f"({relative:.2g} of the largest output; allowed {tolerance:g})"
            )
        worst_abs, worst_rel = max(worst_abs, diff), max(worst_rel, relative)
    return worst_abs, worst_rel


def _run(model: nn.Module, images: Tensor) -> np.ndarray:
    training = model.training
    parameter = next(model.parameters())
    try:
        with torch.no_grad():
            logits: Tensor = model.eval()(images.to(parameter.device, parameter.dtype))
    finally:
        model.train(training)
    return logits.float().cpu().numpy()


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
