"""What timm promises of every model, and what its tests of its own models check."""

import copy
import warnings

import pytest
import timm
import torch
from timm.models._features import FeatureGetterNet
from timm.models._manipulate import group_parameters
from torch import nn

import gemnet  # noqa: F401 - registers the models
from gemnet.config import NetConfig, Stage
from gemnet.errors import ConfigError, NoWeightsError, UnknownArgumentError
from gemnet.train import seeded

NET = NetConfig(8, (Stage(1, 8, 16, 1), Stage(2, 16, 24, 2), Stage(1, 16, 32, 2)), 40, stem_stride=2)
NAMES = ["gemnet", "gemnet_a", "gemnet_b", "gemnet_a_cifar", "gemnet_b_cifar"]
LAST = len(NET.stages)


@pytest.fixture
def small(shrinkcnn):
    """Builds a small network through timm, the same weights each time."""

    def build(**kwargs):
        with seeded(0):
            return timm.create_model("gemnet", cell=shrinkcnn.to_dict(), net=NET.to_dict(), **kwargs).eval()

    return build


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_every_registered_name_keeps_the_contract_on_the_meta_device(name):
    """Shapes, widths, devices, dtypes and modes as timm checks them, without computing anything."""
    model = timm.create_model(name, device="meta", dtype=torch.float32).eval()
    cfg, weights = model.pretrained_cfg, model.state_dict()
    assert cfg["architecture"] == "gemnet"
    assert {f"{cfg['first_conv']}.weight", f"{cfg['classifier']}.weight"} <= set(weights)
    assert model.in_chans == cfg["input_size"][0]
    assert model.no_weight_decay() == set()
    assert len(set(group_parameters(model, model.group_matcher(), reverse=True).values())) > 1
    x = torch.empty(1, *cfg["input_size"], device="meta")
    features = model.forward_features(x)
    assert features.shape == (1, model.num_features, *cfg["pool_size"])
    pooled = model.forward_head(features, pre_logits=True)
    assert pooled.shape == (1, model.head_hidden_size)
    model.to(torch.bfloat16)
    assert model(x.to(torch.bfloat16)).dtype == torch.bfloat16
    model.to(torch.float64)
    model.requires_grad_(False)
    model.reset_classifier(0)
    assert (model.num_classes, model(x.double()).shape) == (0, pooled.shape)
    assert not any(p.requires_grad for p in model.parameters())
    model.reset_classifier(0, "")
    assert model(x.double()).shape == features.shape
    model.reset_classifier(2, "avg")
    parameter = model.get_classifier().weight
    assert (parameter.device.type, parameter.dtype, parameter.shape[0]) == ("meta", torch.float64, 2)
    assert not any(module.training for module in model.modules())
    model = timm.create_model(name, num_classes=0, global_pool="", device="meta")
    assert model(x).shape == features.shape


def test_224_px_networks_are_built_quickly(within):
    timm.create_model("gemnet_a")
    assert within(0.15, lambda: timm.create_model("gemnet_a"))
    assert within(0.1, lambda: timm.create_model("gemnet_a", device="meta"))


@pytest.mark.parametrize("pool", ["avg", "max", "catavgmax"])
def test_the_width_in_front_of_the_classifier_is_told(pool, small, images):
    model = small(num_classes=0)
    model.reset_classifier(7, pool)
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    assert pooled.shape[1] == model.head_hidden_size
    assert model(images).shape == (2, 7)
    again = model.forward_head(model.forward_features(images), pre_logits=True)
    model.reset_classifier(5)
    torch.testing.assert_close(model.forward_head(model.forward_features(images), pre_logits=True), again)


def test_every_parameter_gets_a_gradient(small, images):
    model = small(num_classes=4).train()
    model(images).mean().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_script_trace_fx_export_and_compile_compute_the_same(small, images):
    model = small()
    getter = FeatureGetterNet(small(), out_indices=(0, 2)).eval()
    with torch.no_grad():
        want, features = model(images), getter(images)
        with warnings.catch_warnings(action="ignore"):  # torch says that it will not keep script and trace for ever
            forms = {"script": torch.jit.script(model), "trace": torch.jit.trace(model, images)}
            scripted_getter = torch.jit.script(getter)
        forms |= {
            "fx": torch.fx.symbolic_trace(model),
            "export": torch.export.export(model, (images,)).module(),
            "compile": torch.compile(model, backend="eager", fullgraph=True),
        }  # fmt: skip
        for name, form in forms.items():
            torch.testing.assert_close(form(images), want, msg=lambda text, name=name: f"{name}: {text}")
        torch.testing.assert_close(scripted_getter(images), features)


