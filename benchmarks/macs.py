"""Multiply-adds as torch counts them."""

from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_macs(model: nn.Module, *inputs: Any) -> int:
    """Multiply-adds of one evaluation of these inputs, of convolutions and matrix products alone."""
    training = model.training
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(*inputs)
    model.train(training)
    return int(counter.get_total_flops()) // 2
