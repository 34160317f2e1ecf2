"""How an architecture is measured: one class per way, all behind one five-line interface."""

from typing import Protocol

from gemnet.search.trial import Arch


class Evaluator(Protocol):
    """Measures architectures; picklable, and cheap to pickle.

    `fingerprint` covers everything a measurement depends on besides the architecture and the
    seed: data, macro, recipe and the evaluator's version. `evaluate` gives numbers by name
    (`val_acc` in [0, 1], `macs`, `params`, ...; times end in `_s`) and raises when the
    architecture cannot be measured.
    """

    @property
    def fingerprint(self) -> str: ...

    def evaluate(self, arch: Arch, seed: int) -> dict[str, float]: ...
