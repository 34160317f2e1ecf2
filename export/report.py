"""What was measured of an exported model, as a JSON file beside it."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gemnet import __version__

SCHEMA = "gemnet.report/1"
LIBRARIES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")


def write_report(path: Path, content: Mapping[str, Any]) -> None:
    """Writes the content with schema, versions and platform, under a temporary name first."""
    versions = {"gemnet": __version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in LIBRARIES}
    report = {"schema": SCHEMA, **content, "versions": versions}
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    os.replace(draft, path)
