"""What the export gate says of sabotaged files and models, and whether the folder stays as it was.

    python benchmarks/sabotage.py

Each kind of damage is done to a small network of gemnet_a's cell behind the exporter's back: to the file after it was
traced, to the model's weights, or to the images that int8 takes its ranges from.
"""

import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import click
import numpy as np
import onnx
import torch
from export_gate import fitted
from onnx import numpy_helper
from result import print_table, write_result

from gemnet.data import load
from gemnet.errors import ExportError
from gemnet.export import bundle as bundling
from gemnet.export.bundle import Plan, export_bundle
from gemnet.export.form import Form
from gemnet.export.onnx import trace
from gemnet.export.samples import Samples
from gemnet.export.source import Source, load_source
from gemnet.fold import fold_batch_norm

Proto = onnx.ModelProto
IMAGES, CALIBRATION = 100, 16


def change_weight(proto: Proto) -> None:
    """Makes the first output channel of a convolution inside a cell 5 % larger."""
    weight = next(item for item in proto.graph.initializer if ".nodes." in item.name and item.dims[0] > 1)
    values = numpy_helper.to_array(weight).copy()
    values[0] *= 1.05
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def permute_classes(proto: Proto) -> None:
    """Moves each class to the next output."""
    for name in ("head.fc.weight", "head.fc.bias"):
        (weight,) = [item for item in proto.graph.initializer if item.name == name]
        weight.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(weight), 1, 0).copy(), name))


def permute_labels(proto: Proto) -> None:
    """Exchanges the names of the first two classes."""
    (labels,) = [entry for entry in proto.metadata_props if entry.key == "labels"]
    first, second, *others = json.loads(labels.value)
    labels.value = json.dumps([second, first, *others])


def rewrite_opset(proto: Proto) -> None:
    """Lets the file say another opset."""
    proto.opset_import[0].version = 19


def freeze_batch(proto: Proto) -> None:
    """Fixes the input's batch."""
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def put_nan(proto: Proto) -> None:
    """Makes a weight of the file no number."""
    (weight,) = [item for item in proto.graph.initializer if item.name == "conv_head.conv.weight"]
    values = numpy_helper.to_array(weight).copy()
    values[3] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def rename_output(proto: Proto) -> None:
    """Calls the output by another name."""
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "scores"


def break_graph(proto: Proto) -> None:
    """Lets a node read what nothing writes."""
    proto.graph.node[4].input[0] = "nowhere"


def leave_a_trace(proto: Proto) -> None:
    """Leaves a path of this machine on a node."""
    proto.graph.node[2].doc_string = "/home/someone/network.py, line 9"


def leave_in_training(proto: Proto) -> None:
    """Puts the stem's batch norm back, estimating its statistics from the batch."""
    conv = proto.graph.node[0]
    (chs,) = (item.dims[0] for item in proto.graph.initializer if item.name == conv.input[1])
    for name in ("scale", "shift", "mean", "var"):
        proto.graph.initializer.append(numpy_helper.from_array(np.ones(chs, np.float32), f"bn.{name}"))
    inputs = ["before", "bn.scale", "bn.shift", "bn.mean", "bn.var"]
    outputs = [conv.output[0], "bn.mean_now", "bn.var_now"]
    norm = onnx.helper.make_node("BatchNormalization", inputs, outputs, name="stem.bn/BatchNormalization",
                                 training_mode=1)  # fmt: skip
    conv.output[0] = "before"
    proto.graph.node.insert(1, norm)


FILES: dict[str, Callable[[Proto], None]] = {
    "a weight changed after tracing": change_weight,
    "classes permuted": permute_classes,
    "labels permuted": permute_labels,
    "opset rewritten": rewrite_opset,
    "batch norm left in training": leave_in_training,
    "batch frozen": freeze_batch,
    "a weight of the file is NaN": put_nan,
    "output renamed": rename_output,
    "graph broken": break_graph,
    "a path of this machine left": leave_a_trace,
}


def spoil_weights(source: Source) -> Source:
    """A source whose model has a weight that is no number."""
    model = copy.deepcopy(source.model)
    with torch.no_grad():
        model.head.fc.weight[2, 3] = float("nan")
    return replace(source, model=model)


def make_loud(source: Source) -> Source:
    """A source whose model does the same with values that float16 cannot hold."""
    model = copy.deepcopy(source.model)
    with torch.no_grad():
        model.conv_head.bn.weight *= 1e6
        model.conv_head.bn.bias *= 1e6
        model.head.fc.weight *= 1e-6
    return replace(source, model=model)


def blacken(samples: Samples) -> Samples:
    """Samples whose images for int8 are black."""
    return replace(samples, calibration=np.zeros_like(samples.calibration))


@contextmanager
def damaged(damage: Callable[[Proto], None], plain: Proto) -> Iterator[None]:
    """While this lasts, an export writes the plain file with the damage."""

    def save(proto: Proto, path: Path) -> None:
        spoilt = copy.deepcopy(proto)
        damage(spoilt)
        onnx.save(spoilt, path)

    with mock.patch.object(bundling, "trace", return_value=plain), mock.patch.object(bundling, "save", save):
        yield


@click.command()
@click.option("--quick", is_flag=True, help="Without int8.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(quick: bool, out: Path | None, as_json: bool) -> None:
    """Try every kind of damage and write zoo/results/sabotage.json."""
    torch.set_num_threads(1)
    data = load("fashion-mini")
    source = load_source("gemnet_a", "proxy", 3_000_000, data=data)
    samples = Samples.of(data, source.image, 10, IMAGES, CALIBRATION)
    source = fitted(source, data, samples)
    plan = Plan(Form(source.image))
    plain = trace(fold_batch_norm(source.model), plan.form)
    rows = []
    for name, damage in FILES.items():
        with damaged(damage, plain):
            rows.append(attempt(name, source, plan, samples))
    rows.append(attempt("a weight of the model is NaN", spoil_weights(source), plan, samples))
    half, small = (replace(plan, precisions=(precision,)) for precision in ("fp16", "int8"))
    rows.append(attempt("values beyond float16", make_loud(source), half, samples))
    if not quick:
        rows.append(attempt("int8 ranges from black images", source, small, blacken(samples)))
    print_table(rows)
    result = write_result("sabotage", 0, rows, out, model=f"{source.name}, proxy macro, 3 M MACs", data=data.name)
    if as_json:
        click.echo(json.dumps(result))


def attempt(name: str, source: Source, plan: Plan, samples: Samples) -> dict[str, Any]:
    """What an export into a folder that holds an older one says, and whether that stays as it was."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "out"
        folder.mkdir()
        old = {"out/config.json": b'{"schema": "gemnet.bundle/1"}', "out/model.onnx": b"the old one"}
        for path, content in old.items():
            (Path(place) / path).write_bytes(content)
        try:
            export_bundle(source, folder, plan, samples)
        except ExportError as error:
            message = " ".join(str(error).split())
        else:
            raise SystemExit(f"{name}: passed the gate")
        left = {file.relative_to(place).as_posix(): file.read_bytes() for file in Path(place).rglob("*")
                if file.is_file()}  # fmt: skip
    return {"sabotage": name, "untouched": left == old, "message": message}


if __name__ == "__main__":
    main()
