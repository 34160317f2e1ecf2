"""A study as one HTML file: figures, the found cell, and a table of all trials; it needs no network.

The figures are plotly's own JSON, made in report_figures.py; the page that shows them stands in report_page.py.
"""

import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .compose import compose
from .report_figures import figures
from .report_page import PAGE, SCRIPT, STYLE
from .standing import Standing
from .trial import Trial

SHORT = 12


def report(standing: Standing) -> str:
    """The HTML text.

    Args:
        standing: of a study, finished or not.
    """
    from plotly.offline import get_plotlyjs

    parts = compose(standing.record.settings)
    phases, metrics, ops = _phases(standing), _metrics(standing), list[str]()
    data = {
        "columns": ["cell", "phase", "status", "score", *metrics],
        "rows": [_row(standing, trial, phases, metrics) for trial in standing.all_trials],
        "cells": [_cell(trial.arch, ops) for trial in standing.all_trials],
        "ops": ops,
        "figures": figures(standing, parts, phases),
        "shown": _shown(standing),
    }
    fill = {
        "title": html.escape(f"Search {standing.directory.absolute().name}"),
        "summary": "".join(f"<li>{html.escape(line)}</li>" for line in _summary(standing)),
        "style": STYLE,
        "plotly": get_plotlyjs(),
        "settings": html.escape(json.dumps(standing.record.settings, indent=1)),
        "versions": html.escape(json.dumps(_surroundings(standing), indent=1)),
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        "script": SCRIPT,
    }
    return _filled(PAGE, fill)


def _filled(page: str, fill: Mapping[str, str]) -> str:
    pieces = page.split("@@")  # text, name, text, name, ..., text
    return "".join(fill[piece] if k % 2 else piece for k, piece in enumerate(pieces))


def _summary(standing: Standing) -> list[str]:
    failed = sum(not trial.done for trial in standing.all_trials)
    lines = [
        f"{standing.strategy} on {_data_name(standing)}, seed {standing.record.seed}, {standing.state}",
        f"{standing.trials - failed} trials measured, {failed} failed",
    ]
    if standing.ranking:
        trial, score = standing.best()
        price = f", {trial.metrics['macs'] / 1e6:.2f} M MACs" if "macs" in trial.metrics else ""
        accuracy = f"validation accuracy {100 * trial.metrics['val_acc']:.2f} %"
        lines.append(f"best cell {trial.arch_key[:SHORT]}: {accuracy}{price}, score {score:.4f}")
    return lines


def _data_name(standing: Standing) -> str:
    return str(standing.record.settings.get("data", {}).get("name", "?")).rpartition("/")[2]


def _surroundings(standing: Standing) -> dict[str, Any]:
    record = standing.record
    return {"versions": record.versions, "processor": record.cpu, "threads": record.threads, "seed": record.seed}


def _phases(standing: Standing) -> dict[str, str]:
    """The phase that first asked for each trial, by the trial's key."""
    found: dict[str, str] = {}
    for name, trials in standing.measured.items():
        for trial in trials:
            found.setdefault(trial.key, name)
    return found


def _metrics(standing: Standing) -> list[str]:
    return list(dict.fromkeys(name for trial in standing.all_trials for name in trial.metrics))


def _row(standing: Standing, trial: Trial, phases: Mapping[str, str], metrics: Sequence[str]) -> list[Any]:
    score = round(standing.objective.score(trial.metrics), 6) if trial.done else None
    values = [trial.metrics.get(name) for name in metrics]
    brief = [float(f"{value:.6g}") if value is not None else None for value in values]
    state = trial.status if trial.done else f"{trial.status}: {trial.error}"
    return [trial.arch_key[:SHORT], phases.get(trial.key, ""), state, score, *brief]


def _cell(arch: Mapping[str, Any], ops: list[str]) -> list[Any] | None:
    """A graph as numbers of its ops and a flat list of its edges; None for an architecture of another kind."""
    if "ops" not in arch or "edges" not in arch:
        return None
    for op in arch["ops"]:
        if op not in ops:
            ops.append(op)
    return [[ops.index(op) for op in arch["ops"]], [end for edge in arch["edges"] for end in edge]]


def _shown(standing: Standing) -> list[list[Any]]:
    """Which trials are drawn beside each other: the best, and two from the middle of the first phase."""
    place = {trial.key: k for k, trial in enumerate(standing.all_trials)}
    if not standing.ranking:
        return []
    best = standing.best()[0]
    first = [trial for trial in next(iter(standing.measured.values()), ()) if trial.done and trial.key != best.key]
    random = [first[len(first) * k // 3] for k in (1, 2)] if len(first) >= 3 else first[:2]
    return [["found", place[best.key]], *(["random", place[trial.key]] for trial in random)]
