"""The gate lets the model's own file pass and nothing else."""

import copy
import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from gemnet.errors import ConfigError, ExportError
from gemnet.export import bundle as bundling
from gemnet.export.bundle import Plan, export_bundle
from gemnet.export.form import Form
from gemnet.export.parity import agreement, difference, parity_cases
from gemnet.export.verify import LIMITS, Limits, verify
from gemnet.fold import fold_batch_norm


def change_weight(proto):
    (weight,) = [item for item in proto.graph.initializer if item.name == "stages.1.0.nodes.3.conv.weight"]
    values = numpy_helper.to_array(weight).copy()
    values[0] *= 1.05
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def permute_classes(proto):
    for name in ("head.fc.weight", "head.fc.bias"):
        (weight,) = [item for item in proto.graph.initializer if item.name == name]
        weight.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(weight), 1, 0).copy(), name))


def permute_labels(proto):
    (labels,) = [entry for entry in proto.metadata_props if entry.key == "labels"]
    labels.value = labels.value.replace("Trouser", "Pullover", 1)


def rewrite_opset(proto):
    proto.opset_import[0].version = 19


def freeze_batch(proto):
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def put_nan(proto):
    (weight,) = [item for item in proto.graph.initializer if item.name == "conv_head.conv.weight"]
    values = numpy_helper.to_array(weight).copy()
    values[3] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def rename_output(proto):
    proto.graph.node[-1].output[0] = proto.graph.output[0].name = "scores"


def break_graph(proto):
    proto.graph.node[4].input[0] = "nowhere"


def leave_a_trace(proto):
    proto.graph.node[2].doc_string = "/home/someone/network.py, line 9"


def leave_in_training(proto):
    """The stem's batch norm back in the file, estimating its statistics from the batch."""
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


SABOTAGE = {
    change_weight: r"'logits' of model.onnx at batch 1 differs from the model by .*, the weight "
                   r"'stages\.1\.0\.nodes\.3\.conv\.weight' differs by .*; export it again",
    permute_classes: r"'logits' .* differs from the model by .*, the weight 'head\.fc\.weight' differs by",
    permute_labels: r"model.onnx says labels is .*, the model's is .*Trouser",
    rewrite_opset: r"opset 20 was asked for, model.onnx has 19; ask for 19",
    freeze_batch: r"the batch axis of 'images' is fixed to 2 in model.onnx, but must be free|no valid ONNX",
    put_nan: r"the weight 'conv_head\.conv\.weight' of model.onnx is not finite",
    rename_output: r"model.onnx has \['scores'\] where 'logits' alone was expected",
    break_graph: r"model.onnx is no valid ONNX model: .*nowhere",
    leave_in_training: r"the BatchNormalization 'stem.bn/BatchNormalization' of model.onnx is in training mode",
    leave_a_trace: r"the node 'stages.* of model.onnx still says where it was made",
}  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    """A folder with an older export in it, and a check that nothing has touched it."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"the old one")
    yield folder
    assert [(path.name, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()] == [
        ("model.onnx", b"the old one")
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("damage", SABOTAGE, ids=lambda damage: damage.__name__)
def test_a_sabotaged_file_is_refused_and_the_folder_untouched(
    damage, kept, source, samples, plan, bundle, monkeypatch
):
    def save(proto, path):
        damaged = copy.deepcopy(proto)
        damage(damaged)
        onnx.save(damaged, path)

    plain = onnx.load(bundle.folder / "model.onnx")
    monkeypatch.setattr(bundling, "trace", lambda module, form: plain)
    monkeypatch.setattr(bundling, "save", save)
    with pytest.raises(ExportError, match=SABOTAGE[damage]):
        export_bundle(source, kept, dataclasses.replace(plan, precisions=("fp32",)), samples)


def test_nan_weights_of_the_model_are_named(kept, source, samples, plan):
    broken = copy.deepcopy(source.model)
    with torch.no_grad():
        broken.head.fc.weight[2, 3] = float("nan")
    with pytest.raises(ExportError, match=r"not finite \(its weight 'head\.fc\.weight' is not\)"):
        export_bundle(dataclasses.replace(source, model=broken), kept, plan, samples)


def test_int8_calibrated_with_useless_images_is_refused(kept, source, samples, plan, bundle, monkeypatch):
    monkeypatch.setattr(bundling, "trace", lambda module, form: onnx.load(bundle.folder / "model.onnx"))
    black = dataclasses.replace(samples, calibration=np.zeros_like(samples.calibration))
    with pytest.raises(ExportError, match=r"model.int8.onnx: .* % of 'logits' lost .*; give --data"):
        export_bundle(source, kept, dataclasses.replace(plan, precisions=("int8",)), black)


def test_values_too_large_for_float16_are_named(kept, source, samples, plan):
    loud = copy.deepcopy(source.model)
    with torch.no_grad():
        loud.conv_head.bn.weight *= 1e6
        loud.head.fc.weight *= 1e-6
    with pytest.raises(ExportError, match=r"reaches .* on real images, float16 ends at 65504"):
        export_bundle(dataclasses.replace(source, model=loud), kept, dataclasses.replace(plan, precisions=("fp16",)),
                      samples)  # fmt: skip


def test_a_difference_just_beyond_the_limit_is_refused(source, bundle, plan):
    path = bundle.folder / "model.onnx"
    cases = parity_cases(source.model, plan.form)
    said = {entry.key: entry.value for entry in bundle.proto.metadata_props}
    found = verify(path, plan.form, cases, metadata=said)
    worst = found.max_rel_diff
    assert 0 < worst < 1e-5
    with pytest.raises(ExportError, match="allowed"):
        verify(path, plan.form, cases, Limits(worst * 0.99, 0, 0, ""), metadata=said)
    verify(path, plan.form, cases, Limits(worst, 0, 0, ""), metadata=said)


def test_the_gate_tries_every_batch_and_size_that_is_free(bundle):
    assert set(bundle.report["files"]["model.onnx"]["differences"]) == {
        "batch 1", "batch 2", "batch 5", "batch 1, 3 x 3 px", "batch 2, 3 x 3 px",
        "batch 1, 56 x 55 px", "batch 2, 56 x 55 px",
    }  # fmt: skip


def test_an_axis_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="no axis 'channels' can be dynamic; allowed are batch, height, width"):
        Form((3, 32, 32), dynamic=("channels",))
    with pytest.raises(ConfigError, match="unknown precision 'int4'"):
        Plan(Form((3, 32, 32)), ("int4",))


def test_measures_of_closeness_are_what_they_say():
    want = np.array([[1.0, -4.0], [2.0, 1.0]])
    assert difference(want + np.array([[0.5, 0], [0, 0]]), want) == (0.5, 0.125)
    assert agreement(np.array([[1, 2], [3, 0]]), want) == 0.5
    assert LIMITS["fp32"].relative == 1e-4


def test_a_fixed_batch_can_be_asked_for(source, samples, tmp_path):
    report = export_bundle(source, tmp_path / "fixed", Plan(Form(source.image, 18, dynamic=())), samples)
    file = report["files"]["model.onnx"]
    assert file["inputs"] == {"images": [1, 1, 28, 28]}
    assert (file["opset"], file["batches"], file["images"]) == (18, (1,), 200)
    assert fold_batch_norm(source.model) is not source.model
