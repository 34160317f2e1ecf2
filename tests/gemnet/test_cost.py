import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from gemnet.catalog import FAMILY, resolve
from gemnet.config import NetConfig, Stage
from gemnet.cost import cost
from gemnet.errors import CellError, ConfigError, UnknownNameError
from gemnet.fold import fold_batch_norm
from gemnet.network import GemNet
from gemnet.scale import MACROS, solve


def counted(cell, net, size, in_chans, num_classes):
    """MACs and parameters as torch counts them, on the meta device."""
    with torch.device("meta"):
        model = GemNet(cell, net, num_classes=num_classes, in_chans=in_chans).eval()
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, in_chans, *size))
    return counter.get_total_flops() / 2, sum(p.numel() for p in model.parameters())


def shrinkcnn_net() -> NetConfig:
    shape = zip((1, 3, 4, 6, 4), (12, 24, 44, 88, 180), (1, 2, 2, 2, 2))
    stages = tuple(Stage(depth, chs, 2 * chs, stride) for depth, chs, stride in shape)
    return NetConfig(44, stages, 1280, merge="concat", project=False)


def test_shrinkcnn_has_its_published_size(shrinkcnn):
    """3.60 M weights of convolutions and classifier, 383.7 M MACs (published for 1001 classes)."""
    net = shrinkcnn_net()
    price = cost(shrinkcnn, net, 224, 3, 1001)
    with torch.device("meta"):
        model = GemNet(shrinkcnn, net, num_classes=1001)
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert round(weights / 1e6, 2) == 3.60
    assert round(price.macs / 1e6, 1) == 383.7


def assert_counts_agree(macro, cells):
    form = MACROS[macro]
    target = {"small": 40_000_000, "imagenet": 240_000_000}[macro]
    for k, cell in enumerate(cells):
        net = solve(cell, macro, target, merge=("sum", "concat")[k % 2])
        price = cost(cell, net, form.img_size, 3, form.num_classes)
        assert counted(cell, net, (form.img_size,) * 2, 3, form.num_classes) == (price.macs, price.params)


@pytest.mark.parametrize("macro", ["small", "imagenet"])
def test_macs_equal_torch_flop_counter_for_10_random_cells(macro, cell_of, rng):
    assert_counts_agree(macro, [cell_of(rng.randint(3, 30), ops=("sepconv3x3", "conv1x1")) for _ in range(10)])


@pytest.mark.slow
@pytest.mark.parametrize("macro", ["small", "imagenet"])
def test_macs_equal_torch_flop_counter_for_100_other_cells(macro, cell_of, rng):
    rng.seed(1)
    assert_counts_agree(macro, [cell_of(rng.randint(3, 30), ops=("sepconv3x3", "conv1x1")) for _ in range(100)])


@pytest.mark.parametrize("merge", ["sum", "concat"])
def test_every_op_and_odd_sizes_are_counted(merge, cell_of, rng):
    net = NetConfig(12, (Stage(2, 8, 20, 1), Stage(2, 16, 32, 2), Stage(1, 12, 24, 2)), 40, 2, merge)
    for _ in range(10):
        cell = cell_of(rng.randint(2, 12))
        price = cost(cell, net, (45, 38), 1, 7)
        assert counted(cell, net, (45, 38), 1, 7) == (price.macs, price.params)


def test_activations_are_the_outputs_of_convolutions_and_classifier(chain):
    net = NetConfig(8, (Stage(1, 8, 16, 2),), 24, stem_stride=1)
    model = GemNet(chain, net, num_classes=5)
    total = 0

    def add(_module, _inputs, output):
        nonlocal total
        total += output.numel()

    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(add)
    model.eval()(torch.zeros(1, 3, 16, 16))
    assert cost(chain, net, 16, 3, 5).acts == total


def test_peak_activations_of_a_chain_are_counted_by_hand(chain):
    net = NetConfig(4, (Stage(1, 2, 4, 1),), 4, stem_stride=1)
    area = 8 * 8
    # widest moment: x and the shortcut's sum (4 + 4 + 4) after projection, against the second sepconv's
    # x (4), its input (2), depthwise (2) and pointwise (2) outputs
    assert cost(chain, net, 8, 1, 2).peak_acts == 3 * 4 * area


