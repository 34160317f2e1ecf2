"""Settings that cannot work, found before a search starts instead of as failed trials."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from gemnet.errors import ConfigError, GemnetError

from .compose import Parts
from .limits import NAMES

if TYPE_CHECKING:
    import numpy as np

CELLS = 256
METRICS = dict(zip(NAMES, ("macs", "params", "peak_acts")))


def check(parts: Parts) -> None:
    """Raises unless some random architecture can be built and keeps the limits.

    Raises:
        GemnetError: no random cell can be built; as its cost raises it.
        ConfigError: no random cell keeps a limit.
    """
    if callable(getattr(parts.evaluator, "cost", None)):
        _check_limits(parts, _costs(parts))


def check_devices(parts: Parts, devices: Sequence[str]) -> None:
    """Raises ConfigError for a list of CUDA devices beside an evaluator that measures elsewhere, or of absent ones."""
    device = getattr(parts.evaluator, "device", None)
    if devices and (device is None or _found(device) != "cuda"):
        got = "auto, but torch sees no CUDA device" if device == "auto" else device
        raise ConfigError(f"--devices needs an evaluator on CUDA: --set evaluator.device=cuda; it is {got}")
    if numbers := _numbers(devices):
        import torch

        count = torch.cuda.device_count()
        absent = next((number for number in numbers if number >= count), None)
        if absent is not None:
            raise ConfigError(f"--devices names the CUDA device {absent}, but torch sees {count}, numbered from 0")


def _costs(parts: Parts) -> list[Any]:
    found, first = [], None
    for arch in parts.space.sample(CELLS, generator()):
        try:
            found.append(parts.evaluator.cost(arch))  # type: ignore[attr-defined]
        except GemnetError as error:
            first = first or error
    if first is not None and not found:
        raise first
    return found


def _check_limits(parts: Parts, costs: Sequence[Any]) -> None:
    for name, metric in METRICS.items():
        limit, least = getattr(parts.objective, name), min(getattr(cost, metric) for cost in costs)
        if limit is not None and least > limit:
            raise ConfigError(
                f"objective.{name}={limit}: none of {len(costs)} random cells keeps it, the least is {least}; "
                "raise it, or make the cells or the evaluator's networks smaller"
            )


def check_device(parts: Parts, devices: Sequence[str] = ()) -> None:
    """Raises ConfigError when the evaluator's device is not here, or does not compute in its recipe's precision.

    Of a list of CUDA devices the first is tried.
    """
    device = getattr(parts.evaluator, "device", None) or "cpu"
    found = _found(device)
    precision = getattr(getattr(parts.evaluator, "recipe", None), "precision", "no")
    if found == "cpu" and precision == "fp16":
        raise ConfigError("evaluator.recipe.precision=fp16 needs a GPU; a CPU computes in bf16 or no")
    if found == "cpu":
        return
    import torch

    try:
        numbers = _numbers(devices)
        torch.zeros(1, device=f"cuda:{numbers[0]}" if numbers else found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"evaluator.device={device}: torch cannot use it here ({reason:.100})") from None


def _numbers(devices: Sequence[str]) -> list[int]:
    """The listed devices as torch numbers them; empty where names or `CUDA_VISIBLE_DEVICES` make that unknown."""
    known = "CUDA_VISIBLE_DEVICES" not in os.environ and all(name.isdecimal() for name in devices)
    return [int(name) for name in devices] if known else []


def _found(device: str) -> str:
    """The device that training makes of a name here: of `auto` a GPU where there is one and else the CPU."""
    if device != "auto":
        return device
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found else "cpu"


def generator() -> "np.random.Generator":
    """Draws the same for every check."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=0))
