import json

import pytest
import timm
import torch
from timm.models._manipulate import group_parameters

import gemnet  # noqa: F401 - registers the models
from gemnet.blocks import GemCell
from gemnet.cell import Cell
from gemnet.config import NetConfig, Stage
from gemnet.errors import CellError, ConfigError, UnknownNameError
from gemnet.network import GemNet
from gemnet.train import seeded

NET = NetConfig(8, (Stage(2, 8, 16, 1), Stage(1, 16, 24, 2)), 32, stem_stride=1)
NAMES = ["gemnet", "gemnet_a", "gemnet_b", "gemnet_a_cifar", "gemnet_b_cifar"]


def by_hand(module: GemCell, cell: Cell, x: torch.Tensor) -> torch.Tensor:
    """The cell's definition, evaluated recursively from its leaves."""

    def node(j: int) -> torch.Tensor:
        if j == 0:
            return module.entry(x)
        inputs = [node(i) for i in cell.predecessors[j]]
        return module.nodes[j - 1](torch.cat(inputs, 1) if module.merge == "concat" else sum(inputs))

    leaves = torch.cat([node(leaf) for leaf in cell.leaves], 1)
    return module.shortcut(x) + module.project(leaves)


@pytest.mark.parametrize("merge", ["sum", "concat"])
@pytest.mark.parametrize("nodes", [2, 3, 9])
def test_a_cell_computes_what_its_graph_says(merge, nodes, cell_of):
    cell = cell_of(nodes, ops=("sepconv3x3", "conv1x1", "maxpool3x3"), max_in_degree=3)
    with seeded(1):
        module = GemCell(cell, 6, 4, 10, merge=merge).eval()
        x = torch.randn(2, 6, 7, 7)
        torch.testing.assert_close(module(x), by_hand(module, cell, x))


def test_only_what_is_read_later_is_kept(chain):
    module = GemCell(chain, 4, 4, 4)
    assert module.spent == [[], [0], [1]]


def test_a_stage_with_stride_2_has_a_pool_in_front(chain):
    parts = dict(GemNet(chain, NET).stages.named_children())
    assert list(parts) == ["pool0", "0", "pool1", "1"]
    assert isinstance(parts["pool0"], torch.nn.Identity)
    assert parts["1"](parts["pool1"](torch.zeros(1, 16, 9, 9))).shape == (1, 24, 4, 4)


def test_one_cell_per_stage_is_possible(chain, shrinkcnn):
    model = GemNet([chain, shrinkcnn], NET, num_classes=3)
    assert [len(stage[0].nodes) for stage in model.stages[1::2]] == [2, 4]
    assert model(torch.zeros(2, 3, 16, 16)).shape == (2, 3)


