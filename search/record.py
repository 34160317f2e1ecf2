"""study.json: what a study was started with, written once."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemnet.durable import file_sha256
from gemnet.errors import ConfigError, StudyError
from gemnet.machine import ABSENT, gpus, system, versions
from gemnet.settings import from_dict, to_dict

from .threads import default_threads

SCHEMA = "gemnet.study/1"
FILE = "study.json"
PACKAGES = ("torch", "torchvision", "timm", "torch-geometric", "numpy", "scipy")


@dataclass(frozen=True)
class Limits:
    """What a study puts up with; the `study` section of its settings.

    Args:
        max_failed_share: the search stops when more than this share of a phase's trials failed.
        retries: how often a trial is tried again after its worker died or ran out of time.
        time_limit_s: the longest a trial may take; None for no limit.
        threads: torch threads of the driver (encoder, predictor), so small that more seldom help; 0 takes
            the machine's, at most 4.
    """

    max_failed_share: float = 0.3
    retries: int = 2
    time_limit_s: float | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.max_failed_share <= 1:
            raise ConfigError(f"study.max_failed_share: expected 0 to 1, got {self.max_failed_share}")
        if self.retries < 0 or self.threads < 0:
            raise ConfigError("study.retries and study.threads: expected 0 or more")
        if self.time_limit_s is not None and self.time_limit_s <= 0:
            raise ConfigError(f"study.time_limit_s: expected more than 0 or none, got {self.time_limit_s}")

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return to_dict(self)


@dataclass(frozen=True)
class Record:
    """The contents of study.json: resolved settings, seed, and what they ran on; `gpu` only where there is one."""

    settings: dict[str, Any]
    seed: int
    versions: dict[str, str]
    cpu: dict[str, str]
    threads: dict[str, int]
    gpu: dict[str, Any] = field(default_factory=dict)

    @property
    def limits(self) -> Limits:
        """The `study` section of the settings."""
        return from_dict(Limits, self.settings.get("study", {}), "study")


def new_record(settings: Mapping[str, Any], seed: int) -> Record:
    """The record of a study that starts here and now."""
    limits = from_dict(Limits, settings.get("study", {}), "study")
    threads = {"driver": limits.threads or default_threads(), "worker": 1}
    return Record(json.loads(json.dumps(dict(settings))), seed, _versions(), system(), threads, gpus())


def record_text(record: Record) -> str:
    """What stands in study.json."""
    content = to_dict(record)
    if not record.gpu:
        del content["gpu"]
    return json.dumps({"schema": SCHEMA} | content, indent=2) + "\n"


def read_record(directory: Path) -> tuple[Record, str]:
    """What a study was started with, and the sha256 of its study.json.

    Raises:
        StudyError: the directory is missing or no study, or its study.json is damaged.
    """
    path = directory / FILE
    if not path.is_file():
        raise StudyError(_no_study(directory))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyError(f"{path} cannot be read ({error}); restore it from a copy") from None
    schema = data.pop("schema", None) if isinstance(data, dict) else None
    if schema != SCHEMA:
        raise StudyError(f"{path}: expected schema {SCHEMA!r}, got {schema!r}")
    try:
        return from_dict(Record, data, FILE), file_sha256(path)
    except ConfigError as error:
        raise StudyError(f"{path}: {error}") from None


def _no_study(directory: Path) -> str:
    if directory.is_file():
        return f"{directory} is a file; give the directory of a study"
    if (directory / "journal.db").exists():
        return (
            f"{directory} has a journal but no {FILE}: restore that from a copy, or, if its start was cut off, "
            f"start it again with 'gemnet-search run {directory}'"
        )
    what = f"is no study: it has no {FILE}" if directory.exists() else "does not exist"
    return f"{directory} {what}; start one with 'gemnet-search run {directory}'"


def differences(was: Any, now: Any, where: str = "") -> list[str]:
    """One line `"NAME was X, is Y"` for every field in which two settings differ."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        found = []
        for name in dict.fromkeys([*was, *now]):
            path = f"{where}.{name}" if where else str(name)
            found += differences(was.get(name, ABSENT), now.get(name, ABSENT), path)
        return found
    if was == now:
        return []
    return [f"{where or 'it'} was {_shown(was)}, is {_shown(now)}"]


def surroundings_changed(record: Record) -> list[str]:
    """What differs between the machine a study was started on and this one; see `differences`."""
    changed = differences({"cpu": record.cpu, "gpu": record.gpu}, {"cpu": system(), "gpu": gpus()})
    return changed + differences(record.versions, _versions())


def _shown(value: Any) -> str:
    text = value if value == ABSENT else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _versions() -> dict[str, str]:
    return versions(PACKAGES)
