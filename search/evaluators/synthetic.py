"""An evaluator that trains nothing: for trying out a study, its workers and their faults in seconds."""

import time
from dataclasses import dataclass

from gemnet.errors import ConfigError
from gemnet.search.trial import Arch, digest

VERSION = 1


@dataclass(frozen=True)
class Synthetic:
    """Numbers drawn from an architecture's key, the same in every process.

    Args:
        data: name of a data set, which is not read.
        duration_s: what every measurement takes.
        noise: accuracy [0, 1] that depends on the seed; the rest depends on the architecture alone.

    Raises:
        ConfigError: a setting out of its range.
    """

    data: str = "none"
    duration_s: float = 0.0
    noise: float = 0.01

    def __post_init__(self) -> None:
        if self.duration_s < 0 or not 0 <= self.noise <= 1:
            raise ConfigError("evaluator.duration_s: expected 0 or more; evaluator.noise: expected 0 to 1")

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of what a measurement depends on."""
        return digest("synthetic", VERSION, self.noise, self.data)

    def evaluate(self, arch: Arch, seed: int) -> dict[str, float]:
        """`val_acc` in [0, 1], `macs` in [5 M, 15 M], `params` and `peak_acts`, all made up."""
        start = time.perf_counter()
        time.sleep(self.duration_s)
        val_acc = (1 - self.noise) * _unit(arch.key, "val_acc") + self.noise * _unit(arch.key, str(seed))
        macs = round(5e6 + 1e7 * _unit(arch.key, "macs"))
        sizes = {"macs": macs, "params": macs // 40, "peak_acts": macs // 100}
        return {"val_acc": val_acc, **sizes, "train_s": time.perf_counter() - start}


def _unit(key: str, what: str) -> float:
    """A number in [0, 1) that depends on two texts."""
    return int(digest(key, what)[:13], 16) / 16**13
