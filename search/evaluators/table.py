"""The evaluator of benchmarks: looks an architecture up that was trained before."""

from dataclasses import dataclass

from gemnet.search.table import Table, load_table
from gemnet.search.trial import Arch


@dataclass(frozen=True)
class TableEvaluator:
    """Gives what a table has measured; architectures that compute the same function get their mean.

    Args:
        data: the table, such as `"nasbench201:FILE"`, see search/table.py.
    """

    data: str

    @property
    def table(self) -> Table:
        """The table, read once per process."""
        return load_table(self.data)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the table's rows."""
        return self.table.fingerprint

    def evaluate(self, arch: Arch, seed: int) -> dict[str, float]:
        """`val_acc` in [0, 1] and what else the table knows of `test_acc`, `params`, `macs`, `train_s`.

        Raises:
            DataError: the table has no such architecture.
        """
        group = self.table.group(arch.key)
        return {name: float(values[group]) for name, values in self.table.means.items()}

    def best(self) -> float:
        """The highest `val_acc` there is."""
        return float(self.table.means["val_acc"].max())
