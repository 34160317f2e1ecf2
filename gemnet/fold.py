"""Batch norms folded into the convolutions in front of them."""

import copy

from timm.layers import BatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FOLDABLE = (("conv", "bn"), ("conv_pw", "bn"))  # attribute names in timm's conv layers: convolution, norm


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy of the model in eval mode in which each convolution carries its batch norm's scale and shift."""
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        for conv_name, norm_name in FOLDABLE:
            conv, norm = getattr(module, conv_name, None), getattr(module, norm_name, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Sequential(norm.drop, norm.act))
    return folded
