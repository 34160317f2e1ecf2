"""The gate lets the model's own file pass and nothing else."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest

from gemnet.errors import ConfigError, ExportError
from gemnet.export import bundle as bundling
from gemnet.export.bundle import Plan, export_bundle
from gemnet.export.form import Form
from gemnet.export.parity import agreement, difference, parity_cases
from gemnet.export.verify import LIMITS, Limits, verify

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load_script(name):
    """A script of the benchmarks as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


sabotage = load_script("sabotage")
MESSAGES = {
    "a weight changed after tracing": r"'logits' of model.onnx at batch 1 differs from the model by .*, the weight "
                                      r"'stages\..*\.nodes\..*' differs by .*; export it again",
    "classes permuted": r"'logits' .* differs from the model by .*, the weight 'head\.fc\.weight' differs by",
    "labels permuted": r"model.onnx says labels is .*, the model's is .*Trouser",
    "opset rewritten": r"opset 20 was asked for, model.onnx has 19; ask for 19",
    "batch frozen": r"the batch axis of 'images' is fixed to 2 in model.onnx, but must be free|no valid ONNX",
    "a weight of the file is NaN": r"the weight 'conv_head\.conv\.weight' of model.onnx is not finite",
    "output renamed": r"model.onnx has \['scores'\] where 'logits' alone was expected",
    "graph broken": r"model.onnx is no valid ONNX model: .*nowhere",
    "batch norm left in training": r"the BatchNormalization 'stem.bn/BatchNormalization' of model.onnx is in training",
    "a path of this machine left": r"the node 'stages.* of model.onnx still says where it was made",
}  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    """A folder with an older export in it, and a check that nothing has touched it."""
    folder = tmp_path / "out"
    folder.mkdir()
    old = {"config.json": b'{"schema": "gemnet.bundle/1"}', "model.onnx": b"the old one"}
    for name, content in old.items():
        (folder / name).write_bytes(content)
    yield folder
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == old
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", MESSAGES)
def test_a_sabotaged_file_is_refused_and_the_folder_untouched(name, kept, source, samples, plan, bundle):
    plain = onnx.load(bundle.folder / "model.onnx")
    with (
        sabotage.damaged(sabotage.FILES[name], plain),
        pytest.raises(ExportError, match=MESSAGES[name]),
    ):
        export_bundle(source, kept, dataclasses.replace(plan, precisions=("fp32",)), samples)


def test_every_damage_to_a_file_is_tried():
    assert set(MESSAGES) == set(sabotage.FILES)


def test_nan_weights_of_the_model_are_named(kept, source, samples, plan):
    with pytest.raises(ExportError, match=r"not finite \(its weight 'head\.fc\.weight' is not\)"):
        export_bundle(sabotage.spoil_weights(source), kept, plan, samples)


def test_int8_calibrated_with_useless_images_is_refused(kept, source, samples, plan, bundle, monkeypatch):
    monkeypatch.setattr(bundling, "trace", lambda module, form: onnx.load(bundle.folder / "model.onnx"))
    with pytest.raises(ExportError, match=r"'logits' of model.int8.onnx: .* % of the answers kept .*; give --data"):
        export_bundle(source, kept, dataclasses.replace(plan, precisions=("int8",)), sabotage.blacken(samples))


def test_values_too_large_for_float16_are_named(kept, source, samples, plan):
    half = dataclasses.replace(plan, precisions=("fp16",))
    with pytest.raises(ExportError, match=r"'conv_head\..*/Conv' reaches .* on real images, float16 ends at 65504"):
        export_bundle(sabotage.make_loud(source), kept, half, samples)


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


def test_who_lets_int8_lose_more_lets_it_change_as_many_answers(plan):
    assert LIMITS["int8"].agreement == 0.9
    assert plan.limits("int8").agreement == 0.9
    assert dataclasses.replace(plan, max_drop=0.4).limits("int8").agreement == 0.6
    assert dataclasses.replace(plan, max_drop=0.4).limits("fp16") == LIMITS["fp16"]
