"""The shape of a whole network: how often a cell is stacked, how wide, at which strides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import settings
from .cell import Cell
from .errors import CellError, ConfigError, UnknownNameError
from .ops import get_op

SCHEMA = "gemnet.arch/1"
MERGES = ("sum", "concat")
MAX_DEPTH = 64  # cells in one stage
MAX_WIDTH = 8192  # channels anywhere
MAX_PARAMS = 10**9  # of a network, 4 GB in 32 bit
MAX_OP_NODES = 2048  # nodes over all cells; a solved net has at most 130


@dataclass(frozen=True)
class Stage:
    """A run of cells at one resolution.

    Args:
        depth: number of cells.
        node_chs: channels F of every node.
        out_chs: channels the stage hands on.
        stride: 2 halves the resolution by a 2x2 max-pool at the first cell's input.
    """

    depth: int
    node_chs: int
    out_chs: int
    stride: int = 2

    def __post_init__(self) -> None:
        _check_range("stage.depth", self.depth, 1, MAX_DEPTH)
        _check_range("stage.node_chs", self.node_chs, 1, MAX_WIDTH)
        _check_range("stage.out_chs", self.out_chs, 1, MAX_WIDTH)
        _check_range("stage.stride", self.stride, 1, 2)


@dataclass(frozen=True)
class NetConfig:
    """Everything about a GemNet that its cells do not say.

    Args:
        stem_chs: channels of the 3x3 stem.
        stages: the stages in order.
        head_chs: channels of the 1x1 convolution in front of the pooling.
        stem_stride: 1 or 2.
        merge: how a node takes several predecessors: `sum`, or `concat` in front of the op.
        project: whether the concatenated leaves pass a linear 1x1 convolution to `out_chs`;
            without it `out_chs` must be their total width.
    """

    stem_chs: int
    stages: tuple[Stage, ...]
    head_chs: int
    stem_stride: int = 2
    merge: str = "sum"
    project: bool = True

    def __post_init__(self) -> None:
        _check_range("stem_chs", self.stem_chs, 1, MAX_WIDTH)
        _check_range("head_chs", self.head_chs, 1, MAX_WIDTH)
        _check_range("stem_stride", self.stem_stride, 1, 2)
        _check_range("number of stages", len(self.stages), 1, 8)
        if self.merge not in MERGES:
            raise UnknownNameError("merge", self.merge, MERGES)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "NetConfig":
        """The config a JSON object gives; raises ConfigError or UnknownNameError."""
        return settings.from_dict(cls, data, "net")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal config."""
        return settings.to_dict(self)


def resolve_cells(cells: Cell | Sequence[Cell], net: NetConfig) -> tuple[Cell, ...]:
    """One cell per stage, from one shared cell or one per stage, each checked against `net`.

    Raises:
        CellError: a number of cells that fits no stage count, a cell with an explicit output or
            with a node that the input does not reach, or too many nodes in all.
        UnknownNameError: a cell holds an op that does not exist.
        ConfigError: without projection, `out_chs` is not the total width of the leaves.
    """
    given = (cells,) if isinstance(cells, Cell) else tuple(cells)
    if len(given) not in (1, len(net.stages)):
        raise CellError(f"a network has one cell for all stages or one for each of {len(net.stages)}, got {len(given)}")
    per_stage = given * len(net.stages) if len(given) == 1 else given
    for cell, stage in zip(per_stage, net.stages):
        for op in cell.ops[1:]:
            get_op(op)
        if cell.output:
            raise CellError("a network's cell has no explicit output node; its leaves are the output")
        if cell.prune() != cell:
            raise CellError("the cell has nodes that its input does not reach; prune() drops them")
        width = len(cell.leaves) * stage.node_chs
        if not net.project and width != stage.out_chs:
            raise ConfigError(f"without projection out_chs is the leaves' width {width}, got {stage.out_chs}")
    count = sum(stage.depth * (len(cell.ops) - 1) for cell, stage in zip(per_stage, net.stages))
    if count > MAX_OP_NODES:
        raise CellError(f"the network would have {count} nodes, at most {MAX_OP_NODES} are allowed")
    return per_stage


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ConfigError(f"{name} must be {least} to {most}, got {value}")
