"""Random search: the baseline every other strategy has to beat."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from gemnet.errors import ConfigError
from gemnet.search.trial import Trial
from gemnet.settings import to_dict

if TYPE_CHECKING:
    from gemnet.search.study import Study


@dataclass(frozen=True)
class RandomSearch:
    """Measures random architectures and takes the best.

    Args:
        samples: how many.
    """

    name: ClassVar[str] = "random"
    samples: int = 200

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"strategy.samples: expected 1 or more, got {self.samples}")

    def run(self, study: "Study") -> Trial:
        """The best of the samples."""
        return study.best(study.evaluate("measured", study.space.sample(self.samples, study.rng("sample"))))

    def to_dict(self) -> dict[str, Any]:
        """The settings as a JSON object."""
        return to_dict(self)
