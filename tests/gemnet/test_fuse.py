import json
import random
import warnings

import onnxruntime
import pytest
import timm
import torch
from torch import nn

from gemnet import fuse as module
from gemnet.blocks import GemCell
from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.errors import ConfigError, UnknownNameError, UsageError
from gemnet.fuse import Plan, fuse
from gemnet.network import GemNet
from gemnet.train import seeded

EVERYTHING = Plan(True, True, True, True)
NOTHING = Plan(False, False, False, False)
OPS = ("sepconv3x3", "conv1x1", "sepconv5x5", "maxpool3x3", "identity")


def build(cell: Cell, merge: str = "sum", seed: int = 0) -> GemNet:
    """A small network whose batch norms have seen data, so that folding them matters."""
    net = NetConfig(8, (Stage(1, 8, 16, 1), Stage(1, 8, 12, 2)), 16, stem_stride=1, merge=merge)
    with seeded(seed):
        model = GemNet(cell, net, num_classes=5)
        for layer in model.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.5, 2.0)
                nn.init.normal_(layer.bias)
        with torch.no_grad():
            model(torch.randn(8, 3, 8, 8))
    return model.eval()


def difference(model: nn.Module, fused: nn.Module, dtype: torch.dtype) -> float:
    """The largest difference of an output, relative to the largest output."""
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    with torch.no_grad():
        want, got = model.to(dtype)(x), fused.to(dtype)(x)
    return float((got - want).abs().max() / want.abs().max())


def count(fused: torch.fx.GraphModule, kind: type) -> int:
    return sum(isinstance(layer, kind) for layer in fused.modules())


def adds(fused: torch.fx.GraphModule) -> int:
    return sum(node.target is module.fx.Proxy or "add" in str(node.target) for node in fused.graph.nodes)


def assert_equal(cells: int, seed: int, cell_of) -> None:
    rng = random.Random(seed)
    for k in range(cells):
        model = build(cell_of(rng.randint(2, 12), ops=OPS[: rng.choice([2, 5])]), ("sum", "concat")[k % 2], k)
        plan = (Plan(), EVERYTHING, NOTHING)[k % 3]
        assert difference(model, fuse(model, plan), torch.float32) < 1e-5
        model.double()
        assert difference(model, fuse(model, plan), torch.float64) < 1e-10


def test_fused_networks_of_random_cells_compute_the_same(cell_of):
    assert_equal(10, 0, cell_of)


@pytest.mark.slow
def test_fused_networks_of_100_other_random_cells_compute_the_same(cell_of):
    assert_equal(100, 1, cell_of)


def test_the_registered_network_is_fused_and_not_changed():
    model = timm.create_model("gemnet_a_cifar")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse(model)
    assert not fused.training
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert count(fused, nn.BatchNorm2d) == count(fused, nn.Identity) == count(fused, nn.Dropout) == 0


def test_what_sums_have_in_common_is_added_once():
    cell = Cell(("input",) + ("conv1x1",) * 4, ((0, 1), (0, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), (2, 4), (3, 4)))
    model = build(cell)
    apart, shared = fuse(model, NOTHING), fuse(model, Plan(share_sums=True))
    assert adds(apart) - adds(shared) == 2 * len(model.net.stages)  # 0 + 1 + 2 stands in both sums


def test_a_concatenation_in_front_of_a_convolution_disappears(shrinkcnn):
    model = build(shrinkcnn, "concat")
    cats = [sum(node.target is torch.cat for node in fuse(model, plan).graph.nodes) for plan in (NOTHING, Plan())]
    assert cats == [3 * len(model.net.stages), 0]


def test_siblings_become_one_convolution():
    cell = Cell(("input", "sepconv3x3", "sepconv3x3", "conv1x1", "conv1x1"), ((0, 1), (0, 2), (0, 3), (0, 4)))
    model = build(cell)
    apart, merged = fuse(model, NOTHING), fuse(model, EVERYTHING)
    # entry with shortcut, two depthwise, two 1x1, and the four projections of the leaves stay apart
    assert count(apart, nn.Conv2d) - count(fuse(model, Plan(False, False, True, False)), nn.Conv2d) == 2 + 2
    assert count(apart, nn.Conv2d) - count(fuse(model, Plan(False, False, False, True)), nn.Conv2d) == 2
    assert difference(model, merged, torch.float32) < 1e-5
    x = torch.randn(2, 3, 8, 8)
    assert merged(x).requires_grad is False or merged(x).sum().backward() is None


def test_a_branch_that_is_always_zero_is_dropped(shrinkcnn):
    model = build(shrinkcnn)
    with torch.no_grad():
        for cell in (layer for layer in model.modules() if isinstance(layer, GemCell)):
            cell.nodes[0].bn.weight.zero_()
            cell.nodes[0].bn.bias.fill_(-1.0)  # the ReLU behind it lets nothing through
    whole, pruned = fuse(build(shrinkcnn), NOTHING), fuse(model, NOTHING)
    assert count(whole, nn.Conv2d) - count(pruned, nn.Conv2d) == 2 * len(model.net.stages)
    assert difference(model, pruned, torch.float32) < 1e-5


def test_a_plan_is_plain_json_and_gives_the_same_module(shrinkcnn):
    again = Plan.from_dict(json.loads(json.dumps(EVERYTHING.to_dict())))
    assert again == EVERYTHING
    model = build(shrinkcnn)
    first, second = fuse(model, EVERYTHING), fuse(model, again)
    assert first.code == second.code
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ({"share_sums": True}, ConfigError, "schema 'gemnet.plan/1'"),
        ([], ConfigError, "a plan is a JSON object"),
        ({"schema": "gemnet.plan/1", "share_sum": True}, UnknownNameError, "did you mean 'share_sums'"),
        ({"schema": "gemnet.plan/1", "share_sums": 1}, ConfigError, "expected bool"),
    ],
)
def test_what_is_no_plan_is_refused(data, error, words):
    with pytest.raises(error, match=words):
        Plan.from_dict(data)


def test_only_a_gemnet_is_fused():
    with pytest.raises(UsageError, match="only a GemNet can be fused, got a FeatureListNet"):
        fuse(timm.create_model("gemnet_a_cifar", features_only=True))


def test_other_norms_and_activations_stay_as_they_are(shrinkcnn):
    net = NetConfig(8, (Stage(1, 8, 16, 2),), 16)
    model = GemNet(shrinkcnn, net, 3, act_layer="silu", norm_layer="groupnorm1", drop_rate=0.1).eval()
    assert difference(model, fuse(model, EVERYTHING), torch.float32) < 1e-5


def test_a_fused_network_exports(shrinkcnn, tmp_path):
    model = build(shrinkcnn, "concat")
    x = torch.randn(2, 3, 8, 8)
    with warnings.catch_warnings(action="ignore"):  # torch's exporter uses what torch deprecates
        program = torch.onnx.export(fuse(model), (x,), dynamo=True, verbose=False)
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    got = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    with torch.no_grad():
        torch.testing.assert_close(got, model(x), rtol=1e-4, atol=1e-4)
