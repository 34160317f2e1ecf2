"""Models written as ONNX files, under a temporary name until they pass the gate."""

import ast
import logging
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import nn

from gemnet.durable import scratch
from gemnet.errors import ExportError, UsageError
from gemnet.fold import fold_batch_norm

from .form import INPUT, OPSET, OUTPUT, Form
from .parity import parity_cases
from .verify import Verification, verify

EXTERNAL_ABOVE = 1_800_000_000  # bytes; a protobuf message ends at 2 GiB
SCOPES = "pkg.torch.onnx.name_scopes"  # the exporter's note on each node of the layers it is in


def export_onnx(model: nn.Module, path: str | Path, image: tuple[int, int, int], opset: int = OPSET) -> Verification:
    """Writes the model alone as ONNX with a free batch and returns what the gate measured.

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
        place = scratch(path.parent, "export")
    except OSError as error:
        raise UsageError(f"cannot write to {path.parent}: {error.strerror}") from None
    with place as folder:
        draft, form = Path(folder) / path.name, Form(image, opset)
        folded = fold_batch_norm(model)
        save(trace(folded, form), draft)
        result = verify(draft, form, parity_cases(model, form), weights=folded.state_dict())
        for file in Path(folder).iterdir():
            os.replace(file, path.parent / file.name)
    return result


def trace(module: nn.Module, form: Form) -> onnx.ModelProto:
    """A module in eval mode as an ONNX model whose nodes carry their layers' names and nothing of where it was made.

    Raises:
        ExportError: the exporter cannot trace it.
    """
    parameter = next(module.parameters())
    dtype = torch.uint8 if form.as_bytes else parameter.dtype
    count = 2 if "batch" in form.dynamic else 1  # a free batch of 1 would be taken as fixed
    example = torch.zeros(count, *form.layout, device=parameter.device, dtype=dtype)
    sides = {"min": max(2, form.least_side), "max": form.MAX_SIDE}
    free = {
        axis: torch.export.Dim(name, **({} if name == "batch" else sides))
        for axis, name in enumerate(form.axes) if name in form.dynamic
    }  # fmt: skip
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                module.eval(), (example,), dynamo=True, opset_version=form.opset, verbose=False,
                input_names=[INPUT], output_names=[OUTPUT], dynamic_shapes=(free,),
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise ExportError(f"the model cannot be traced: {reason}") from None
    if program is None:
        raise ExportError("the exporter returned no model")
    proto: onnx.ModelProto = program.model_proto
    _name_nodes(proto)
    strip(proto)
    return proto


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Writes a model, its weights in a second file only when one would be too large for the format."""
    if proto.ByteSize() > EXTERNAL_ABOVE:
        place = f"{path.name}.data"
        onnx.save(proto, path, save_as_external_data=True, all_tensors_to_one_file=True, location=place)
    else:
        onnx.save(proto, path)


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Names each node by the layer it comes from, such as `stages.0.0.nodes.3.conv_dw/Conv`."""
    seen: Counter[str] = Counter()
    for node in proto.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "[]")
        layers = [name for name in ast.literal_eval(scopes)[:-1] if not name.startswith("_")]
        layer = layers[-1].removeprefix("model").removeprefix(".") if layers else ""
        name = f"{layer or 'input'}/{node.op_type}"
        seen[name] += 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name]}"


def strip(proto: onnx.ModelProto) -> None:
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
