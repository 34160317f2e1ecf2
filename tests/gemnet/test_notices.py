"""Of several processes one speaks, and once."""

import pytest

from gemnet.notices import is_first, warn_once


@pytest.mark.parametrize(
    ("rank", "world", "first"),
    [(None, None, True), ("0", "2", True), ("1", "2", False), ("1", None, True), ("1", "1", True)],  # RANK left over
)
def test_the_first_of_launched_processes_speaks_once(rank, world, first, monkeypatch, caplog):
    for name, value in (("RANK", rank), ("WORLD_SIZE", world)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert is_first() == first
    for _ in range(2):
        warn_once(f"of {rank} and {world}")
    assert caplog.messages == [f"of {rank} and {world}"] * first
