"""ONNX files in half precision."""

import numpy as np
import onnx
import onnxruntime
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from gemnet.errors import ExportError

from .parity import Array

LARGEST = 65504.0  # of a float16


def to_half(proto: onnx.ModelProto, images: Array) -> onnx.ModelProto:
    """The model with float16 weights and values; its input and output stay as they are.

    Args:
        proto: a float32 model.
        images: real ones, as the model takes them, to see how large its values become.

    Raises:
        ExportError: a value is too large for float16, which a processor that computes in float32 would not show.
    """
    name, largest = largest_value(proto, images)
    if largest > LARGEST:
        makers = {output: node.name for node in proto.graph.node for output in node.output}
        raise ExportError(
            f"{makers.get(name, name)!r} reaches {largest:.3g} on real images, float16 ends at {LARGEST:g}; "
            "leave fp16 out of --precision, or train with smaller activations"
        )
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    half = OnnxModel(convert_float_to_float16(copy, keep_io_types=True))
    half.topological_sort(is_deterministic=True)
    model: onnx.ModelProto = half.model
    for node in model.graph.node:
        if not node.name or node.name.startswith("graph_"):
            node.name = f"{'input' if node.input[0] == model.graph.input[0].name else 'output'}/Cast"
    return model


def largest_value(proto: onnx.ModelProto, images: Array) -> tuple[str, float]:
    """Name of the tensor with the largest absolute value on the images, and that value."""
    tapped = onnx.ModelProto()
    tapped.CopyFrom(proto)
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(tapped).graph.value_info}
    tapped.graph.output.extend(
        value for value in known.values() if value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    runtime = onnxruntime.InferenceSession(tapped.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = runtime.run(None, {runtime.get_inputs()[0].name: images})
    sizes = [float(np.abs(value).max()) for value in outputs]
    worst = int(np.argmax(sizes))
    return runtime.get_outputs()[worst].name, sizes[worst]
