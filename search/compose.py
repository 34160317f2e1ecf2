"""From settings to the parts of a search: literal tables of what there is, and one function that builds."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gemnet.errors import ConfigError, UnknownNameError
from gemnet.settings import from_dict, to_dict

from .evaluators import Evaluator
from .objective import Objective
from .record import Limits
from .strategies import Strategy

# Each name stands for a frozen settings dataclass, imported when it is asked for. An evaluator's has a
# field `data`, the name of a data set, which comes from the section `data`.
SPACES = {
    "cells": "gemnet.search.spaces.cells:CellSpace",
    "nasbench101": "gemnet.search.spaces.nasbench101:NASBench101",
    "nasbench201": "gemnet.search.spaces.nasbench201:NASBench201",
    "table": "gemnet.search.spaces.listed:TableSpace",
}
EVALUATORS = {
    "proxy": "gemnet.search.evaluators.proxy:ProxyTask",
    "synthetic": "gemnet.search.evaluators.synthetic:Synthetic",
    "table": "gemnet.search.evaluators.table:TableEvaluator",
}
STRATEGIES = {
    "evolution": "gemnet.search.strategies.evolution:RegularizedEvolution",
    "local": "gemnet.search.strategies.local:LocalSearch",
    "nasgem": "gemnet.search.strategies.nasgem:NASGEM",
    "random": "gemnet.search.strategies.random:RandomSearch",
}


@dataclass(frozen=True)
class Data:
    """The `data` section: the name of a data set, see gemnet/data.py."""

    name: str


@dataclass(frozen=True)
class Parts:
    """The parts of a search, and the settings they were built from with every default filled in."""

    settings: dict[str, Any]
    space: Any
    evaluator: Evaluator
    objective: Objective
    strategy: Strategy


def compose(sections: Mapping[str, Any]) -> Parts:
    """The parts that the sections of a preset, or of a study's settings, describe.

    Raises:
        ConfigError: a setting of the wrong type or range.
        UnknownNameError: an unknown space, evaluator, strategy or field.
    """
    data = from_dict(Data, sections.get("data", {}), "data")
    space = _part("space", SPACES, sections)
    evaluator = _part("evaluator", EVALUATORS, sections, data=data.name)
    strategy = _part("strategy", STRATEGIES, sections)
    objective = from_dict(Objective, sections.get("objective", {}), "objective")
    limits = from_dict(Limits, sections.get("study", {}), "study")
    settings = {
        "data": to_dict(data),
        "space": _resolved(sections, "space", space),
        "evaluator": _resolved(sections, "evaluator", evaluator),
        "objective": to_dict(objective),
        "strategy": _resolved(sections, "strategy", strategy),
        "study": to_dict(limits),
    }
    return Parts(settings, space, evaluator, objective, strategy)


def make_strategy(section: Mapping[str, Any]) -> Strategy:
    """The strategy that a section with its `name` and settings describes; raises as `compose` does."""
    strategy: Strategy = _part("strategy", STRATEGIES, {"strategy": section})
    return strategy


def _part(section: str, known: Mapping[str, str], sections: Mapping[str, Any], **given: str) -> Any:
    fields = dict(sections.get(section, {}))
    name = fields.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{section}.name: expected one of {', '.join(known)}, got {name!r:.40}")
    if name not in known:
        raise UnknownNameError(section, name, known)
    for field in given:
        if field in fields:
            raise ConfigError(f"{section}.{field} is not set here but by {field}.name")
    module, _, cls = known[name].partition(":")
    return from_dict(getattr(importlib.import_module(module), cls), fields | given, section)


def _resolved(sections: Mapping[str, Any], section: str, part: Any) -> dict[str, Any]:
    fields = {name: value for name, value in to_dict(part).items() if name != "data"}
    return {"name": sections[section]["name"]} | fields
