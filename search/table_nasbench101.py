"""Reader of the official NAS-Bench-101 file (`nasbench_only108.tfrecord`, `nasbench_full.tfrecord`).

Each record is a JSON list [module hash, epochs, adjacency as 0 and 1 row by row, ops joined by commas,
base64 of a ModelMetrics message]. The message, in protobuf's wire format:

    ModelMetrics     1: EvaluationData, repeated   2: int32 trainable parameters   3: double total time
    EvaluationData   1: double epoch   2: double training time   3, 4, 5: double train, validation, test accuracy

(Ying et al., "NAS-Bench-101", ICML 2019; its file nasbench/lib/model_metrics.proto.)
"""

import base64
import binascii
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np

from gemnet.cell import INPUT
from gemnet.errors import DataError, GemnetError

from .graphs import ABSENT, GraphBatch
from .spaces.nasbench101 import OPS, NASBench101, Spec
from .structures import OUTPUT
from .table import Table, refuse_unknown
from .tfrecord import records

CHECKED = 64  # records whose hash is computed and compared
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Value = int | float | bytes


@dataclass(frozen=True)
class Measured:
    """One training: `final` is the last evaluation, accuracies in [0, 1]."""

    params: int
    val_acc: float
    test_acc: float
    train_s: float


class Specs(Sequence[Spec]):
    """Architectures made from their graphs when they are asked for: 423,624 are many Python objects.

    Args:
        graphs: pruned [R].
        keys: their hashes [R].
    """

    def __init__(self, graphs: GraphBatch, keys: list[str]) -> None:
        self._graphs, self._keys = graphs, keys

    def __len__(self) -> int:
        return len(self._keys)

    @overload
    def __getitem__(self, index: int) -> Spec: ...
    @overload
    def __getitem__(self, index: slice) -> list[Spec]: ...
    def __getitem__(self, index: int | slice) -> Spec | list[Spec]:
        """The architecture of a row, or those of several."""
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        spec = Spec(self._graphs.cell(index))
        vars(spec)["key"] = self._keys[index]  # computing it takes ten times as long as all the rest
        return spec


def read_nasbench101(path: Path, options: dict[str, str]) -> Table:
    """The table of all cells at one number of epochs, repeats averaged.

    Args:
        path: the TFRecord file.
        options: `epochs`, 108 by default.

    Raises:
        DataError: the file is damaged, or holds nothing of that many epochs.
        UnknownNameError: an unknown option.
    """
    refuse_unknown(options, ("epochs",))
    wanted = options.get("epochs", "108")
    graphs: dict[str, tuple[str, str]] = {}
    measured: dict[str, list[Measured]] = {}
    seen = set()
    for number, record in enumerate(records(path)):
        key, epochs, adjacency, ops, message = _fields(record, f"{path}: record {number}")
        seen.add(str(epochs))
        if str(epochs) == wanted:
            graphs.setdefault(key, (adjacency, ops))
            measured.setdefault(key, []).append(parse_metrics(message, f"{path}: record {number}"))
    if not graphs:
        raise DataError(f"{path} has no cell of {wanted!r} epochs, but of {', '.join(sorted(seen)) or 'none'}")
    batch = _batch(list(graphs.values()), path)
    _check_hashes(batch, list(graphs), path)
    metrics = {
        name: np.array([np.mean([getattr(one, name) for one in group]) for group in measured.values()])
        for name in ("val_acc", "test_acc", "params", "train_s")
    }
    keys = list(graphs)
    return Table(str(path), NASBench101(batch.width), Specs(batch, keys), keys, batch, metrics)


def parse_metrics(message: bytes, where: str) -> Measured:
    """What a ModelMetrics message says of the end of training; raises DataError beginning with `where`."""
    try:
        fields = list(_wire(message))
        ends = [dict(_wire(value)) for tag, value in fields if tag == 1 and isinstance(value, bytes)]
        end, whole = ends[-1], dict(fields)
        return Measured(int(whole[2]), *(float(end[tag]) for tag in (4, 5, 2)))
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise DataError(f"{where}: the metrics are no ModelMetrics message ({error!r:.60})") from None


def _fields(record: bytes, where: str) -> tuple[str, int, str, str, bytes]:
    try:
        key, epochs, adjacency, ops, message = json.loads(record)
        return key, epochs, adjacency, ops, base64.b64decode(message, validate=True)
    except (ValueError, TypeError, binascii.Error):
        raise DataError(f"{where} is no NAS-Bench-101 row of hash, epochs, adjacency, ops and metrics") from None


def _wire(message: bytes) -> Iterator[tuple[int, Value]]:
    """Field numbers and values of a protobuf message; a ValueError or struct.error when it is none."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        if kind == VARINT:
            value, place = _varint(message, place)
            yield tag >> 3, value
        elif kind == FIXED64:
            yield tag >> 3, struct.unpack_from("<d", message, place)[0]
            place += 8
        elif kind == FIXED32:
            yield tag >> 3, struct.unpack_from("<f", message, place)[0]
            place += 4
        elif kind == BYTES:
            length, place = _varint(message, place)
            if place + length > len(message):
                raise ValueError("cut short")
            yield tag >> 3, message[place : place + length]
            place += length
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 64:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
    raise ValueError("a number is cut short")


def _batch(cells: list[tuple[str, str]], path: Path) -> GraphBatch:
    """The pruned graphs that the file's texts describe."""
    width = max(len(ops.split(",")) for _, ops in cells)
    vocabulary = (INPUT, *OPS, OUTPUT)
    code = {op: k for k, op in enumerate(vocabulary)}
    codes = np.full((len(cells), width), ABSENT, np.uint8)
    rows = np.zeros((len(cells), width), np.uint64)
    for row, (adjacency, ops) in enumerate(cells):
        names = ops.split(",")
        size = len(names)
        right = names[0] == INPUT and names[-1] == OUTPUT and set(names[1:-1]) <= set(OPS) and size >= 2
        if not right or size != math.isqrt(len(adjacency)) or len(adjacency) != size**2 or set(adjacency) - set("01"):
            raise DataError(f"{path}: no cell has the adjacency {adjacency!r:.60} and the ops {ops!r:.120}")
        codes[row, :size] = [code[name] for name in names]
        rows[row, :size] = [int(adjacency[v::size][::-1], 2) for v in range(size)]
    return GraphBatch(codes, rows, vocabulary, output=True)


def _check_hashes(graphs: GraphBatch, keys: list[str], path: Path) -> None:
    for row, key in enumerate(keys[:CHECKED]):
        try:
            spec = Spec(graphs.cell(row))
        except GemnetError as error:
            raise DataError(f"{path}: cell {key}: {error}") from None
        if spec.key != key:
            raise DataError(f"{path}: the cell under the hash {key} has the hash {spec.key}")
