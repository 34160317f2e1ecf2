"""Readers of tables in CSV (plain or .gz) and Parquet files."""

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gemnet.cell import INPUT, Cell
from gemnet.errors import DataError, GemnetError

from .graphs import GraphBatch
from .spaces.cells import CellSpace
from .spaces.nasbench101 import OPS, NASBench101, Spec
from .spaces.nasbench201 import NASBench201, Topology
from .structures import OUTPUT
from .table import Floats, Table, refuse_unknown
from .trial import Arch

A = TypeVar("A", bound=Arch)
Row = Mapping[str, Any]
METRICS = ("val_acc", "test_acc", "params", "macs")
OPTIONS = ("arch", *METRICS, "scale")
NASBENCH201 = {
    "arch": "arch_str", "val_acc": "cifar10_test_acc_200ep", "test_acc": "cifar10_test_acc_200ep", "scale": "0.01",
}  # fmt: skip
ECNAS = {"val_acc": "valid_acc"}
ECNAS_OPS = {-1: INPUT, -2: OUTPUT} | dict(enumerate(OPS))


def read_nasbench201(path: Path, options: dict[str, str]) -> Table:
    """A NAS-Bench-201 CSV with columns `arch_str`, `cifar10_test_acc_200ep` (percent), `params` and `macs`.

    The one accuracy is a test accuracy; it stands for the validation accuracy too.
    """
    return read_csv(path, NASBENCH201 | options)


def read_csv(path: Path, options: dict[str, str]) -> Table:
    """A CSV whose column `arch` holds NAS-Bench-201 arch strings or cells as JSON objects.

    Args:
        path: the file.
        options: columns of `arch`, `val_acc`, `test_acc`, `params`, `macs` (each its own name by default;
            all but the first two may be missing), and `scale`, which accuracies are multiplied by.

    Raises:
        DataError: the file is no such table.
        UnknownNameError: an unknown option.
    """
    return _table(path, list(_csv_rows(path)), options)


def read_parquet(path: Path, options: dict[str, str]) -> Table:
    """A Parquet file of the same columns; raises DataError when pandas or its Parquet reader is missing."""
    try:
        import pandas as pd

        frame = pd.read_parquet(path)
    except ImportError:
        raise DataError(f"reading {path.name} needs pandas and pyarrow: pip install pandas pyarrow") from None
    except ValueError as error:
        raise DataError(f"{path} is no Parquet file: {error!s:.120}") from None
    return _table(path, frame.to_dict("records"), options)


def read_ecnas(path: Path, options: dict[str, str]) -> Table:
    """The EC-NAS CSV: columns `adjacency`, `ops` (codes), `valid_acc`, `test_acc` and `params`, repeats averaged."""
    refuse_unknown(options, ())
    measured: dict[str, tuple[Spec, list[Row]]] = {}
    for number, row in enumerate(_csv_rows(path), start=2):
        where = f"{path}, line {number}"
        try:
            ops = [ECNAS_OPS[code] for code in json.loads(_field(row, "ops", where))]
            spec = Spec.parse(json.loads(_field(row, "adjacency", where)), ops)
        except DataError:
            raise
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(f"{where}: adjacency and ops describe no cell: {error!r:.80}") from None
        except GemnetError as error:
            raise DataError(f"{where}: {error}") from None
        measured.setdefault(spec.key, (spec, []))[1].append({"line": number} | dict(row))
    specs = [spec for spec, _ in measured.values()]
    space = NASBench101(max((len(spec.cell.ops) for spec in specs), default=7))
    columns = {"val_acc": "valid_acc", "test_acc": "test_acc", "params": "params"}
    metrics = {
        name: np.array([
            np.mean([_number(row, column, f"{path}, line {row['line']}") for row in rows])
            for _, rows in measured.values()
        ])
        for name, column in columns.items()
    }  # fmt: skip
    return Table(str(path), space, specs, list(measured), space.batch(specs), metrics)


