"""From settings to the parts of a search: literal tables of what there is, and one function that builds."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """The parts of a search.

    Args:
        space: where architectures come from; its `fingerprint`, if any, is recorded.
        evaluator: how they are measured.
        strategy: how they are chosen.
        objective: what is maximised.
        settings: what all were built from, by section, with every default filled in.
    """

    space: Any
    evaluator: Evaluator
    strategy: Strategy
    objective: Objective = field(default_factory=Objective)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def fingerprints(self) -> dict[str, str | None]:
        """Of space and evaluator, which must stay the same while a study lasts."""
        return {"space": getattr(self.space, "fingerprint", None), "evaluator": self.evaluator.fingerprint}


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
    return Parts(space, evaluator, strategy, objective, settings)


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
    for other in given:
        if other in fields:
            raise ConfigError(f"{section}.{other} is not set here but by {other}.name")
    module, _, cls = known[name].partition(":")
    try:
        return from_dict(getattr(importlib.import_module(module), cls), fields | given, section)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(f"{section}.") else f"{section}: {text}") from None


def _resolved(sections: Mapping[str, Any], section: str, part: Any) -> dict[str, Any]:
    fields = {name: value for name, value in to_dict(part).items() if name != "data"}
    return {"name": sections[section]["name"]} | fields