def test_the_same_seed_builds_the_same_weights(chain):
    def build(seed):
        with seeded(seed):
            return GemNet(chain, NET).state_dict()

    first, again, other = build(1), build(1), build(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.fc.weight"], other["head.fc.weight"])


@pytest.mark.parametrize("name", NAMES)
def test_registered_models_follow_timms_contract(name):
    model = timm.create_model(name, num_classes=7).eval()
    chans, height, width = model.default_cfg["input_size"]
    x = torch.randn(2, chans, height, width)
    with torch.no_grad():
        features = model.forward_features(x)
        assert features.shape[1] == model.num_features
        assert features.shape[2:] == model.default_cfg["pool_size"]
        logits = model(x)
        assert logits.shape == (2, 7)
        torch.testing.assert_close(model.forward_head(features), logits)
        assert model.forward_head(features, pre_logits=True).shape == (2, model.head_hidden_size)
        last, between = model.forward_intermediates(x)
        torch.testing.assert_close(last, features)
        assert [f.shape[1] for f in between] == [info["num_chs"] for info in model.feature_info]
        assert [height // f.shape[2] for f in between] == [info["reduction"] for info in model.feature_info]
    assert model.get_classifier().out_features == 7
    model.reset_classifier(0)
    assert model(x).shape == (2, model.num_features)
    parts = dict(model.named_modules())
    assert parts[model.default_cfg["first_conv"]].in_channels == chans
    assert model.default_cfg["classifier"] == "head.fc"


@pytest.mark.parametrize("feature_cls", ["list", "dict", "hook", "fx", "getter"])
def test_features_only_gives_stem_and_stages(feature_cls):
    model = timm.create_model("gemnet_a_cifar", features_only=True, feature_cls=feature_cls).eval()
    out = model(torch.zeros(1, 3, 32, 32))
    out = list(out.values()) if isinstance(out, dict) else out
    assert [f.shape[1] for f in out] == model.feature_info.channels()
    assert model.feature_info.reduction() == [1, 1, 2, 4]
    two = timm.create_model("gemnet_a_cifar", features_only=True, out_indices=(1, 3), feature_cls=feature_cls)
    assert len(two(torch.zeros(1, 3, 32, 32))) == 2


@pytest.mark.parametrize("indices", [[0], [1], [0, 2]])
def test_pruned_layers_still_give_the_features_asked_for(indices, chain):
    with seeded(0):
        model, pruned = (GemNet(chain, NET).eval() for _ in range(2))
        pruned.load_state_dict(model.state_dict())
        x = torch.randn(1, 3, 16, 16)
    want = model.forward_intermediates(x, indices=indices, intermediates_only=True)
    assert pruned.prune_intermediate_layers(indices) == indices
    got = pruned.forward_intermediates(x, indices=indices, intermediates_only=True)
    assert len(got) == len(want)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b)
    early = model.forward_intermediates(x, indices=indices, intermediates_only=True, stop_early=True)
    for a, b in zip(early, want):
        torch.testing.assert_close(a, b)


def test_checkpointed_gradients_equal_plain_ones(chain):
    with seeded(0):
        model = GemNet(chain, NET, num_classes=2).eval()
        x = torch.randn(2, 3, 16, 16)
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    for plain, checkpointed in zip(*gradients):
        torch.testing.assert_close(plain, checkpointed)


def test_channels_classes_and_drop_rates_are_taken():
    model = timm.create_model("gemnet_a_cifar", in_chans=1, num_classes=4, drop_rate=0.1, drop_path_rate=0.2)
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 4)
    assert max(getattr(m, "drop_prob", 0.0) for m in model.modules()) == pytest.approx(0.2)


def test_models_build_on_the_meta_device():
    model = timm.create_model("gemnet_a", device="meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_layer_groups_cover_all_parameters():
    model = timm.create_model("gemnet_a_cifar")
    names = {name for name, _ in model.named_parameters()}
    for coarse in (False, True):
        groups = group_parameters(model, model.group_matcher(coarse))
        assert {name for group in groups.values() for name in group} == names


def test_any_cell_by_name_path_or_object(tmp_path, shrinkcnn):
    file = tmp_path / "cell.json"
    file.write_text(json.dumps(shrinkcnn.to_dict()))
    for reference in (str(file), shrinkcnn.to_dict()):
        model = timm.create_model("gemnet", cell=reference, net=NET.to_dict(), num_classes=2)
        assert model.cells == (shrinkcnn, shrinkcnn)
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert (
        timm.create_model("gemnet", cell="gemnet_b", num_classes=2).cells[0] == (timm.create_model("gemnet_b").cells[0])
    )
    per_stage = timm.create_model("gemnet", cell=[shrinkcnn.to_dict()] * 2, net=NET.to_dict())
    assert len(per_stage.cells) == 2


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"cell": "gemnet_z"}, UnknownNameError, "unknown cell 'gemnet_z'"),
        ({"cell": {"schema": "gemnet.cell/1"}}, CellError, "'ops' is a list"),
        ({"net": {"stem": 3}}, UnknownNameError, "unknown field of net 'stem'"),
        ({"net": {"stem_chs": 8, "stages": [], "head_chs": 8}}, ConfigError, "number of stages"),
        ({"net": {"stem_chs": 10**9, "stages": [{"depth": 1, "node_chs": 8, "out_chs": 8}], "head_chs": 8}},
         ConfigError, "stem_chs must be 1 to"),
        ({"net": {**NET.to_dict(), "merge": "product"}}, UnknownNameError, "unknown merge 'product'"),
        ({"cell": [{}]}, ConfigError, "one cell per stage needs a network"),
    ],
)  # fmt: skip
def test_what_is_no_network_is_refused(kwargs, error, words):
    with pytest.raises(error, match=words):
        timm.create_model("gemnet", **kwargs)


def test_a_registered_name_keeps_its_cell():
    with pytest.raises(ConfigError, match="gemnet_a has its own cell"):
        timm.create_model("gemnet_a", cell="gemnet_b")
