"""What keeps a resumed search honest: it must ask for what it asked for before."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gemnet.errors import ReplayError

from .journal import Journal
from .record import differences

REMEDY = "go on with the gemnet and the settings that the study was started with, or start another in a new directory"


def recall_strategy(journal: Journal, name: str, settings: Mapping[str, Any]) -> None:
    """Journals a study's strategy, or checks that it is the one it was started with.

    Raises:
        ReplayError: it is another, or has other settings; the message names them.
    """
    now = json.loads(json.dumps({"name": name, "settings": dict(settings)}))
    row = journal.get("strategy", "strategy")
    if row is None:
        journal.append("strategy", "strategy", now)
        return
    was = row.body
    changed = differences(was["name"], now["name"], "its name") or differences(was["settings"], now["settings"])
    if changed:
        raise ReplayError(f"replay diverged at strategy: {'; '.join(changed)}; {REMEDY}")


def recall_asked(journal: Journal, name: str, keys: Sequence[str]) -> None:
    """Journals the keys of the trials a strategy asks for, or checks that they are the same as before.

    Raises:
        ReplayError: they are not; the message says where they differ.
    """
    row = journal.get("asked", name)
    if row is None:
        journal.append("asked", name, {"keys": list(keys)})
        return
    was = row.body["keys"]
    if len(was) != len(keys):
        asked = f"it asked for {len(was)} trials before, for {len(keys)} now"
        raise ReplayError(f"replay diverged at {name}: {asked}; {REMEDY}")
    for place, (a, b) in enumerate(zip(was, keys), start=1):
        if a != b:
            other = f"its trial {place} of {len(was)} was {a[:12]}, is {b[:12]}"
            raise ReplayError(f"replay diverged at {name}: {other}; {REMEDY}")