def _table(path: Path, rows: list[Row], options: dict[str, str]) -> Table:
    """The table of some rows, in the space that their architectures belong to."""
    refuse_unknown(options, OPTIONS)
    column = {name: options.get(name, name) for name in ("arch", *METRICS)}
    archs: list[Arch] = []
    for number, row in enumerate(rows, start=2):
        where = f"{path}, line {number}"
        try:
            archs.append(_arch(_field(row, column["arch"], where, "arch")))
        except DataError:
            raise
        except (GemnetError, ValueError, RecursionError) as error:
            raise DataError(f"{where}: {error!s:.200}") from None
    if not archs:
        raise DataError(f"{path} has no rows")
    space, archs, graphs = _space(path, archs)
    names = [name for name in METRICS if name == "val_acc" or name in options or column[name] in rows[0]]
    try:
        scale = float(options.get("scale", "1"))
    except ValueError:
        raise DataError(f"a table's option scale is a number, got {options['scale']!r:.40}") from None
    if not 0 < scale < math.inf:
        raise DataError(f"a table's option scale is a number above 0, got {options['scale']!r:.40}")
    metrics = {name: _column(rows, column[name], scale if name.endswith("_acc") else 1, path, name) for name in names}
    return Table(str(path), space, archs, [arch.key for arch in archs], graphs, metrics)


def _arch(text: str) -> Arch:
    return Topology.parse(text) if text.startswith("|") else Cell.from_dict(json.loads(text))


def _space(path: Path, archs: list[Arch]) -> tuple[Any, list[Arch], GraphBatch]:
    """The space of some architectures, they as its members, and their graphs."""
    listings = _all_of(archs, Topology)
    if listings is not None:
        return NASBench201(), archs, NASBench201().batch(listings)
    cells = _all_of(archs, Cell)
    if cells is None:
        raise DataError(f"{path} mixes arch strings and cells; a table has one kind")
    if not cells[0].output:
        space = _cell_space(cells)
        if not all(map(space.contains, cells)):
            raise DataError(f"{path}: some cells have an explicit output, or a node that reads nothing")
        return space, archs, space.batch(cells)
    try:
        specs = [Spec(cell) for cell in cells]
    except GemnetError as error:
        raise DataError(f"{path}: {error}") from None
    bench = NASBench101(min(7, max(len(spec.cell.ops) for spec in specs)))
    if not all(map(bench.contains, specs)):
        raise DataError(f"{path}: cells with an explicit output have at most 7 vertices and 9 edges")
    return bench, list(specs), bench.batch(specs)


def _all_of(archs: list[Arch], kind: type[A]) -> list[A] | None:
    same = [arch for arch in archs if isinstance(arch, kind)]
    return same if len(same) == len(archs) else None


def _cell_space(cells: list[Cell]) -> CellSpace:
    sizes = [len(cell.ops) for cell in cells]
    degree = max(len(preds) for cell in cells for preds in cell.predecessors)
    ops = sorted({op for cell in cells for op in cell.ops[1:]})
    return CellSpace(min(sizes), max(sizes), max(degree, 1), tuple(ops), 1, 4)


def _csv_rows(path: Path) -> Iterator[Row]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, csv.Error) as error:
        raise DataError(f"{path} is no CSV file: {error!s:.100}") from None


def _field(row: Row, column: str, where: str, option: str | None = None) -> str:
    value = row.get(column)
    if value is None:
        hint = f"; name it with ?{option}=COLUMN" if option else ""
        names = ", ".join(str(name) for name in row if name != "line")
        raise DataError(f"{where}: there is no column {column!r}, only {names:.160}{hint}")
    return str(value)


def _number(row: Row, column: str, where: str, option: str | None = None) -> float:
    text = _field(row, column, where, option)
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{where}: {column} is a number, got {text!r:.40}") from None


def _column(rows: list[Row], column: str, scale: float, path: Path, option: str) -> Floats:
    return scale * np.array([_number(row, column, f"{path}, line {n}", option) for n, row in enumerate(rows, start=2)])
