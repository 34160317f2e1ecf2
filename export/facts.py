"""What an ONNX file says of itself, read back and compared with what was asked for."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor

from gemnet.errors import ExportError

from .form import INPUT, OUTPUT, Form

TYPES = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.UINT8: "uint8"}
AGAIN = "export it again, and report it if it happens again"


@dataclass(frozen=True)
class Facts:
    """What was read from a file.

    Args:
        opset, ir_version: as the file says.
        inputs, outputs: name and shape of each; a free axis by its name.
        op_types: how often each operator occurs.
        size_mb: size of the file and its external data in 10^6 bytes.
        sha256: of the file.
    """

    opset: int
    ir_version: int
    inputs: dict[str, list[str | int]]
    outputs: dict[str, list[str | int]]
    op_types: dict[str, int]
    size_mb: float
    sha256: str


def read_facts(
    path: Path, form: Form, num_classes: int, metadata: Mapping[str, str]
) -> Facts:
    """The facts of a file that is what was asked for.

    Args:
        path: the ONNX file.
        form: what was asked for.
        num_classes: of the model.
        metadata: what the file must say in its own words.

    Raises:
        ExportError: the first thing that is not as asked for.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
        proto = onnx.load(path)
    except Exception as error:  # noqa: BLE001 - checker, shape inference and protobuf errors have no common base
        raise ExportError(f"{path.name} is no valid ONNX model: {error}; {AGAIN}") from None
    opset = _check_opset(path.name, proto, form)
    inputs, outputs = ({v.name: _shape(v) for v in values} for values in (proto.graph.input, proto.graph.output))
    _check_ends(path.name, proto, form, num_classes)
    _check_nodes(path.name, proto)
    _check_metadata(path.name, proto, metadata)
    _check_finite(path.name, proto)
    files = [path, *path.parent.glob(f"{path.name}.data")]
    return Facts(
        opset, proto.ir_version, inputs, outputs, dict(Counter(node.op_type for node in proto.graph.node)),
        sum(file.stat().st_size for file in files) / 1e6, hashlib.sha256(path.read_bytes()).hexdigest(),
    )  # fmt: skip


def changed_weight(path: Path, weights: Mapping[str, Tensor]) -> str:
    """A sentence on the weight that differs most from the model's of the same name; empty when none does."""
    worst, found = 0.0, ""
    for item in onnx.load(path).graph.initializer:
        want = weights.get(item.name)
        got = numpy_helper.to_array(item)
        if want is None or tuple(want.shape) != got.shape:
            continue
        by = float(np.abs(got.astype(np.float64) - want.double().cpu().numpy()).max(initial=0.0))
        if by > worst:
            worst, found = by, f"the weight {item.name!r} differs by {by:.3g} from the model's"
    return found


def _check_opset(name: str, proto: onnx.ModelProto, form: Form) -> int:
    domains = {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import}
    if set(domains) != {"ai.onnx"} and any(node.domain for node in proto.graph.node):
        raise ExportError(f"{name} uses operators outside ONNX: {', '.join(sorted(set(domains) - {'ai.onnx'}))}")
    found: int = domains["ai.onnx"]
    if found != form.opset:
        raise ExportError(f"opset {form.opset} was asked for, {name} has {found}; ask for {found}")
    return found


def _check_ends(name: str, proto: onnx.ModelProto, form: Form, num_classes: int) -> None:
    """Names first, then types, then shapes."""
    ends = (
        (INPUT, "uint8" if form.as_bytes else "float32", form.input_shape, proto.graph.input),
        (OUTPUT, "float32", form.output_shape(num_classes), proto.graph.output),
    )
    for wanted, dtype, shape, values in ends:
        if [value.name for value in values] != [wanted]:
            raise ExportError(f"{name} has {[value.name for value in values]} where {wanted!r} alone was expected")
        got = TYPES.get(values[0].type.tensor_type.elem_type, "another type")
        if got != dtype:
            raise ExportError(f"{wanted!r} of {name} is {got}, not {dtype}; {AGAIN}")
        found = _shape(values[0])
        if len(found) != len(shape):
            raise ExportError(f"{wanted!r} of {name} has the axes {found}, expected were {shape}")
        for axis, (is_, want) in enumerate(zip(found, shape)):
            if isinstance(want, str) and not isinstance(is_, str):
                raise ExportError(f"the {want} axis of {wanted!r} is fixed to {is_} in {name}, but must be free")
            if is_ != want:
                raise ExportError(f"axis {axis} of {wanted!r} is {is_} in {name}, expected was {want}; {AGAIN}")


def _check_nodes(name: str, proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        if node.metadata_props or node.doc_string:
            raise ExportError(f"the node {node.name!r} of {name} still says where it was made; {AGAIN}")
        training = any(a.name == "training_mode" and a.i for a in node.attribute)
        if node.op_type in ("BatchNormalization", "Dropout") and (training or len(node.output) > 2):
            raise ExportError(f"the {node.op_type} {node.name!r} of {name} is in training mode; call eval() first")


def _check_metadata(name: str, proto: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    said = {entry.key: entry.value for entry in proto.metadata_props}
    for key in sorted(said.keys() | metadata.keys()):
        if said.get(key) != metadata.get(key):
            got, want = said.get(key, "nothing"), metadata.get(key, "nothing")
            raise ExportError(f"{name} says {key} is {got:.80}, the model's is {want:.80}; {AGAIN}")


def _check_finite(name: str, proto: onnx.ModelProto) -> None:
    for item in proto.graph.initializer:
        floats = item.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
        if floats and not np.isfinite(numpy_helper.to_array(item)).all():
            raise ExportError(f"the weight {item.name!r} of {name} is not finite; check the model's weights")


def _shape(value: onnx.ValueInfoProto) -> list[str | int]:
    return [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
