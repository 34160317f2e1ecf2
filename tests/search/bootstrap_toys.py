"""Work for processes that may misbehave, importable by name in them."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemnet.errors import ConfigError
from gemnet.search import wl
from gemnet.search.graphs import GraphBatch


@dataclass(frozen=True)
class Steps:
    """Predicts the number of leaves."""

    def __call__(self, graphs: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        return graphs.leaves.sum(1).astype(np.float64), np.zeros(len(graphs))


@dataclass(frozen=True)
class Counting:
    """Limits that graphs with an even hash keep."""

    text: str = "even"
    slow: bool = False

    def __call__(self, graphs: GraphBatch) -> np.ndarray:
        return wl.graph_hash(graphs) % np.uint64(2) == 0


@dataclass(frozen=True)
class Lag:
    """Answers with the piece and the hint; every third piece takes longer."""

    def __call__(self, number: int, hint: int) -> tuple[int, int]:
        time.sleep(0.02 * (number % 3 == 0))
        return number, hint


@dataclass(frozen=True)
class Fails:
    """Answers with its process, but for one piece."""

    how: str
    at: int

    def __call__(self, number: int, hint: Any) -> int:
        if number == self.at and self.how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.at and self.how == "refuses":
            raise ConfigError(f"piece {number} is refused")
        if number == self.at and self.how == "hangs":
            time.sleep(60)
        return os.getpid() // (number != self.at or self.how != "divides")

    def __reduce__(self) -> tuple[Any, ...]:
        return (int, ("no number",)) if self.how == "unreadable" else (Fails, (self.how, self.at))


def running(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
