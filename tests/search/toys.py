"""A search without training: small architectures, a space, an evaluator that can misbehave, a strategy."""

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from gemnet.settings import to_dict


@dataclass(frozen=True)
class Number:
    """An architecture that is nothing but a number."""

    value: int

    @property
    def key(self) -> str:
        return sha256(str(self.value).encode()).hexdigest()

    def to_dict(self) -> dict[str, int]:
        return {"value": self.value}


@dataclass(frozen=True)
class Numbers:
    """Numbers below a limit."""

    limit: int = 1000
    fingerprint: str = "numbers"

    def sample(self, n, rng):
        return [Number(int(value)) for value in rng.integers(0, self.limit, n)]


@dataclass(frozen=True)
class Toy:
    """Scores a number; every call is a line in `calls`, and some values misbehave.

    `raises`, `nan`, `memory`, `hangs`, `dies`: values that do so; `dies_once`: kills its worker
    the first time. A number's accuracy depends on its seed, so a wrong seed shows.
    """

    calls: str
    sleep_s: float = 0.0
    raises: tuple[int, ...] = ()
    nan: tuple[int, ...] = ()
    memory: tuple[int, ...] = ()
    hangs: tuple[int, ...] = ()
    dies: tuple[int, ...] = ()
    dies_once: tuple[int, ...] = ()
    fingerprint: str = "toy"
    extra: dict = field(default_factory=dict)

    def evaluate(self, arch, seed):
        value = arch.value
        earlier = Path(self.calls).read_text().split() if os.path.exists(self.calls) else []
        with open(self.calls, "a") as file:
            file.write(f"{value}\n")
        if value in self.raises:
            raise ValueError(f"no net of {value}\nsecond line")
        if value in self.memory:
            raise MemoryError
        if value in self.hangs:
            time.sleep(60)
        if value in self.dies or (value in self.dies_once and str(value) not in earlier):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.sleep_s)
        accuracy = float("nan") if value in self.nan else (value % 97) / 100 + (seed % 1000) / 1e6
        return {"val_acc": accuracy, "macs": 10**6 + value, "params": value + 1, "train_s": time.perf_counter()}


@dataclass(frozen=True)
class Surroundings:
    """Measures the process it runs in."""

    fingerprint: str = "surroundings"

    def evaluate(self, arch, seed):
        print("this must not reach the driver's stdout")
        return {"threads": int(os.environ["OMP_NUM_THREADS"]), "driver": os.getppid()}


@dataclass(frozen=True)
class Device:
    """Tells which CUDA device its process sees."""

    fingerprint: str = "device"

    def evaluate(self, arch, seed):
        time.sleep(0.3)
        return {"device": float(os.environ.get("CUDA_VISIBLE_DEVICES", "-1")), "process": os.getpid()}


broken_by: list[int] = []  # values that broke this process's GPU, for good, as CUDA does


@dataclass(frozen=True)
class Gpu:
    """Tells which process measures; values of `breaks` break its GPU, those of `breaks_once` only the first time."""

    calls: str
    breaks: tuple[int, ...] = ()
    breaks_once: tuple[int, ...] = ()
    device: str = "cuda"
    fingerprint: str = "gpu"

    def evaluate(self, arch, seed):
        if arch.value in self.breaks or (arch.value in self.breaks_once and arch.value not in calls_of(self.calls)):
            broken_by.append(arch.value)
        with open(self.calls, "a") as file:
            file.write(f"{arch.value}\n")
        if broken_by:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return {"val_acc": 0.5, "process": os.getpid()}


@dataclass(frozen=True)
class TwoPhases:
    """Measures samples, fits a table on them, measures the table's choice."""

    samples: int = 12
    k: int = 3
    name: ClassVar[str] = "two-phases"

    def run(self, study):
        measured = study.evaluate("measured", study.space.sample(self.samples, study.rng("sample")))
        table = study.artifact("table", lambda folder: self.fit(study, measured, folder), measured)
        best = sorted(map(int, (table / "table.txt").read_text().split()))[: self.k]
        finalists = study.evaluate("finalists", [Number(value) for value in best])
        return study.best([*measured, *finalists])

    def fit(self, study, measured, folder):
        scores = [round(study.score(trial) * 1e6) for trial in measured]
        (folder / "table.txt").write_text(" ".join(str(score % 1000) for score in scores))

    def to_dict(self):
        return to_dict(self)


def calls_of(path):
    """How often each value was measured, from the lines of a calls file."""
    lines = Path(path).read_text().split() if Path(path).exists() else []
    return {int(value): lines.count(value) for value in set(lines)}


def main(directory, calls, workers, sleep_s, k):
    """Runs or resumes the toy search in a directory; prints the winner's key."""
    from gemnet.search.study import Parts, Study

    parts = Parts(Numbers(), Toy(calls, sleep_s), TwoPhases(k=int(k)))
    start = Study.open if (Path(directory) / "study.json").exists() else Study.create
    with start(directory, parts, seed=5, workers=int(workers)) as study:
        print(study.run().key)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
