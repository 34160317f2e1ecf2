import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import nn

from gemnet.config import NetConfig, Stage
from gemnet.errors import ExportError, UsageError
from gemnet.export import onnx as exporter
from gemnet.export.fold import fold_batch_norm
from gemnet.export.onnx import export_onnx
from gemnet.export.verify import verify
from gemnet.network import GemNet
from gemnet.train import seeded

NET = NetConfig(8, (Stage(1, 8, 16, 1), Stage(1, 16, 24, 2)), 32, stem_stride=1)
IMAGE = (3, 16, 16)


@pytest.fixture
def model(shrinkcnn) -> GemNet:
    """A network whose batch norms have seen data, so that folding them matters."""
    with seeded(0):
        net = GemNet(shrinkcnn, NET, num_classes=5)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 2.0)
                nn.init.normal_(module.bias)
        with torch.no_grad():
            for _ in range(3):
                net(2 * torch.randn(16, *IMAGE) + 1)
    return net.eval()


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "model.onnx"
    export_onnx(model, path, IMAGE)
    return path


def test_the_file_gives_the_models_logits_at_any_batch(model, file):
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
    assert b"/site-packages/" not in file.read_bytes()


def test_what_was_measured_is_read_from_the_file(model, tmp_path):
    result = export_onnx(model, tmp_path / "model.onnx", IMAGE)
    proto = onnx.load(tmp_path / "model.onnx")
    assert result.opset == next(entry.version for entry in proto.opset_import if entry.domain == "") == 20
    assert result.inputs == {"images": ["batch", 3, 16, 16]}
    assert result.outputs == {"logits": ["batch", 5]}
    assert sum(result.op_types.values()) == len(proto.graph.node)
    assert 0 <= result.max_rel_diff < 1e-5
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_the_model_is_not_changed_by_its_export(model, tmp_path):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    export_onnx(model, tmp_path / "model.onnx", IMAGE)
    assert model.training
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_two_exports_are_byte_equal(model, file, tmp_path):
    export_onnx(model, tmp_path / "again.onnx", IMAGE)
    assert (tmp_path / "again.onnx").read_bytes() == file.read_bytes()


def test_folding_keeps_the_outputs(model):
    double = model.double()
    images = torch.randn(4, *IMAGE, dtype=torch.float64)
    folded = fold_batch_norm(double)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(folded(images), double(images), rtol=1e-10, atol=1e-10)


def test_an_opset_the_exporter_does_not_write_is_refused(model, tmp_path):
    with pytest.raises(ExportError, match="opset 17 was asked for, the written file has 18"):
        export_onnx(model, tmp_path / "model.onnx", IMAGE, opset=17)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sabotage", ["weights", "labels", "batch norm"])
def test_a_file_that_is_not_the_model_is_not_kept(sabotage, model, tmp_path, monkeypatch):
    def damaged(network):
        folded = fold_batch_norm(network)
        fc = folded.head.fc
        with torch.no_grad():
            if sabotage == "weights":
                fc.weight[0] *= 1.01
            elif sabotage == "labels":
                fc.weight.copy_(fc.weight.flip(0))
        if sabotage == "batch norm":
            folded.stem.conv.bias.data += 0.01
        return folded

    monkeypatch.setattr(exporter, "fold_batch_norm", damaged)
    with pytest.raises(ExportError, match=r"'logits' at batch 1 differs from the model by"):
        export_onnx(model, tmp_path / "model.onnx", IMAGE)
    assert list(tmp_path.iterdir()) == []


def test_a_fixed_batch_is_refused(model, file):
    proto = onnx.load(file)
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(proto, file)
    with pytest.raises(ExportError, match=r"batch axis of 'images' is fixed to 2|no valid ONNX"):
        verify(model, file, IMAGE, 20)


def test_nan_weights_are_refused(model, tmp_path):
    with torch.no_grad():
        model.head.fc.weight.fill_(float("nan"))
    with pytest.raises(ExportError, match="not finite"):
        export_onnx(model, tmp_path / "model.onnx", IMAGE)
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_survives_a_failed_export(model, file, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr(exporter, "fold_batch_norm", lambda m: fold_batch_norm(m.__class__(m.cells[0], m.net, 5)))
    with pytest.raises(ExportError):
        export_onnx(model, file, IMAGE)
    assert file.read_bytes() == before


def test_a_folder_that_cannot_be_written_is_named(model, tmp_path):
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(UsageError, match="cannot write to"):
        export_onnx(model, tmp_path / "taken" / "model.onnx", IMAGE)


def test_registered_models_export(tmp_path):
    model = timm.create_model("gemnet_a_cifar", in_chans=1)
    result = export_onnx(model, tmp_path / "model.onnx", (1, 32, 32))
    assert dataclasses.asdict(result)["inputs"] == {"images": ["batch", 1, 32, 32]}
