"""Settings of a search: a preset from the zoo, changed by `--set section.name=value`."""

import copy
import json
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any

from gemnet import settings, zoo
from gemnet.errors import ConfigError, UnknownNameError

SCHEMA = "gemnet.search/1"
SECTIONS = ("data", "space", "evaluator", "objective", "strategy", "study")
REQUIRED = ("data", "space", "evaluator", "strategy")
Sections = dict[str, dict[str, Any]]


def names() -> list[str]:
    """The presets there are."""
    return zoo.names("presets")


def load(name: str) -> Sections:
    """The sections of a preset of the zoo, or of a JSON file when the name ends in `.json`.

    Raises:
        UnknownNameError: no such preset, or an unknown section in it.
        ConfigError: the file is no preset.
    """
    sections: Sections = settings.read_named("preset", name, SCHEMA)
    for section, value in sections.items():
        if section not in SECTIONS:
            raise UnknownNameError(f"section of preset {name}", section, SECTIONS)
        if not isinstance(value, dict):
            raise ConfigError(f"preset {name}: section {section!r} is a JSON object, got {value!r:.40}")
    for section in REQUIRED:
        if "name" not in sections.get(section, {}):
            raise ConfigError(f"preset {name}: section {section!r} with a 'name' is missing")
    return sections


def override(sections: Mapping[str, Mapping[str, Any]], changes: Iterable[str]) -> Sections:
    """The sections after changes such as `"strategy.samples=24"`; the arguments stay as they are.

    Values are JSON, or text when they are no JSON; types are checked where the parts are built. A
    changed `name` of a section takes its other fields away, which are another part's.

    Raises:
        ConfigError: a change is not of the form `section.name=value`.
        UnknownNameError: no such section.
    """
    result: Sections = copy.deepcopy({name: dict(section) for name, section in sections.items()})
    parsed = [_parse(change) for change in changes]
    for path, value in sorted(parsed, key=lambda change: change[0][1:] != ["name"]):
        if path[0] not in SECTIONS:
            raise UnknownNameError("section", path[0], SECTIONS)
        place = result.setdefault(path[0], {})
        if path[1:] == ["name"] and place.get("name") != value:
            place.clear()
        for part in path[1:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"--set {'.'.join(path)}: {part!r} is a single value, it has no fields")
        place[path[-1]] = value
    return result


def data_name(name: str) -> str:
    """The name of a data set or table with the path in it, as in `npz:FILE` and `folder:DIR`, made absolute."""
    from .table import READERS, absolute

    kind, colon, place = name.partition(":")
    if colon and kind in READERS:
        return absolute(name)
    return f"{kind}:{os.path.abspath(os.path.expanduser(place))}" if colon and kind in ("npz", "folder") else name


def _parse(change: str) -> tuple[list[str], Any]:
    name, equals, text = change.partition("=")
    path = name.strip().split(".")
    if not equals or len(path) < 2 or not all(path):
        raise ConfigError(f"--set expects SECTION.NAME=VALUE, such as strategy.samples=24; got {change!r}")
    return path, _value(text.strip())


def _value(text: str) -> Any:
    if text.lower() == "none":
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if isinstance(value, float) and not math.isfinite(value) else value
