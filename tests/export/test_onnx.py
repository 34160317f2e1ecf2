import copy
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.errors import ExportError, UsageError
from gemnet.export import onnx as exporter
from gemnet.export.onnx import export_onnx
from gemnet.fold import fold_batch_norm
from gemnet.network import GemNet
from gemnet.train import seeded

CELL = Cell(
    ("input", "sepconv3x3", "sepconv3x3", "sepconv3x3", "conv1x1"), ((0, 1), (0, 2), (0, 3), (1, 3), (0, 4), (2, 4))
)
NET = NetConfig(8, (Stage(1, 8, 16, 1), Stage(1, 16, 24, 2)), 32, stem_stride=1)
IMAGE = (3, 16, 16)


@pytest.fixture(scope="module")
def model() -> GemNet:
    """A network whose batch norms have seen data, so that folding them matters."""
    with seeded(0):
        net = GemNet(CELL, NET, num_classes=5)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 2.0)
                nn.init.normal_(module.bias)
        with torch.no_grad():
            for _ in range(3):
                net(2 * torch.randn(16, *IMAGE) + 1)
    return net


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """The file, what the gate said, the folder's contents, and the model's weights and mode before it was exported."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    result = export_onnx(model, path, IMAGE)
    return SimpleNamespace(path=path, result=result, before=before, training=model.training)


@pytest.fixture
def file(exported, tmp_path):
    return Path(shutil.copy(exported.path, tmp_path))


def test_the_file_gives_the_models_logits_at_any_batch(model, file):
    model = copy.deepcopy(model).eval()
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch in (1, 3, 7):
        images = torch.randn(batch, *IMAGE)
        got = session.run(["logits"], {"images": images.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(got, model(images).numpy(), rtol=1e-4, atol=1e-4)


def test_batch_norms_are_folded_and_nodes_are_clean(file):
    proto = onnx.load(file)
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)
    content = file.read_bytes()
    assert not any(trace in content for trace in (b"site-packages", b".py", str(file.parent).encode()))


def test_nodes_are_named_by_their_layers_and_names_are_unique(file):
    names = [node.name for node in onnx.load(file).graph.node]
    assert len(set(names)) == len(names)
    assert {"stem.conv/Conv", "stages.0.0.nodes.0.conv_dw/Conv", "stages.1.0/Concat", "head.fc/Gemm"} <= set(names)


def test_what_was_measured_is_read_from_the_file(exported):
    result, proto = exported.result, onnx.load(exported.path)
    assert result.opset == next(entry.version for entry in proto.opset_import if entry.domain == "") == 20
    assert result.inputs == {"images": ["batch", 3, 16, 16]}
    assert result.outputs == {"logits": ["batch", 5]}
    assert sum(result.op_types.values()) == len(proto.graph.node)
    assert set(result.differences) == {"batch 1", "batch 2", "batch 5"}
    assert 0 <= result.max_rel_diff < 1e-5
    assert [p.name for p in exported.path.parent.iterdir()] == ["model.onnx"]


def test_the_model_is_not_changed_by_its_export(model, exported):
    assert exported.training
    after = model.state_dict()
    assert all(torch.equal(exported.before[name], after[name]) for name in after)


EXPORT = """
import sys, torch
from pathlib import Path
from gemnet.export.onnx import export_onnx
export_onnx(torch.load(sys.argv[1], weights_only=False), sys.argv[2], (3, 16, 16))
"""


def test_an_export_in_another_process_is_byte_equal(model, file, tmp_path):
    torch.save(model, tmp_path / "model.pt")
    command = [sys.executable, "-c", EXPORT, str(tmp_path / "model.pt"), str(tmp_path / "other.onnx")]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "other.onnx").read_bytes() == file.read_bytes()


def test_folding_keeps_the_outputs(model):
    double = copy.deepcopy(model).double().eval()
    images = torch.randn(4, *IMAGE, dtype=torch.float64)
    folded = fold_batch_norm(double)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(images), double(images), rtol=1e-10, atol=1e-10)


def test_an_opset_the_exporter_does_not_write_is_refused(model, tmp_path):
    with pytest.raises(ExportError, match=r"opset 17 was asked for, model\.onnx has 18"):
        export_onnx(model, tmp_path / "model.onnx", IMAGE, opset=17)
    assert list(tmp_path.iterdir()) == []


def test_a_large_models_weights_go_into_a_second_file(model, file, tmp_path, monkeypatch):
    monkeypatch.setattr(exporter, "EXTERNAL_ABOVE", 10_000)
    monkeypatch.setattr(exporter, "trace", lambda module, form: onnx.load(file))
    result = export_onnx(model, tmp_path / "large" / "model.onnx", IMAGE)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "large").iterdir()}
    assert set(sizes) == {"model.onnx", "model.onnx.data"}
    assert result.size_mb == pytest.approx(sum(sizes.values()) / 1e6)


def test_an_old_file_survives_a_failed_export(model, file, monkeypatch):
    before = file.read_bytes()
    damaged = onnx.load(file)
    damaged.graph.initializer[0].raw_data = bytes(len(damaged.graph.initializer[0].raw_data))
    monkeypatch.setattr(exporter, "trace", lambda module, form: damaged)
    with pytest.raises(ExportError):
        export_onnx(model, file, IMAGE)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]


def test_a_folder_that_cannot_be_written_is_named(model, tmp_path):
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(UsageError, match="cannot write to"):
        export_onnx(model, tmp_path / "taken" / "model.onnx", IMAGE)


@pytest.mark.slow
def test_registered_models_export(tmp_path):
    model = timm.create_model("gemnet_a_cifar", in_chans=1)
    result = export_onnx(model, tmp_path / "model.onnx", (1, 32, 32))
    assert dataclasses.asdict(result)["inputs"] == {"images": ["batch", 1, 32, 32]}