class LiveMaps(TorchDispatchMode):
    """Counts the elements of feature maps alive, and their peak; the image counts until it was read."""

    def __init__(self, model: torch.nn.Module, image: torch.Tensor) -> None:
        super().__init__()
        self.known = {value.untyped_storage()._cdata for value in [*model.state_dict().values(), image]}
        self.now = self.peak = image.numel()
        self.image = image.numel()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            storage = value.untyped_storage() if isinstance(value, torch.Tensor) and value.is_floating_point() else None
            if storage is not None and storage._cdata not in self.known:  # a pool's indices are no feature map
                self.known.add(storage._cdata)
                self.now += value.numel()
                weakref.finalize(value, self._free, storage._cdata, value.numel())
        self.peak = max(self.peak, self.now)
        self.now, self.image = self.now - self.image, 0
        return out

    def _free(self, storage, elements):
        self.known.discard(storage)
        self.now -= elements


def live_peak(model: torch.nn.Module, size: int) -> int:
    image = torch.zeros(1, 3, size, size)
    folded = fold_batch_norm(model)  # norms work in place, as the cost model has it
    with torch.no_grad(), LiveMaps(folded, image) as live:
        folded(image)
    return live.peak


@pytest.mark.parametrize("name", FAMILY)
def test_peak_activations_of_registered_networks_are_what_is_alive(name):
    cell, net, macro = resolve(name)
    size = MACROS[macro].img_size
    assert live_peak(GemNet(cell, net), size) == pytest.approx(cost(cell, net, size).peak_acts, rel=0.05)


@pytest.mark.parametrize("merge", ["sum", "concat"])
def test_peak_activations_of_random_networks_are_what_is_alive(merge, cell_of, rng):
    """Depths, widths and strides are drawn too: cells that repeat, shortcuts with and without a convolution."""
    for _ in range(12):
        stages = tuple(
            Stage(rng.randint(1, 4), rng.choice([8, 24]), rng.choice([8, 16, 64]), rng.choice([1, 2]))
            for _ in range(rng.randint(1, 3))
        )
        net = NetConfig(rng.choice([8, 64]), stages, rng.choice([16, 256]), rng.choice([1, 2]), merge)
        cell = cell_of(rng.randint(2, 12), ops=("sepconv3x3", "conv1x1", "maxpool3x3"))
        price = cost(cell, net, 16, num_classes=10)
        assert live_peak(GemNet(cell, net, num_classes=10), 16) == pytest.approx(price.peak_acts, rel=0.05)


def test_an_identity_counts_as_a_copy(cell_of, rng):
    net = NetConfig(16, (Stage(2, 16, 32, 1),), 16, stem_stride=1)
    for _ in range(4):
        cell = cell_of(rng.randint(3, 8), ops=("identity", "conv1x1"))
        assert live_peak(GemNet(cell, net, num_classes=10), 16) <= cost(cell, net, 16, num_classes=10).peak_acts


def test_an_image_smaller_than_the_strides_is_refused(chain):
    net = NetConfig(8, (Stage(1, 8, 16), Stage(1, 8, 16), Stage(1, 8, 16)), 8)
    with pytest.raises(ConfigError, match="too small"):
        cost(chain, net, 8)


def test_cells_that_fit_no_network_are_refused(chain):
    from gemnet.cell import Cell

    net = NetConfig(8, (Stage(1, 8, 16), Stage(1, 8, 16)), 8)
    with pytest.raises(CellError, match="one for each of 2, got 3"):
        cost([chain] * 3, net)
    with pytest.raises(UnknownNameError, match=r"unknown op 'sepconv3'.*did you mean 'sepconv"):
        cost(Cell(("input", "sepconv3"), ((0, 1),)), net)
    with pytest.raises(CellError, match="input does not reach"):
        cost(Cell(("input", "conv1x1", "conv1x1"), ((0, 1),)), net)
    with pytest.raises(CellError, match="no explicit output"):
        cost(Cell(("input", "conv1x1"), ((0, 1),), output=True), net)
    with pytest.raises(ConfigError, match="leaves' width 8, got 16"):
        cost(chain, NetConfig(8, (Stage(1, 8, 16),), 8, project=False))
    deep = Cell(("input",) + ("conv1x1",) * 60, tuple((j - 1, j) for j in range(1, 61)))
    with pytest.raises(CellError, match="at most 2048"):
        cost(deep, NetConfig(8, (Stage(40, 8, 16),), 8))
