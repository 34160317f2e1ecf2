"""The machine that something ran on, as results name it; what is heavy is imported only where it is needed."""

import platform
import shutil
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from . import __version__

DEVICES = ("auto", "cpu", "cuda")  # where a training may be told to run; see `gemnet.devices`
ABSENT = "nothing"  # version of a package that is not installed
CPUINFO = Path("/proc/cpuinfo")
DRIVER = Path("/proc/driver/nvidia/version")


@cache
def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def system() -> dict[str, str]:
    """The operating system, the architecture and the processor."""
    return {"system": sys.platform, "machine": platform.machine(), "model": processor()}


def gpus() -> dict[str, Any]:
    """Names of the GPUs that torch can use, and its `cuda` and `cudnn`; an empty object where there is none.

    Where nothing has imported torch and there is no driver, torch is not imported either, which would take seconds.
    """
    if "torch" not in sys.modules and not has_driver():
        return {}
    import torch

    if not torch.cuda.is_available():
        return {}
    try:
        names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    except RuntimeError:  # busy, or broken: whoever needs it will say so
        return {}
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return {"gpus": names, "cuda": torch.version.cuda, "cudnn": cudnn}


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed."""
    return DRIVER.exists() or shutil.which("nvidia-smi") is not None


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of this package, of Python and of others; `ABSENT` for one that is not installed."""
    from importlib import metadata

    found = {"gemnet": __version__, "python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ABSENT
    return found
