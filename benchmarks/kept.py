"""Files of a benchmark's finished parts, each with the settings that it was measured with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gemnet.durable import write_atomic
from gemnet.errors import CheckpointError
from gemnet.search.record import differences


def read_kept(path: Path, settings: Mapping[str, Any]) -> Any:
    """What a file holds; None where there is none.

    Raises:
        CheckpointError: it was measured with other settings, or cannot be read.
    """
    remedy = f"choose another folder than {path.parent}, or remove the file"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        before, content = found.get("settings"), found.get("content")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError):
        raise CheckpointError(f"{path} cannot be read; {remedy}") from None
    changed = differences(before or {}, json.loads(json.dumps(settings)))
    if changed:
        raise CheckpointError(f"{path} was measured with other settings: {'; '.join(changed)}; {remedy}")
    return content


def write_kept(path: Path, settings: Mapping[str, Any], content: Any) -> None:
    """Writes what was measured with these settings, making the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps({"settings": settings, "content": content}) + "\n")