def test_channels_last_and_autocast_compute_the_same(small, images):
    model = small()
    with torch.no_grad():
        want = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(images)
        last = model.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, want, rtol=1e-4, atol=1e-5)
    assert half.dtype == torch.bfloat16
    assert (half - want).abs().max() < 0.05 * want.abs().max()


@pytest.mark.parametrize("output_stride", [4, 8])
def test_a_smaller_output_stride_computes_the_same_at_more_positions(output_stride, small):
    """The strided network's features are those of the dense one at every n-th position, zero padding included."""
    plain, dense = small(), small(output_stride=output_stride)
    dense.load_state_dict(plain.state_dict())
    assert dense.feature_info[-1]["reduction"] == output_stride < plain.feature_info[-1]["reduction"] == 8 or (
        output_stride == 8
    )
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        want, got = plain.forward_features(x), dense.forward_features(x)
    step = 8 // output_stride
    torch.testing.assert_close(got[:, :, ::step, ::step], want, rtol=1e-4, atol=1e-5)
    features = small(output_stride=output_stride, features_only=True)
    sizes = [(64 // r, 96 // r) for r in features.feature_info.reduction()]
    assert [tuple(f.shape[-2:]) for f in features(x)] == sizes


def test_an_output_stride_that_is_none_is_refused(small):
    with pytest.raises(ConfigError, match="output_stride must be one of 2, 4, 8, 16, 32, got 7"):
        small(output_stride=7)


@pytest.mark.parametrize("act_layer", ["silu", nn.Hardswish])
def test_other_activations_and_norms_are_taken(act_layer, small, images):
    model = small(act_layer=act_layer, norm_layer="groupnorm1")
    assert model(images).isfinite().all()
    assert not any(isinstance(module, (nn.ReLU, nn.BatchNorm2d)) for module in model.modules())


def test_weights_are_drawn_after_a_stay_on_the_meta_device(small, images):
    model = small(device="meta", dtype=torch.float64).to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
    model.init_weights()
    assert model(images.double()).isfinite().all()


@pytest.mark.parametrize("index", range(LAST + 1))
def test_a_pruned_network_keeps_its_features_and_trains(index, small, images):
    model = small()
    with torch.no_grad():
        taps = model.forward_intermediates(images, intermediates_only=True)
        early = model.forward_intermediates(images, indices=[index], stop_early=True, intermediates_only=True)
        torch.testing.assert_close(early[0], taps[index])
        kept = copy.deepcopy(model)
        kept.prune_intermediate_layers([index], prune_head=False)
        want = model(images) if index == LAST else taps[index]
        torch.testing.assert_close(kept(images), want)
        pruned = copy.deepcopy(model)
        assert pruned.prune_intermediate_layers([index]) == [index]
        torch.testing.assert_close(pruned.forward_features(images), taps[index])
        assert pruned.num_features == pruned.head_hidden_size == taps[index].shape[1]
    pruned.reset_classifier(3, "avg")
    pruned.train()(images).sum().backward()
    assert [name for name, p in pruned.named_parameters() if p.grad is None] == []


def test_features_only_networks_checkpoint_their_gradients(small, images):
    gradients = []
    for enable in (False, True):
        model = small(features_only=True).train()
        model.set_grad_checkpointing(enable)
        sum(f.square().mean() for f in model(images)).backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(checkpointed, plain)


def test_an_unknown_argument_is_a_type_error_that_names_the_nearest():
    with pytest.raises(TypeError, match=r"unknown argument 'drop_path' \(did you mean 'drop_path_rate'\?\)") as caught:
        timm.create_model("gemnet_a", drop_path=0.1)
    assert isinstance(caught.value, UnknownArgumentError)


def test_without_weights_timms_error_says_what_exists():
    with pytest.raises(NoWeightsError, match=r"^No pretrained weights exist for gemnet_a\..*weights"):
        timm.create_model("gemnet_a", pretrained=True)
    with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
        timm.create_model("gemnet_a.no_such_tag")
