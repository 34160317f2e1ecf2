"""Who measures: this process, local processes, or a Ray cluster."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gemnet.errors import ConfigError
from gemnet.stopping import Stop

from .evaluators import Evaluator
from .record import Limits
from .workers import Outcome, Pool, Task

LOCAL, RAY = "local", "ray"
MOST = 1024


@dataclass(frozen=True)
class Workforce:
    """How many measure where; results do not depend on it.

    Args:
        count: local processes, 0 for this process; with Ray, what the cluster has room for.
        kind: `"local"` or `"ray"`.
        devices: CUDA devices, dealt out to local workers in turn, so that 4 workers on 2 devices are 2 on each.
        cpus, gpus: processors and (shares of) GPUs that Ray keeps for one trial.

    Raises:
        ConfigError: a number out of its range, or devices without processes of their own.
    """

    count: int = 0
    kind: str = LOCAL
    devices: tuple[str, ...] = ()
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.count <= MOST:
            raise ConfigError(f"--workers: expected 0 to {MOST}, got {self.count}")
        if self.cpus <= 0 or self.gpus < 0:
            got = f"{self.cpus:g} and {self.gpus:g}"
            raise ConfigError(f"--cpus and --gpus: expected more than 0 processors and 0 or more GPUs, got {got}")
        if self.devices and (self.kind != LOCAL or not self.count):
            raise ConfigError("a list of devices needs local workers, such as --workers 2; Ray deals out its own GPUs")

    @property
    def here(self) -> int:
        """Processes on this machine."""
        return self.count if self.kind == LOCAL else processors()


class AnyPool(Protocol):
    """Measures tasks; see `gemnet.search.workers.Pool`."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]: ...
    def close(self) -> None: ...


def as_workforce(workers: "int | Workforce") -> Workforce:
    """A workforce; a number stands for so many local processes."""
    return workers if isinstance(workers, Workforce) else Workforce(workers)


def open_pool(evaluator: Evaluator, workforce: Workforce, limits: Limits, stop: Stop) -> AnyPool:
    """The pool of a workforce; workers start when there is something to measure."""
    if workforce.kind == RAY:
        from .ray_workers import RayPool

        pool: AnyPool = RayPool(
            evaluator, workforce.cpus, workforce.gpus, limits.retries, limits.time_limit_s, stop
        )
        return pool
    return Pool(evaluator, workforce.count, limits.retries, limits.time_limit_s, workforce.devices, stop)


def processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
