"""What processes inherit: how many threads numerical libraries use (the same count gives the same bits), and a GPU."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
DEVICES = "CUDA_VISIBLE_DEVICES"
LIBRARIES = {"numpy", "scipy.linalg", "torch"}  # that bring thread pools


@contextmanager
def environment_threads(count: int) -> Iterator[None]:
    """Within it, new processes and libraries loaded for the first time use `count` threads."""
    with _environment(dict.fromkeys(VARIABLES, str(count))):
        yield


@contextmanager
def visible_device(device: str | None) -> Iterator[None]:
    """Within it, new processes see one CUDA device alone, as `cuda:0`; all of them when None."""
    with _environment({} if device is None else {DEVICES: device}):
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within it torch, and numpy's linear algebra, use `count` threads, whether they are loaded already or not yet."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(count)
    try:
        with environment_threads(count), _pools(frozenset(LIBRARIES & sys.modules.keys())).limit(limits=count):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)


def default_threads() -> int:
    """Threads for the driver's own training: the processors it may use, at most 4."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return max(1, min(4, len(usable)))


@lru_cache(maxsize=8)
def _pools(_: frozenset[str]) -> "ThreadpoolController":
    """Thread pools of the process when it had these libraries loaded; to find them takes 5 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
