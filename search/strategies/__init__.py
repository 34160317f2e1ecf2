"""How architectures are chosen: one class per method, straight-line code on a study."""

from typing import TYPE_CHECKING, Any, Protocol

from gemnet.search.trial import Arch, Trial

if TYPE_CHECKING:
    from gemnet.search.study import Study


class Strategy(Protocol):
    """A search method: a frozen settings dataclass whose `run` gives the winner.

    `run` reads like the method's description and may be run again at any time: what was measured
    is looked up, not measured again. All its randomness comes from `study.rng`.
    """

    @property
    def name(self) -> str: ...

    def run(self, study: "Study") -> Arch | Trial: ...

    def to_dict(self) -> dict[str, Any]: ...
