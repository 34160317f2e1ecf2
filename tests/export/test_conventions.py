"""Other tools' counts, by their definitions and by the tools themselves where they are installed."""

import copy
import logging
import warnings

import pytest
import torch
from torch import nn

from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.cost import cost
from gemnet.export.conventions import by_convention, count_operations
from gemnet.network import GemNet

CELL = Cell(("input", "sepconv3x3", "maxpool3x3", "conv1x1"), ((0, 1), (0, 2), (1, 3), (2, 3)))
NET = NetConfig(4, (Stage(1, 8, 12, 1), Stage(2, 8, 16, 2)), 20, stem_stride=2)
IMAGE = (3, 24, 20)


@pytest.fixture(scope="module")
def model():
    return GemNet(CELL, NET, 7).eval()


def count_with(tool, model):
    """What a tool says of a copy of the model."""
    model, images = copy.deepcopy(model), torch.zeros(1, *IMAGE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("fvcore.nn" if tool == "fvcore" else tool)
        if tool == "thop":
            return int(module.profile(model, (images,), verbose=False)[0])
        if tool == "torchinfo":
            return int(module.summary(model, input_data=images, verbose=0).total_mult_adds)
        if tool == "ptflops":
            said = {"as_strings": False, "print_per_layer_stat": False, "verbose": False}
            return int(module.get_model_complexity_info(model, IMAGE, **said)[0])
        logging.getLogger("fvcore").setLevel(logging.ERROR)
        return int(module.FlopCountAnalysis(model, images).total())


@pytest.mark.parametrize("tool", ["thop", "torchinfo", "ptflops", "fvcore"])
def test_the_count_is_the_tools_own(tool, model):
    assert by_convention(model, IMAGE)[tool]["total"] == count_with(tool, model)


def test_all_begin_with_our_macs_and_differ_in_what_they_add(model):
    rows = by_convention(model, IMAGE)
    macs = cost(CELL, NET, IMAGE[1:], 3, 7).macs
    assert {row["multiply-adds"] for row in rows.values()} == {macs}
    assert rows["gemnet"]["total"] == macs
    assert len({row["total"] for row in rows.values()}) == 5


def test_operations_are_counted_by_hand():
    layers = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2),
                           nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))  # fmt: skip
    assert count_operations(layers, (2, 4, 6)) == {
        "multiply-adds": 3 * 24 * 18 + 15, "biases": 3 * 24 + 5, "batch norms": 72, "activations": 72,
        "max pooling, inputs": 72, "average pooling, inputs": 18, "average pooling, outputs": 3,
    }  # fmt: skip
