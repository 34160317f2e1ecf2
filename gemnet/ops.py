"""The ops a node can hold: what they compute and what they cost.

Every convolving op is convolution, batch norm, activation, without bias (`sepconv` is a depthwise
convolution followed by a 1x1 one, with one norm and activation behind both).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import UnknownNameError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Conv:
    """One convolution, as the cost model sees it: channels, square kernel, groups."""

    in_chs: int
    out_chs: int
    kernel_size: int = 1
    groups: int = 1

    @property
    def weights(self) -> int:
        """Number of weights, which is also the number of MACs per output position."""
        return self.in_chs // self.groups * self.out_chs * self.kernel_size**2


@dataclass(frozen=True)
class Op:
    """What an op name stands for.

    Args:
        kind: `sepconv`, `conv`, `maxpool` or `identity`.
        kernel_size: side of the square window.
    """

    kind: str
    kernel_size: int = 1

    def convs(self, in_chs: int, out_chs: int) -> tuple[Conv, ...]:
        """The op's convolutions in order; a pool or identity needs one only to change the width."""
        if self.kind == "sepconv":
            return Conv(in_chs, in_chs, self.kernel_size, in_chs), Conv(in_chs, out_chs)
        if self.kind == "conv":
            return (Conv(in_chs, out_chs, self.kernel_size),)
        return () if in_chs == out_chs else (Conv(in_chs, out_chs),)


OPS: dict[str, Op] = {
    "sepconv3x3": Op("sepconv", 3),
    "sepconv5x5": Op("sepconv", 5),
    "conv1x1": Op("conv", 1),
    "maxpool3x3": Op("maxpool", 3),
    "identity": Op("identity"),
}


def get_op(name: str) -> Op:
    """The op of that name; raises UnknownNameError, which names the nearest."""
    if name not in OPS:
        raise UnknownNameError("op", name, OPS)
    return OPS[name]


def create_op(name: str, in_chs: int, out_chs: int, dilation: int = 1, **layers: Any) -> "nn.Module":
    """A module that maps [N, in_chs, H, W] to [N, out_chs, H, W].

    Args:
        name: key of `OPS`.
        in_chs, out_chs: channels.
        dilation: of the window.
        layers: `norm_layer`, `act_layer`, `device`, `dtype`, as timm's conv layers take them.

    Raises:
        UnknownNameError: no such op.
    """
    from timm.layers import ConvNormAct, SeparableConvNormAct
    from torch import nn  # here, since costs are counted without torch

    op = get_op(name)
    if op.kind == "sepconv":
        return SeparableConvNormAct(in_chs, out_chs, op.kernel_size, dilation=dilation, **layers)
    if op.kind == "conv":
        return ConvNormAct(in_chs, out_chs, op.kernel_size, dilation=dilation, **layers)
    parts: list[nn.Module] = []
    if op.kind == "maxpool":
        padding = dilation * (op.kernel_size // 2)
        parts.append(nn.MaxPool2d(op.kernel_size, stride=1, padding=padding, dilation=dilation))
    if in_chs != out_chs:
        parts.append(ConvNormAct(in_chs, out_chs, 1, apply_act=False, **layers))
    return nn.Sequential(*parts) if len(parts) != 1 else parts[0]
