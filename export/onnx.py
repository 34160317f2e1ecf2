"""Models written as ONNX files, under a temporary name until they pass the gate."""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import nn

from gemnet.errors import ExportError, UsageError

from .fold import fold_batch_norm
from .verify import Verification, verify

OPSET = 20  # the exporter's own; a lower one is converted, so what was asked for is read back from the file
INPUT, OUTPUT = "images", "logits"


def export_onnx(model: nn.Module, path: str | Path, image: tuple[int, int, int], opset: int = OPSET) -> Verification:
    """Writes the model as ONNX with a dynamic batch and returns what the gate measured.

    Args:
        model: maps [N, C, H, W] to [N, num_classes]; it is not changed.
        path: the file to write; it appears only when the gate was passed.
        image: C, H and W of one image.
        opset: version of the ONNX operators.

    Raises:
        ExportError: the file does not do what the model does; nothing is left behind.
        UsageError: the folder cannot be written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-")
    except OSError as error:
        raise UsageError(f"cannot write to {path.parent}: {error.strerror}") from None
    with scratch as folder:
        draft = Path(folder) / path.name
        trace(fold_batch_norm(model), draft, image, opset)
        result = verify(model, draft, image, opset)
        os.replace(draft, path)
    return result


def trace(model: nn.Module, path: Path, image: tuple[int, int, int], opset: int = OPSET) -> None:
    """Writes a module in eval mode as an ONNX file whose nodes carry no trace of where they were made."""
    parameter = next(model.parameters())
    example = torch.zeros(2, *image, device=parameter.device, dtype=parameter.dtype)  # 1 would be taken as fixed
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            model.eval(), (example,), dynamo=True, opset_version=opset, verbose=False,
            input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=({0: torch.export.Dim("batch")},),
        )  # fmt: skip
    if program is None:
        raise ExportError("the exporter returned no model")
    proto = program.model_proto
    _strip(proto)
    onnx.save(proto, path)


def _strip(proto: onnx.ModelProto) -> None:
    """Removes stack traces and local paths, which the exporter writes on every node."""
    graph = proto.graph
    for item in [*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer, graph, proto]:
        del item.metadata_props[:]
        item.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporter's own progress and its notes on versions away from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
            yield
    finally:
        logger.setLevel(level)
