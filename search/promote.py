"""From a study to the zoo: a cell's file with everything needed to find it again."""

import json
import re
from pathlib import Path, PurePath
from typing import Any

from gemnet import zoo
from gemnet.cell import SCHEMA, Cell
from gemnet.durable import write_atomic
from gemnet.errors import StudyError, UsageError
from gemnet.promotion import default_zoo

from .standing import Standing

NAME = re.compile(r"[a-z][a-z0-9_]*")


def promote(
    standing: Standing,
    name: str,
    folder: Path | None = None,
    *,
    rank: int = 1,
    provisional: bool = False,
    force: bool = False,
) -> Path:
    """The file `cells/NAME.json` that now holds a study's cell in normal form, and its provenance.

    Args:
        standing: of a finished study.
        name: lower-case letters, digits and underscores, beginning with a letter.
        folder: the zoo to write to; `default_zoo()` when None.
        rank: 1 for the winner, 2 for the best of the others, ...
        provisional: marks the cell as one to be replaced.
        force: replace a cell of that name.

    Raises:
        UsageError: the name is not allowed, or is taken; or there is no such zoo.
        StudyError: the study is not finished, has no such rank, or its architectures are no cells.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"a cell's name is lower-case letters, digits and underscores, such as my_cell; got {name!r}")
    if standing.state != "finished":
        place, state = standing.directory, standing.state
        raise StudyError(f"{place} is {state}, not finished; go on with 'gemnet-search resume {place}'")
    path = (folder or default_zoo()) / "cells" / f"{name}.json"
    taken = path if path.exists() else zoo.find("cells", name)
    if taken is not None and not force:
        raise UsageError(f"{taken} exists; give another name, or --force to replace or hide it")
    cell = best_cell(standing, rank)
    content = cell.to_dict() | {"name": name, "provisional": provisional, "provenance": provenance(standing, rank)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(content, indent=1) + "\n")
    return path


def best_cell(standing: Standing, rank: int = 1) -> Cell:
    """The normal form of the cell of a rank.

    Raises:
        StudyError: no such rank, or its architecture is no cell.
    """
    trial, _ = standing.best(rank)
    if trial.arch.get("schema") != SCHEMA:
        raise StudyError(f"{standing.directory} searched other architectures than cells")
    return Cell.from_dict(trial.arch).normal_form()


def provenance(standing: Standing, rank: int = 1) -> dict[str, Any]:
    """How a study's cell was found: settings, seed, versions, score and metrics."""
    trial, score = standing.best(rank)
    record = standing.record
    return {
        "study_id": standing.study_id,
        "trial": trial.key,
        "rank": rank,
        "score": score,
        "metrics": trial.metrics,
        "seed": record.seed,
        "trial_seed": trial.seed,
        "settings": record.settings | {"data": {"name": _portable(record.settings["data"]["name"])}},
        "versions": record.versions,
        "cpu": record.cpu,
        "threads": record.threads,
    }


def _portable(data: str) -> str:
    """A data set's name without the folders of the machine it was on: `npz:/home/me/x.npz` is `npz:x.npz`."""
    kind, colon, path = data.partition(":")
    return kind + colon + (PurePath(path).name if colon else "")
