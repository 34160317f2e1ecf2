"""Python, the processor's cores and threads, the GPU."""

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .doctor import BROKEN, NOTE, OK, Finding, pip
from .machine import has_driver

LEAST_PYTHON = (3, 11)
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
THREADS = re.compile(r"( *0*[1-9][0-9]{0,8} *)(,( *0*[1-9][0-9]{0,8} *))*")  # one number for each nested level


def check_python(_environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Its version and its bits."""
    version, least = platform.python_version(), ".".join(map(str, LEAST_PYTHON))
    if sys.version_info[:2] < LEAST_PYTHON:
        fix = f"python{least} -m venv .venv"
        return [Finding("python", BROKEN, f"{version}, but Python {least} or newer is needed", fix)]
    if sys.maxsize < 2**32:
        text = f"{version} of 32 bits, for which there is no PyTorch"
        return [Finding("python", BROKEN, text, "python3 -m venv .venv")]
    return [Finding("python", OK, f"{version} at {sys.executable}")]


def check_threads(environ: Mapping[str, str], stack: Mapping[str, Any]) -> list[Finding]:
    """Threads against the cores that this process may use."""
    cores, allowed = os.cpu_count() or 1, usable_cores()
    limit = f"{allowed} of {cores} cores" if allowed < cores else f"{cores} cores"
    asked, fix = environ.get("OMP_NUM_THREADS"), f"export OMP_NUM_THREADS={allowed}"
    if asked is not None and not THREADS.fullmatch(asked):
        text = f"OMP_NUM_THREADS is {asked!r:.40}, which is no number of threads; libraries then use what they like"
        return [Finding("threads", NOTE, text, fix)]
    threads = int(asked.partition(",")[0]) if asked else stack.get("torch", {}).get("threads", allowed)
    if threads > allowed:
        why = "this process may use" + (f"; the machine has {cores}" if allowed < cores else "")
        text = f"{threads} threads, more than the {allowed} cores {why}: they wait for each other"
        return [Finding("threads", NOTE, text, fix)]
    return [Finding("threads", OK, f"{threads} on {limit}")]


def check_gpu(environ: Mapping[str, str], stack: Mapping[str, Any]) -> list[Finding]:
    """Whether torch can use the GPU there is."""
    torch = stack.get("torch")
    there = has_driver()
    if torch is None:
        return [Finding("gpu", NOTE, "unknown, since torch cannot be imported", "nvidia-smi")]
    if torch["gpus"]:
        return [Finding("gpu", OK, f"{', '.join(torch['gpus'])}, CUDA {torch['cuda']}")]
    if not there:
        return [Finding("gpu", OK, "none; everything runs on the processor")]
    if torch["cuda"] is None:
        text = f"there is one, but torch {torch['version']} is a CPU-only build"
        return [Finding("gpu", NOTE, text, pip("torch", "torchvision", options="--force-reinstall"))]
    hidden = environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        text = f"there is one, but CUDA_VISIBLE_DEVICES={hidden!r:.40} hides it"
        return [Finding("gpu", NOTE, text, "unset CUDA_VISIBLE_DEVICES")]
    why = torch["heard"][-1].splitlines()[0] if torch["heard"] else "it gives no reason"
    return [Finding("gpu", NOTE, f"there is one that torch cannot use: {why:.200}", "nvidia-smi")]


def usable_cores(cgroups: Path = CGROUPS, own: Path = OWN_CGROUP) -> int:
    """How many cores this process may use: those of its affinity, or fewer if its control group says so."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    shares = [share for share in map(_share, _groups(cgroups, own)) if share is not None]
    return max(1, min([affinity, *(-int(-share // 1) for share in shares)]))


def _groups(cgroups: Path, own: Path) -> list[Path]:
    """Folders of the control groups that hold this process, of version 2 and 1."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [cgroups, cgroups / "cpu"]
    for line in lines:
        _, kinds, path = [*line.split(":", 2), "", ""][:3]
        if kinds and "cpu" not in kinds.split(","):
            continue
        top = cgroups / "cpu" if kinds else cgroups
        folder = top / path.strip("/")
        while folder != top:  # a group above may allow less
            found.append(folder)
            folder = folder.parent
    return found


def _share(folder: Path) -> float | None:
    """Cores that a control group may use; None when it has no limit."""
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            files = (folder / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
            quota, period = (file.read_text(encoding="utf-8") for file in files)
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None
