"""Frozen dataclasses to and from JSON objects, with every field's name and type checked."""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from . import zoo
from .errors import ConfigError, UnknownNameError

T = TypeVar("T")


def to_dict(value: Any) -> dict[str, Any]:
    """A JSON object of a dataclass's fields: nested dataclasses as objects, tuples as lists."""
    return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}


def from_dict(cls: type[T], data: Mapping[str, Any], where: str = "") -> T:
    """The dataclass whose fields a JSON object gives; absent fields keep their defaults.

    Args:
        cls: a dataclass whose fields are bool, int, float, str, None, tuples, dictionaries
            with string keys, or dataclasses.
        data: the JSON object.
        where: what the object is, to begin error messages with; the class's name when empty.

    Raises:
        ConfigError: a field is missing or of the wrong type.
        UnknownNameError: the object has a field that the dataclass has not.
    """
    where = where or cls.__name__
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: expected a JSON object, got {data!r:.60}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for name in data:
        if name not in fields:
            raise UnknownNameError(f"field of {where}", name, fields)
    hints = typing.get_type_hints(cls)
    values = {name: _typed(hints[name], value, f"{where}.{name}") for name, value in data.items()}
    for name, field in fields.items():
        no_default = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if name not in values and no_default:
            raise ConfigError(f"{where}: field {name!r} is missing")
    return cls(**values)


def check_ranges(value: Any, where: str, ranges: Mapping[str, tuple[bool, str]]) -> None:
    """Raises ConfigError, `WHERE.FIELD must be RANGE, got VALUE`, unless every field is in its range and finite.

    Args:
        value: a dataclass.
        where: what it is, to begin the message with.
        ranges: for each field whether its value is in its range, and what that is.
    """
    for name, (holds, allowed) in ranges.items():
        found = getattr(value, name)
        if not holds or (isinstance(found, float) and not math.isfinite(found)):
            raise ConfigError(f"{where}.{name} must be {allowed}, got {found}")


def read_named(kind: str, name: str, schema: str) -> dict[str, Any]:
    """The fields, without schema and description, of a JSON file of the zoo, or of a path that ends in `.json`.

    Args:
        kind: what the file holds; the zoo's folder is its plural.
        name: of the file in the zoo, without `.json`, or its path.
        schema: what its field `schema` has to be.

    Raises:
        UnknownNameError: the zoo has no such file; names the nearest.
        ConfigError: the file cannot be read or is not of that schema.
    """
    path = Path(name) if name.endswith(".json") else zoo.find(f"{kind}s", name)
    if path is None:
        raise UnknownNameError(kind, name, zoo.names(f"{kind}s"))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {kind} {path}: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != schema:
        raise ConfigError(f"{path}: a {kind} is a JSON object with schema {schema!r}")
    return {key: value for key, value in data.items() if key not in ("schema", "description")}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _typed(next(arg for arg in args if arg is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast("type[Any]", hint), value, where)
    if origin is tuple:
        return _typed_tuple(args, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: expected a JSON object, got {value!r:.60}")
        return {str(name): _typed(args[1], item, f"{where}.{name}") for name, item in value.items()}
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and not _is_finite(value):
        shown = f"an integer of {value.bit_length()} bits" if isinstance(value, int) else value
        raise ConfigError(f"{where}: expected a finite number, got {shown}")
    if hint is float and is_number:
        return float(value)
    if hint is int and is_number and value == int(value):
        return int(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise ConfigError(f"{where}: expected {getattr(hint, '__name__', hint)}, got {value!r:.60}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the largest float
        return False


def _typed_tuple(args: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(f"{where}: expected a list, got {value!r:.60}")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_typed(args[0], item, f"{where}[{k}]") for k, item in enumerate(value))
    if len(args) != len(value):
        raise ConfigError(f"{where}: expected {len(args)} values, got {len(value)}")
    return tuple(_typed(arg, item, f"{where}[{k}]") for k, (arg, item) in enumerate(zip(args, value)))
