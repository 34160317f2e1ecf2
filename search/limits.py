"""The objective's hard limits as a filter of candidate graphs."""

from typing import Any, Protocol

import numpy as np

from gemnet.cell import Cell
from gemnet.errors import ConfigError, GemnetError

from .batch_cost import BatchCost
from .graphs import Bools, GraphBatch
from .linear_cost import LinearCost, find_law, probes_needed
from .objective import Objective

NAMES = ("max_macs", "max_params", "max_acts")


class ProbeSource(Protocol):
    """What finding a cost's law needs of a search space."""

    @property
    def vocabulary(self) -> tuple[str, ...]: ...
    def sample_batch(self, n: int, rng: np.random.Generator) -> GraphBatch: ...


class CostLimits:
    """Which graphs keep an objective's limits, by the evaluator's own costs.

    Args:
        objective: the limits.
        evaluator: has `cost(cell)` with `macs`, `params` and `peak_acts`, and may have `batch_cost(graphs)`, which
            gives arrays of these, or None where every cell has a network shape of its own.
        space: gives the probe cells from which a law of the costs is found, if there is one.
    """

    def __init__(self, objective: Objective, evaluator: Any, space: ProbeSource) -> None:
        self._objective, self._evaluator = objective, evaluator
        self._batched = callable(getattr(evaluator, "batch_cost", None))
        self.text = limits_text(objective)
        law = None
        if self.text and objective.max_acts is None:
            rng = np.random.Generator(np.random.Philox(key=0))
            law = find_law(self._macs_params, space.sample_batch(probes_needed(len(space.vocabulary)), rng))
        self.law: LinearCost | None = law
        few = space.sample_batch(1, np.random.Generator(np.random.Philox(key=0)))
        self.slow = law is None and self._batch_cost(few) is None

    def __call__(self, graphs: GraphBatch) -> Bools:
        """Which graphs keep the limits [B]; one that cannot be built keeps none."""
        if self.law is not None:
            macs, params = self.law(graphs).T
            return np.asarray(self._objective.allows(macs, params, np.zeros_like(macs)), np.bool_)
        price = self._batch_cost(graphs)
        if price is not None:
            return np.asarray(self._objective.allows(price.macs, price.params, price.peak_acts), np.bool_)
        return np.array([self._keeps(cell) for cell in graphs.cells()], np.bool_)

    def _batch_cost(self, graphs: GraphBatch) -> BatchCost | None:
        found: BatchCost | None = self._evaluator.batch_cost(graphs) if self._batched else None
        return found

    def _keeps(self, cell: Cell) -> bool:
        try:
            price = self._evaluator.cost(cell)
        except GemnetError:
            return False
        return bool(self._objective.allows(price.macs, price.params, price.peak_acts))

    def _macs_params(self, cell: Cell) -> tuple[int, int]:
        price = self._evaluator.cost(cell)
        return price.macs, price.params


def cost_limits(objective: Objective, evaluator: Any, space: ProbeSource) -> CostLimits | None:
    """The filter of an objective's limits; without limits, of what cannot be built; None when all pass.

    Raises:
        ConfigError: a limit is set, and the evaluator cannot tell costs.
    """
    if callable(getattr(evaluator, "cost", None)):
        return CostLimits(objective, evaluator, space)
    if limits_text(objective):
        raise ConfigError(f"this evaluator has no cost to hold against the limits ({limits_text(objective)})")
    return None


def limits_text(objective: Objective) -> str:
    """The limits that are set, such as `max_macs=100000`; empty without any."""
    given = {name: getattr(objective, name) for name in NAMES}
    return ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)
