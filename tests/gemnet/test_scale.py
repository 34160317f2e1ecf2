from dataclasses import replace

import pytest

from gemnet.catalog import FAMILY, find_cell
from gemnet.cell import Cell
from gemnet.cost import cost
from gemnet.errors import CellError, UnknownNameError
from gemnet.scale import MACROS, solve

OPS = ("sepconv3x3", "conv1x1")


@pytest.mark.parametrize("merge", ["sum", "concat"])
@pytest.mark.parametrize(
    ("macro", "macs"), [("imagenet", 240e6), ("imagenet", 455e6), ("small", 40e6), ("small", 300e6), ("proxy", 12e6)]
)
def test_solved_networks_use_their_macs_and_keep_the_limits(macro, macs, merge, cell_of, rng):
    form = MACROS[macro]
    for _ in range(4):
        cell = cell_of(rng.randint(5, 30), ops=OPS)
        net = solve(cell, macro, int(macs), merge)
        price = cost(cell, net, form.img_size, 3, form.num_classes)
        assert 0.8 * macs < price.macs <= macs
        assert sum(stage.depth for stage in net.stages) * (len(cell.ops) - 1) <= form.max_op_nodes
        assert all(stage.node_chs % form.divisor == 0 for stage in net.stages)
        assert all(stage.node_chs >= least for stage, least in zip(net.stages, form.least_widths))


def test_no_single_stage_could_be_wider(shrinkcnn):
    net, step = solve(shrinkcnn, "imagenet", 240_000_000), MACROS["imagenet"].divisor
    for k, stage in enumerate(net.stages):
        wider = replace(stage, node_chs=stage.node_chs + step, out_chs=stage.out_chs + 2 * step)
        stages = (*net.stages[:k], wider, *net.stages[k + 1 :])
        head = net.head_chs
        assert cost(shrinkcnn, replace(net, stages=stages, head_chs=head)).macs > 240_000_000


def test_small_cells_are_stacked_deeper(chain, cell_of):
    def depth(cell):
        return sum(stage.depth for stage in solve(cell, "imagenet", 240_000_000).stages)

    assert depth(chain) > depth(cell_of(12, ops=OPS)) >= depth(cell_of(30, ops=OPS)) == 4


def test_a_cell_with_too_many_nodes_is_refused(cell_of):
    with pytest.raises(CellError, match="at most 130 are allowed"):
        solve(cell_of(40, ops=OPS), "imagenet", 240_000_000)


def test_a_target_that_cannot_be_met_is_refused_with_the_least_possible(cell_of):
    for macs, shown in ((1, "1e-06"), (100, r"0\.0001")):
        with pytest.raises(CellError, match=rf"as small as {shown} M MACs: at its least .* it has \d+\.\d+ M"):
            solve(cell_of(3, ops=OPS), "imagenet", macs)
    with pytest.raises(CellError, match=r"cannot be made as small as 1\.0 M MACs: at its least widths"):
        solve(cell_of(30, ops=OPS), "imagenet", 1_000_000)


def test_a_huge_target_ends_at_the_widest_network(chain):
    assert solve(chain, "proxy", 10**15).stages[-1].out_chs <= 8192


def test_an_unknown_macro_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'small'"):
        solve(Cell(("input", "conv1x1"), ((0, 1),)), "smal", 10**6)


@pytest.mark.parametrize("name", FAMILY)
def test_registered_networks_have_the_macs_they_promise(name):
    variant = FAMILY[name]
    form = MACROS[variant.macro]
    price = cost(find_cell(variant.cell), variant.net(), form.img_size, 3, form.num_classes)
    assert 0.94 * variant.macs < price.macs <= variant.macs
