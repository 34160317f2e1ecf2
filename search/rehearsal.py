"""What a search will cost, from a few moments of it: time, memory and disk, before anything is started."""

import math
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gemnet.errors import EvaluationError, GemnetError

from .checking import generator
from .compose import Parts
from .evaluators import Evaluator
from .objective import Objective
from .progress import Phase, Progress
from .standing import planned_trials
from .trial import Arch
from .workers import Pool, Task
from .workforce import processors

CELLS = 3
FEW, MORE = 2, 6  # batches of the two short trainings whose difference tells the time of an image
EVALUATION_SHARE = 1 / 3  # of an image's training time that its evaluation takes: no backward pass
ENCODER_STEPS, TRIAL_BYTES, STARTING_S = 20, 2500, 5.0


@dataclass(frozen=True)
class Estimate:
    """What a search will need, roughly.

    Args:
        trials: how many trainings.
        trial_s: seconds of one, in a worker of its own.
        measuring_s: seconds of all, on the workers asked for.
        driver_s: seconds of what runs between them (encoder, predictor, bootstrap); None when it could not be tried.
        memory_mb: peak of driver and workers together.
        disk_mb: size of the study's directory.
    """

    trials: int
    trial_s: float
    measuring_s: float
    driver_s: float | None
    memory_mb: float
    disk_mb: float

    @property
    def total_s(self) -> float:
        """Seconds of the whole search."""
        return self.measuring_s + (self.driver_s or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self) | {"total_s": self.total_s}


@dataclass(frozen=True)
class Excerpt:
    """Measures an evaluator's time and memory instead of architectures, with a short training where there is one."""

    evaluator: Evaluator
    fingerprint: str = "excerpt"

    def evaluate(self, arch: Arch, seed: int) -> dict[str, float]:
        """Seconds of a whole measurement `trial_s`, and the process's peak memory `memory_mb`."""
        recipe = getattr(self.evaluator, "recipe", None)
        if recipe is None:
            seconds = _seconds(self.evaluator, arch, seed)
        else:
            whole: Any = self.evaluator
            _seconds(_short(whole, FEW), arch, seed)  # the first use of everything takes longer
            few, more = (_seconds(_short(whole, batches), arch, seed) for batches in (FEW, MORE))
            image_s = max(more - few, 0.0) / ((MORE - FEW) * recipe.batch_size)
            images = recipe.epochs * whole.train_images + EVALUATION_SHARE * whole.val_images
            seconds = few + image_s * max(0.0, images - FEW * recipe.batch_size)
        return {"trial_s": seconds, "memory_mb": peak_mb()}


class Stopwatch(Progress):
    """Notes how long each step of a phase takes, instead of showing it."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.phases: dict[str, tuple[float, float]] = {}

    @contextmanager
    def phase(self, name: str, total: int | None = None, done: int = 0) -> Iterator[Phase]:
        """A phase whose steps and seconds are noted."""
        start = time.perf_counter()
        with super().phase(name, total, done) as shown:
            yield shown
        self.phases[name] = (float(total or 1), time.perf_counter() - start)


def rehearse(parts: Parts, workers: int) -> Estimate:
    """What a search of these parts needs with some local workers (0: in this process).

    Raises:
        EvaluationError: none of a few random cells can be measured.
    """
    trials, least = planned_trials(parts.settings), max(workers, 1)
    pool = Pool(Excerpt(parts.evaluator), 1)
    try:
        archs = parts.space.sample(CELLS, generator())
        outcomes = list(pool.run(Task(arch.key, arch, 0) for arch in archs))
    finally:
        pool.close()
    done = [outcome.metrics for outcome in outcomes if outcome.metrics]
    if not done:
        raise EvaluationError(f"none of {len(outcomes)} random cells can be measured; the first: {outcomes[0].error}")
    trial_s = sum(metrics["trial_s"] for metrics in done) / len(done)
    worker_mb = max(metrics["memory_mb"] for metrics in done)
    at_once = min(least, processors())
    driver_s, artifacts_mb = _driver(parts)
    return Estimate(
        trials,
        trial_s,
        STARTING_S + trial_s * math.ceil(trials / at_once),
        driver_s,
        peak_mb() + worker_mb * workers,
        artifacts_mb + trials * TRIAL_BYTES / 1e6,
    )


def _short(evaluator: Any, batches: int) -> Evaluator:
    recipe = replace(evaluator.recipe, epochs=1, warmup_epochs=0.0, stop_epochs=0)
    images = min(batches * recipe.batch_size, evaluator.train_images)
    short: Evaluator = replace(evaluator, train_images=images, val_images=min(100, evaluator.val_images), recipe=recipe)
    return short


def _seconds(evaluator: Evaluator, arch: Arch, seed: int) -> float:
    start = time.perf_counter()
    evaluator.evaluate(arch, seed)
    return time.perf_counter() - start


def _driver(parts: Parts) -> tuple[float | None, float]:
    """Seconds of what a strategy does besides measuring, and the size of its artifacts in MB, from a short run."""
    from .evaluators.synthetic import Synthetic
    from .memory import MemoryStudy

    strategy, clock = _shortened(parts.strategy), Stopwatch()
    with tempfile.TemporaryDirectory(prefix="gemnet-") as folder:
        study = MemoryStudy(
            Path(folder), 0, space=parts.space, evaluator=Synthetic(), objective=Objective(), limit=sys.maxsize
        )
        study.progress = clock
        start = time.perf_counter()
        try:
            strategy.run(study)
        except GemnetError:
            return None, 0.0
        passed = time.perf_counter() - start
        size_mb = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 1e6
    inside = sum(seconds for _, seconds in clock.phases.values())
    whole = {"encoder": _get(parts.strategy, "encoder", "steps"), "bootstrap": _get(parts.strategy, "candidates")}
    rounds = _get(parts.strategy, "rounds") or 1
    scaled = [
        seconds * max(1.0, (whole.get(name) or steps) / steps) * (1 if name == "encoder" else rounds)
        for name, (steps, seconds) in clock.phases.items()
    ]
    return (passed - inside) * rounds + sum(scaled), size_mb


def _shortened(strategy: Any) -> Any:
    """The strategy with few of the steps that it makes many of."""
    changes: dict[str, Any] = {}
    if _get(strategy, "encoder", "steps"):
        changes["encoder"] = replace(strategy.encoder, steps=min(ENCODER_STEPS, strategy.encoder.steps))
    if _get(strategy, "candidates"):
        changes["candidates"] = min(strategy.block, strategy.candidates)
    if _get(strategy, "rounds"):
        changes["rounds"] = 1
    return replace(strategy, **changes) if changes else strategy


def _get(value: Any, *names: str) -> Any:
    for name in names:
        value = getattr(value, name, None)
    return value


def peak_mb() -> float:
    """The most memory this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
