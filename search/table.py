"""Benchmark tables: architectures that were trained before, with what was measured of them.

A table is named by text, `KIND:FILE` with options behind a question mark: `nasbench201:FILE`,
`csv:FILE?arch=cell&val_acc=accuracy`. Rows whose graphs compute the same function are one structure:
they share their mean, are counted once, and stand on one side of every split.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt

from gemnet.errors import DataError, UnknownNameError

from .graphs import GraphBatch, Ints
from .structures import has_structures, structure_of
from .trial import Arch, digest

Floats = npt.NDArray[np.float64]

# Each reader takes a path and the options behind the question mark, and gives a Table.
READERS = {
    "nasbench201": "gemnet.search.table_text:read_nasbench201",
    "ecnas": "gemnet.search.table_text:read_ecnas",
    "csv": "gemnet.search.table_text:read_csv",
    "parquet": "gemnet.search.table_text:read_parquet",
    "nasbench101": "gemnet.search.table_nasbench101:read_nasbench101",
    "nats": "gemnet.search.table_nats:read_nats",
}


@dataclass(frozen=True, eq=False)
class Table:
    """Measured architectures of one space; equal architectures stand in one row.

    Args:
        name: where it came from, for messages.
        space: the space they belong to; has `vocabulary`, `width`, `mutate`, `neighbours` and so on.
        archs: one per row [R].
        keys: theirs [R].
        graphs: their pruned graphs [R].
        metrics: `val_acc` in [0, 1] and whatever else is known, by name [R].

    Raises:
        DataError: there is no row, an accuracy is missing or outside [0, 1], or two rows share a key.
    """

    name: str
    space: Any
    archs: Sequence[Arch]
    keys: Sequence[str]
    graphs: GraphBatch
    metrics: Mapping[str, Floats]

    def __post_init__(self) -> None:
        if not len(self.archs):
            raise DataError(f"{self.name} has no rows")
        for name, values in self.metrics.items():
            wrong = ~np.isfinite(values)
            if name.endswith("_acc"):
                wrong |= (values < 0) | (values > 1)
            if wrong.any():
                row = int(wrong.argmax())
                hint = "; for percent, add scale=0.01 to the table's options" if name.endswith("_acc") else ""
                raise DataError(f"{self.name}: {name} of {self.keys[row]} is {values[row]:g}{hint}")
        if len(self.rows) < len(self.archs):
            double = next(key for row, key in enumerate(self.keys) if self.rows[key] != row)
            raise DataError(f"{self.name} lists {double} twice; keep one row, or give their mean")

    def __len__(self) -> int:
        return len(self.archs)

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each architecture's key."""
        return {key: row for row, key in enumerate(self.keys)}

    @cached_property
    def groups(self) -> Ints:
        """The structure of each row, numbered by first row [R]."""
        words = [structure_of(self.space, arch) for arch in self.archs] if has_structures(self.space) else self.keys
        numbers = {word: k for k, word in enumerate(dict.fromkeys(words))}
        return np.array([numbers[word] for word in words], np.int64)

    @cached_property
    def representatives(self) -> Ints:
        """The row that stands for each structure: the first with the smallest graph [G]."""
        order = np.lexsort((np.arange(len(self)), self.graphs.sizes, self.groups))
        return order[np.unique(self.groups[order], return_index=True)[1]]

    @cached_property
    def means(self) -> dict[str, Floats]:
        """The metrics of each structure, mean over its rows, by name [G]."""
        count = np.bincount(self.groups)
        return {name: np.bincount(self.groups, values) / count for name, values in self.metrics.items()}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of all rows."""
        return digest("table", list(self.keys), self.groups.tolist(), {k: v.tolist() for k, v in self.metrics.items()})

    def group(self, key: str) -> int:
        """The structure of an architecture by its key; raises DataError when the table has none of that key."""
        row = self.rows.get(key)
        if row is None:
            raise DataError(f"{key[:100]} is not among the {len(self)} architectures of {self.name}")
        return int(self.groups[row])


def load_table(text: str) -> Table:
    """The table that a text such as `nasbench201:FILE` names; read once per process.

    Raises:
        UnknownNameError: an unknown kind of table.
        DataError: the file is missing or is no such table.
    """
    return _load(absolute(text))


def absolute(text: str) -> str:
    """The name of a table with its path made absolute; raises UnknownNameError or DataError when it is none."""
    kind, colon, place = text.partition(":")
    if kind not in READERS:
        raise UnknownNameError("kind of table", kind, READERS)
    if not colon or not place:
        raise DataError(f"a table is named KIND:FILE, such as nasbench201:cifar10.csv.gz, got {text!r:.80}")
    file, question, options = place.partition("?")
    return f"{kind}:{Path(file).expanduser().absolute()}{question}{options}"


@lru_cache(maxsize=2)
def _load(text: str) -> Table:
    kind, _, place = text.partition(":")
    file, _, options = place.partition("?")
    module, _, function = READERS[kind].partition(":")
    read: Callable[[Path, dict[str, str]], Table] = getattr(importlib.import_module(module), function)
    if not Path(file).exists():
        raise DataError(f"there is no {file} to read a table from")
    try:
        return read(Path(file), dict(parse_qsl(options, keep_blank_values=True)))
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from None


def refuse_unknown(options: Mapping[str, str], known: Sequence[str]) -> None:
    """Raises UnknownNameError when an option is not known to a reader."""
    for given in options:
        if given not in known:
            raise UnknownNameError("option of this table", given, known)
