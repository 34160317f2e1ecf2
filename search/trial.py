"""What a search measures: an architecture, one measurement of it, and the names both go by."""

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

DONE, FAILED, INFRA = "done", "failed", "failed:infra"
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


class Arch(Protocol):
    """An architecture: anything with a key that equal architectures share, and a JSON form."""

    @property
    def key(self) -> str: ...

    def to_dict(self) -> dict[str, Any]: ...


A = TypeVar("A", bound=Arch)


@dataclass(frozen=True)
class Trial:
    """One measurement of one architecture.

    Args:
        key: sha256 of the architecture's key, the evaluator's fingerprint and the repeat.
        arch: the architecture's JSON form.
        arch_key: the architecture's key.
        status: `"done"`, `"failed"` (by itself) or `"failed:infra"` (time-outs, dead workers, memory, GPUs).
        metrics: what was measured: `val_acc` in [0, 1], `macs`, `params`, ...; empty unless done.
        seed: the seed it was measured with.
        repeat: 0 for the first measurement of an architecture, 1 for the second, ...
        error: why it failed, None when done.
    """

    key: str
    arch: dict[str, Any]
    arch_key: str
    status: str
    metrics: dict[str, float]
    seed: int
    repeat: int = 0
    error: str | None = None

    @property
    def done(self) -> bool:
        """True when the trial has metrics."""
        return self.status == DONE


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, no NaN."""
    return _ENCODER.encode(value)


def digest(*values: Any) -> str:
    """sha256 (hex) of the canonical JSON text of some values."""
    return hashlib.sha256(canonical(values).encode()).hexdigest()


def trial_key(arch_key: str, fingerprint: str, repeat: int) -> str:
    """sha256 (hex) that names the measurement `repeat` of an architecture by an evaluator."""
    return digest("trial", arch_key, fingerprint, repeat)


def trial_seed(seed: int, key: str) -> int:
    """The seed in [0, 2^32) of a trial, from the study's seed and the trial's key alone."""
    return int(digest("seed", seed, key)[:8], 16)


def inputs_digest(values: Iterable[Any]) -> str:
    """sha256 (hex) of what an artifact is made of: trials, architectures, folders or JSON values.

    Of a trial its key, status and metrics count, but not times (metrics whose name ends in `_s`);
    of a folder or file, the bytes.
    """
    return digest([_plain(value) for value in values])


def best_of(trials: Iterable[Trial], scores: Iterable[float]) -> Trial | None:
    """The first finished trial of the architecture with the highest mean score; None without any."""
    groups: dict[str, list[tuple[Trial, float]]] = {}
    for trial, score in zip(trials, scores):
        if trial.done and math.isfinite(score):
            groups.setdefault(trial.arch_key, []).append((trial, score))
    if not groups:
        return None
    means = {key: sum(score for _, score in group) / len(group) for key, group in groups.items()}
    return groups[max(means, key=lambda key: means[key])][0][0]


def _plain(value: Any) -> Any:
    if isinstance(value, Trial):
        metrics = {name: number for name, number in value.metrics.items() if not name.endswith("_s")}
        return [value.key, value.status, metrics]
    if isinstance(value, Path):
        files = sorted(file for file in value.rglob("*") if file.is_file()) if value.is_dir() else [value]
        return [[str(file.relative_to(value)), hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.to_dict() if hasattr(value, "to_dict") else value
