"""TFRecord files without TensorFlow: a sequence of byte strings, each framed and checked.

    length   uint64, little endian
    crc      uint32, masked CRC-32C of the length's 8 bytes
    data     `length` bytes
    crc      uint32, masked CRC-32C of the data

The masked form of a sum c is ((c >> 15 | c << 17) + 0xA282EAD8) modulo 2^32.
"""

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from gemnet.errors import DataError

Sums = npt.NDArray[np.uint32]
HEAD = struct.Struct("<QI")  # length and its checksum
BLOCK = 4096  # records whose sums are computed side by side
MAX_BYTES = 1 << 24  # of one record
POLYNOMIAL, MASK = 0x82F63B78, 0xA282EAD8


def records(path: Path) -> Iterator[bytes]:
    """The records of a file, in order.

    Raises:
        DataError: a checksum does not fit, or the file ends within a record.
    """
    number = 0
    with path.open("rb") as file:
        while block := _frames(file, path, number):
            wrong = masked_crc32c([data for data, _ in block]) != np.array([crc for _, crc in block], np.uint32)
            if wrong.any():
                bad = number + int(wrong.argmax())
                raise DataError(_damaged(path, f"is damaged in record {bad}"))
            yield from (data for data, _ in block)
            number += len(block)


def masked_crc32c(texts: Sequence[bytes]) -> Sums:
    """The masked CRC-32C of each byte string [B], all computed side by side, byte by byte."""
    order = np.argsort([-len(text) for text in texts], kind="stable")
    lengths = np.array([len(texts[k]) for k in order])
    padded = np.zeros((int(lengths.max(initial=0)), len(texts)), np.uint8)
    for column, k in enumerate(order):
        padded[: len(texts[k]), column] = np.frombuffer(texts[k], np.uint8)
    table, crc = _steps(), np.full(len(texts), 0xFFFFFFFF, np.uint32)
    active = np.searchsorted(-lengths, -np.arange(len(padded)), side="left")  # how many strings are longer
    for row, count in zip(padded, active):
        now = crc[:count]
        crc[:count] = table[(now ^ row[:count]) & np.uint32(0xFF)] ^ now >> np.uint32(8)
    crc = ~crc
    sums = np.empty_like(crc)
    sums[order] = (crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(MASK)
    return sums


def _frames(file: BinaryIO, path: Path, number: int) -> list[tuple[bytes, int]]:
    """Data and stored checksum of the next records, at most `BLOCK`; lengths are checked here."""
    heads: list[bytes] = []
    bodies: list[bytes] = []
    fault = ""
    while not fault and len(heads) < BLOCK and (head := file.read(HEAD.size)):
        length = int.from_bytes(head[:8], "little")
        body = file.read(min(length, MAX_BYTES) + 4)
        if length > MAX_BYTES:
            fault = f"claims {length} bytes for"
        elif len(head) < HEAD.size or len(body) < length + 4:
            fault = "ends within"
        heads.append(head)
        bodies.append(body)
    whole = [HEAD.unpack(head) for head in heads if len(head) == HEAD.size]
    wrong = masked_crc32c([head[:8] for head in heads[: len(whole)]]) != np.array([crc for _, crc in whole], np.uint32)
    if wrong.any():
        raise DataError(_damaged(path, f"is damaged in the length of record {number + int(wrong.argmax())}"))
    if fault:
        raise DataError(_damaged(path, f"{fault} record {number + len(heads) - 1}"))
    return [(body[:-4], int.from_bytes(body[-4:], "little")) for body in bodies]


def _damaged(path: Path, how: str) -> str:
    return f"{path} {how}; it is no TFRecord file, or has to be fetched again"


@lru_cache(maxsize=1)
def _steps() -> Sums:
    """The sum of each single byte."""
    crc = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        crc = np.where(crc & np.uint32(1), crc >> np.uint32(1) ^ np.uint32(POLYNOMIAL), crc >> np.uint32(1))
    return crc
