"""Depths and widths of a network, solved together for a number of MACs.

A `Macro` names the form of a network: resolution of its stages, their relative widths and the depths
that may be tried. `solve` takes the deepest that keeps the network fast (few nodes) and its stages
wide enough, then scales all widths to just below the target. Merge, depths and limits were fixed by
a latency pilot (`benchmarks/latency_pilot.py`, figures in `zoo/results/latency_pilot.json`): summing was
at least as fast per MAC as concatenating in 13 of 16 forms, and more nodes and widths below 16 cost
time (0.91 of mobilenetv2_100 at 28 nodes in all, up to 1.19 at 116). Widths at 224 px are multiples of 16, since
a processor's vectors hold 16 channels and the rest of one is computed in vain (`benchmarks/fuse.py`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .cell import Cell
from .config import MAX_WIDTH, NetConfig, Stage
from .cost import cost
from .errors import CellError, UnknownNameError


@dataclass(frozen=True)
class Macro:
    """The form of a network, before its depths and widths are solved.

    Args:
        img_size: side of the images that MACs are counted at.
        num_classes: outputs of the classifier that MACs are counted with.
        stem_chs, stem_stride, head_chs: as in `NetConfig`; `head_chs` 0 means the last stage's width.
        strides: of the stages.
        widths: of the stages, relative to each other.
        least_widths: of the stages; narrower ones make poor use of a processor.
        depths: cells per stage, from the shallowest to the deepest form.
        divisor: widths are multiples of this.
        aim_op_nodes: no depth beyond the shallowest is taken that has more nodes over all cells.
        max_op_nodes: a cell that exceeds it even in the shallowest form is refused.
    """

    img_size: int
    num_classes: int
    stem_chs: int
    stem_stride: int
    head_chs: int
    strides: tuple[int, ...]
    widths: tuple[int, ...]
    least_widths: tuple[int, ...]
    depths: tuple[tuple[int, ...], ...]
    divisor: int = 8
    aim_op_nodes: int = 64
    max_op_nodes: int = 130


SMALL_DEPTHS = ((1, 1, 1), (1, 2, 1), (1, 2, 2), (2, 2, 2), (2, 3, 3), (3, 4, 4), (4, 5, 5), (5, 6, 6))
MACROS: dict[str, Macro] = {
    "proxy": Macro(32, 10, 16, 1, 0, (1, 2, 2), (16, 32, 64), (4, 4, 4), ((1, 1, 1),), divisor=4),
    "small": Macro(32, 10, 32, 1, 0, (1, 2, 2), (16, 32, 64), (8, 16, 16), SMALL_DEPTHS),
    "imagenet": Macro(
        224, 1000, 32, 2, 1280, (2, 2, 2, 2), (24, 48, 112, 192), (16, 16, 16, 16),
        ((1, 1, 1, 1), (1, 1, 2, 1), (1, 2, 2, 1), (1, 2, 3, 1), (1, 2, 3, 2), (1, 2, 4, 2), (1, 3, 4, 3)), 16,
    ),
}  # fmt: skip


def get_macro(name: str) -> Macro:
    """The macro of that name; raises UnknownNameError."""
    if name not in MACROS:
        raise UnknownNameError("macro", name, MACROS)
    return MACROS[name]


@lru_cache(maxsize=512)
def solve(
    cell: Cell, macro: str | Macro, macs: int, merge: str = "sum",
    img_size: int | tuple[int, int] | None = None, in_chans: int = 3, num_classes: int | None = None,
) -> NetConfig:  # fmt: skip
    """The network of a macro with at most `macs` MACs, as deep and then as wide as they allow.

    Args:
        cell: the cell of all stages.
        macro: key of `MACROS`, or a form of one's own.
        macs: MACs of one image, classifier included.
        merge: as in `NetConfig`.
        img_size: side, or height and width, of the images; the macro's own when None.
        in_chans: channels of the images.
        num_classes: outputs of the classifier; the macro's own when None.

    Raises:
        UnknownNameError: no such macro.
        CellError: the cell has too many nodes for the macro, or cannot be made that small.
    """
    form = get_macro(macro) if isinstance(macro, str) else macro
    size = img_size or form.img_size
    classes = form.num_classes if num_classes is None else num_classes

    def count(net: NetConfig) -> int:
        return cost(cell, net, size, in_chans, classes).macs

    op_nodes = len(cell.ops) - 1
    allowed = [depths for depths in form.depths if sum(depths) * op_nodes <= form.aim_op_nodes] or [form.depths[0]]
    if sum(allowed[0]) * op_nodes > form.max_op_nodes:
        raise CellError(
            f"a cell of {op_nodes} op nodes is too large for this macro: the shallowest form would have "
            f"{sum(form.depths[0]) * op_nodes} nodes, at most {form.max_op_nodes} are allowed"
        )
    for depths in reversed(allowed):
        least = _net(form, depths, form.least_widths, merge)
        if count(least) <= macs:
            break
    else:
        raise CellError(
            f"the cell cannot be made as small as {macs / 1e6} M MACs: "
            f"at its least widths {list(form.least_widths)} it has {count(least) / 1e6} M"
        )
    low, high = 0.0, MAX_WIDTH / 2 / max(form.widths)
    for _ in range(24):  # widths are rounded, so this is far below one step of any width
        scale = (low + high) / 2
        low, high = (scale, high) if count(_scaled(form, depths, scale, merge)) <= macs else (low, scale)
    net = _scaled(form, depths, low, merge)
    return _fill(form, net, depths, merge, lambda wider: count(wider) <= macs)


def _scaled(form: Macro, depths: Sequence[int], scale: float, merge: str) -> NetConfig:
    widths = [
        max(least, int(scale * width / form.divisor) * form.divisor)
        for width, least in zip(form.widths, form.least_widths)
    ]
    return _net(form, depths, widths, merge)


def _fill(
    form: Macro, net: NetConfig, depths: Sequence[int], merge: str, fits: Callable[[NetConfig], bool]
) -> NetConfig:
    """Widens single stages, the relatively narrowest first, while the network still fits."""
    open_stages = set(range(len(depths)))
    while open_stages:
        widths = [stage.node_chs for stage in net.stages]
        narrowest = min(open_stages, key=lambda k: (widths[k] / form.widths[k], k))
        widths[narrowest] += form.divisor
        wider = _net(form, depths, widths, merge) if 2 * widths[narrowest] <= MAX_WIDTH else net
        if wider != net and fits(wider):
            net = wider
        else:
            open_stages.discard(narrowest)
    return net


def _net(form: Macro, depths: Sequence[int], widths: Sequence[int], merge: str) -> NetConfig:
    stages = tuple(Stage(d, w, 2 * w, s) for d, w, s in zip(depths, widths, form.strides))
    head_chs = form.head_chs or stages[-1].out_chs
    return NetConfig(form.stem_chs, stages, head_chs, form.stem_stride, merge)
