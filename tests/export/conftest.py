"""A small network that really tells images apart, exported once for all tests of a process."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from lab import TOKEN
from torch import nn

from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.data import load
from gemnet.export import hub as publishing
from gemnet.export.bundle import Plan, export_bundle
from gemnet.export.form import Form
from gemnet.export.infer import normalise
from gemnet.export.parity import Scaling
from gemnet.export.samples import Samples
from gemnet.export.source import Source
from gemnet.network import GemNet
from gemnet.train import seeded

CELL = Cell(
    ("input", "sepconv3x3", "sepconv3x3", "sepconv3x3", "conv1x1"), ((0, 1), (0, 2), (0, 3), (1, 3), (0, 4), (2, 4))
)  # ShrinkCNN's
NET = NetConfig(8, (Stage(1, 8, 16, 1), Stage(1, 16, 24, 2)), 64, stem_stride=2)
IMAGE = (1, 28, 28)


@pytest.fixture(scope="session")
def data():
    return load("fashion-mini")


@pytest.fixture(scope="session")
def source(data) -> Source:
    """Random features under a classifier fitted by least squares: about three in four images right."""
    scaling = Scaling(tuple(map(float, data.mean)), tuple(map(float, data.std)))
    images = torch.from_numpy(normalise(data.train.images[:1500], {"mean": scaling.mean, "std": scaling.std}))
    wanted = nn.functional.one_hot(torch.from_numpy(data.train.labels[:1500]), 10).float()
    with seeded(0), torch.no_grad():
        model = GemNet(CELL, NET, 10, 1)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 2.0)
                nn.init.normal_(module.bias, std=0.3)
                module.momentum = None  # the mean over all batches
        model(images)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.1
        model.eval()
        features = model.forward_head(model.forward_features(images), pre_logits=True)
        one = torch.ones(len(features), 1)
        ridge = torch.linalg.lstsq(
            torch.cat([torch.cat([features, one], 1), 0.3 * torch.eye(65)]), torch.cat([wanted, torch.zeros(65, 10)])
        ).solution
        model.head.fc.weight.copy_(10 * ridge[:-1].T)
        model.head.fc.bias.copy_(10 * ridge[-1])
    return Source("tiny", CELL, NET, model, IMAGE, scaling, 28, data.classes, "fitted in a test")


@pytest.fixture(scope="session")
def samples(data) -> Samples:
    return Samples.of(data, IMAGE, 10, 200, 48)


@pytest.fixture(scope="session")
def plan(source) -> Plan:
    form = Form(IMAGE, dynamic=("batch", "height", "width"), least_side=source.least_side)
    return Plan(form, ("fp32", "fp16", "int8"), max_drop=0.02)


@pytest.fixture(scope="session")
def bundle(source, samples, plan, tmp_path_factory):
    """The folder of all precisions, its report, and what the command said while it was made."""
    folder = tmp_path_factory.mktemp("bundle") / "deep" / "out"
    said: list[str] = []
    report = export_bundle(source, folder, plan, samples, say=said.append)
    return SimpleNamespace(folder=folder, report=report, said=said, proto=onnx.load(folder / "model.onnx"))


@pytest.fixture
def lab(hub, monkeypatch):
    """The Hub, with an owner of `lab` who is logged in."""
    hub.add_token(TOKEN, "anna", orgs=("lab",))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(publishing, "WAITS_S", (0, 0, 0))
    return hub


@pytest.fixture
def release(release_folder, tmp_path) -> Path:
    return shutil.copytree(release_folder, tmp_path / "release")


@pytest.fixture
def folder(release) -> Path:
    return release
