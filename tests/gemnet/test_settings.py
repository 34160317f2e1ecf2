from dataclasses import dataclass, field

import pytest

from gemnet.errors import ConfigError, UnknownNameError
from gemnet.settings import from_dict, to_dict


@dataclass(frozen=True)
class Inner:
    lr: float = 0.1


@dataclass(frozen=True)
class Outer:
    name: str
    count: int = 3
    flag: bool = False
    limit: int | None = None
    widths: tuple[int, ...] = (1, 2)
    pair: tuple[int, str] = (1, "a")
    inner: Inner = field(default_factory=Inner)
    table: dict[str, float] = field(default_factory=dict)


def test_to_dict_and_from_dict_are_inverse():
    value = Outer("x", 5, True, 7, (3,), (2, "b"), Inner(0.5), {"a": 1.0})
    assert from_dict(Outer, to_dict(value)) == value
    assert from_dict(Outer, {"name": "x"}) == Outer("x")


def test_whole_floats_are_ints_and_ints_are_floats():
    value = from_dict(Outer, {"name": "x", "count": 4.0, "inner": {"lr": 1}})
    assert (value.count, type(value.count), type(value.inner.lr)) == (4, int, float)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ({}, ConfigError, "field 'name' is missing"),
        ({"name": "x", "cout": 1}, UnknownNameError, r"unknown field of Outer 'cout' \(did you mean 'count'"),
        ({"name": 3}, ConfigError, r"Outer\.name: expected str, got 3"),
        ({"name": "x", "count": 1.5}, ConfigError, r"Outer\.count: expected int, got 1\.5"),
        ({"name": "x", "count": True}, ConfigError, "expected int, got True"),
        ({"name": "x", "count": float("nan")}, ConfigError, "expected a finite number, got nan"),
        ({"name": "x", "count": float("inf")}, ConfigError, "expected a finite number, got inf"),
        ({"name": "x", "inner": {"lr": float("nan")}}, ConfigError, r"Outer\.inner\.lr: expected a finite number"),
        ({"name": "x", "flag": 1}, ConfigError, "expected bool, got 1"),
        ({"name": "x", "limit": "no"}, ConfigError, "expected int, got 'no'"),
        ({"name": "x", "widths": 3}, ConfigError, "expected a list, got 3"),
        ({"name": "x", "widths": [1, "b"]}, ConfigError, r"Outer\.widths\[1\]: expected int"),
        ({"name": "x", "pair": [1]}, ConfigError, "expected 2 values, got 1"),
        ({"name": "x", "inner": {"lt": 1}}, UnknownNameError, r"unknown field of Outer\.inner 'lt'"),
        ({"name": "x", "inner": 3}, ConfigError, r"Outer\.inner: expected a JSON object"),
        ({"name": "x", "table": [1]}, ConfigError, "expected a JSON object"),
        ([], ConfigError, "expected a JSON object"),
    ],
)
def test_wrong_settings_are_named(data, error, words):
    with pytest.raises(error, match=words):
        from_dict(Outer, data)
