"""Settings that cannot work, found before a search starts instead of as failed trials."""

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
    """Raises ConfigError when there is a list of CUDA devices, and an evaluator that measures elsewhere."""
    device = getattr(parts.evaluator, "device", None)
    if devices and (device is None or _found(device) != "cuda"):
        got = "auto, but torch sees no CUDA device" if device == "auto" else device
        raise ConfigError(f"--devices needs an evaluator on CUDA: --set evaluator.device=cuda; it is {got}")


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


def check_device(parts: Parts) -> None:
    """Raises ConfigError when the evaluator's device is not here, or does not compute in its recipe's precision."""
    device = getattr(parts.evaluator, "device", None) or "cpu"
    found = _found(device)
    precision = getattr(getattr(parts.evaluator, "recipe", None), "precision", "no")
    if found == "cpu" and precision == "fp16":
        raise ConfigError("evaluator.recipe.precision=fp16 needs a GPU; a CPU computes in bf16 or no")
    if found == "cpu":
        return
    import torch

    try:
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"evaluator.device={device}: torch cannot use it here ({reason:.100})") from None


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
