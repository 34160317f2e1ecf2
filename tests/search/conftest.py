"""Fixtures of searches; makes the toy search importable by name, also in the processes that workers run in."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def calls(tmp_path):
    """A file in which a toy evaluator notes every call."""
    return str(tmp_path / "calls")


@pytest.fixture
def preset(tmp_path):
    """A preset file: random search of 12 cells, nothing trained."""
    from commands import PRESET

    file = tmp_path / "preset.json"
    file.write_text(json.dumps(PRESET))
    return str(file)


@pytest.fixture
def study(tmp_path, preset):
    """The directory of a finished search."""
    from commands import call

    directory = str(tmp_path / "study")
    assert call("run", directory, "--preset", preset, "--workers", "0", "--seed", "3").exit_code == 0
    return directory
