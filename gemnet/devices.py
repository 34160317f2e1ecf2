"""Where a training runs: one CPU, one GPU, or the processes that `accelerate launch` or `torchrun` started."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState

from .errors import ConfigError
from .machine import DEVICES


def accelerator(device: str | torch.device = "auto", precision: str = "no", accumulate: int = 1) -> Accelerator:
    """An accelerator of a device.

    Args:
        device: `auto` is a GPU where there is one and else the CPU; a launched process has its own.
        precision: as in `Recipe`.
        accumulate: micro-batches per step and process.

    Raises:
        ConfigError: the device is not there, or cannot compute in that precision.
    """
    name = str(device)
    if name not in DEVICES:
        raise ConfigError(f"device is {name!r}, allowed is {', '.join(DEVICES)}; CUDA_VISIBLE_DEVICES chooses a GPU")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch sees no CUDA device; ask for auto or cpu")
    if PartialState._shared_state and PartialState().num_processes == 1:
        # accelerate remembers the first device and precision of a process; each training here has its own
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    # without cpu=True, accelerate takes processes launched on a machine without a GPU for so many single ones
    cpu = name == "cpu" or (name == "auto" and not torch.accelerator.is_available())
    made = Accelerator(cpu=cpu, mixed_precision=precision, gradient_accumulation_steps=accumulate)
    if precision == "fp16" and made.device.type == "cpu":
        raise ConfigError("precision fp16 needs a GPU; a CPU computes in bf16 or no")
    return made


@contextmanager
def tuned(device: torch.device) -> Iterator[None]:
    """A block in which a GPU tries out which of its convolutions is fastest for each size; as before afterwards."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
