"""Searches beside each other: those that differ in their seed alone are one group, with its spread."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .record import differences
from .standing import Standing
from .trial import canonical

SHOWN = 3


@dataclass(frozen=True)
class Group:
    """Studies of the same settings.

    Args:
        name: strategy and, where several groups share it, what sets this one apart.
        directories: of the studies.
        seeds: theirs.
        unfinished: how many of them have not finished.
        val_acc, macs, score: of each study's best cell; a study without one is left out.
        trials: measured in each.
    """

    name: str
    directories: tuple[str, ...]
    seeds: tuple[int, ...]
    unfinished: int
    val_acc: tuple[float, ...]
    macs: tuple[float, ...]
    score: tuple[float, ...]
    trials: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """A JSON object with the mean and standard deviation of each quantity."""
        spread = {name: _spread(getattr(self, name)) for name in ("val_acc", "macs", "score", "trials")}
        return asdict(self) | {"mean": {name: mean for name, (mean, _) in spread.items()},
                               "std": {name: std for name, (_, std) in spread.items()}}  # fmt: skip


def compare(standings: Sequence[Standing]) -> list[Group]:
    """One group for each settings, the highest mean score first.

    Studies of the same settings and seed are the same search; the first counts.
    """
    alike: dict[str, dict[int, Standing]] = {}
    for standing in standings:
        alike.setdefault(canonical(standing.record.settings), {}).setdefault(standing.record.seed, standing)
    groups = [list(group.values()) for group in alike.values()]
    found = [_group(group, groups) for group in groups]
    return sorted(found, key=lambda group: -(_spread(group.score)[0] if group.score else float("-inf")))


def table(groups: Sequence[Group]) -> list[str]:
    """The lines of a table."""
    lines = [f"{'studies':>8}{'val_acc %':>16}{'M MACs':>14}{'score':>18}{'trials':>9}  search"]
    for group in groups:
        accuracy, macs, score = (
            _text(values, scale, digits)
            for values, scale, digits in ((group.val_acc, 100, 2), (group.macs, 1e-6, 2), (group.score, 1, 4))
        )
        count = f"{statistics.mean(group.trials):.0f}"
        note = f", {group.unfinished} not finished" if group.unfinished else ""
        lines.append(f"{len(group.directories):>8}{accuracy:>16}{macs:>14}{score:>18}{count:>9}  {group.name}{note}")
    return lines


def _group(group: Sequence[Standing], groups: Sequence[Sequence[Standing]]) -> Group:
    first = group[0]
    others = [other[0] for other in groups if other is not group]
    apart = list(dict.fromkeys(
        line.replace(" was ", "=").partition(", is ")[0]
        for other in others for line in differences(first.record.settings, other.record.settings)
        if not line.startswith("strategy.name")
    ))  # fmt: skip
    best = [standing.best() for standing in group if standing.ranking]
    strategy = first.strategy or str(first.record.settings.get("strategy", {}).get("name", "?"))
    return Group(
        ", ".join([strategy, *apart[:SHOWN], *(["..."] if len(apart) > SHOWN else [])]),
        tuple(str(standing.directory) for standing in group),
        tuple(standing.record.seed for standing in group),
        sum(standing.state != "finished" for standing in group),
        tuple(trial.metrics["val_acc"] for trial, _ in best),
        tuple(trial.metrics["macs"] for trial, _ in best if "macs" in trial.metrics),
        tuple(score for _, score in best),
        tuple(standing.trials for standing in group),
    )


def _spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation; of one value, 0."""
    if not values:
        return float("nan"), float("nan")
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _text(values: Sequence[float], scale: float, digits: int) -> str:
    if not values:
        return "-"
    mean, std = (scale * value for value in _spread(values))
    return f"{mean:.{digits}f} ± {std:.{digits}f}" if len(values) > 1 else f"{mean:.{digits}f}"
