"""What is wrong with an installation, and the one command that mends each thing.

`examine()` may also be called inside a program: only there it can see that variables of the Hub's client were set
too late. It never imports torch, timm or another package that may be broken: those are tried in a process apart.
"""

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK, NOTE, BROKEN = "ok", "note", "broken"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Args:
        about: what it is.
        state: `ok`, `note` (it works, but not as well as it could) or `broken`.
        text: what was found, and why that matters.
        fix: the command that mends it; empty when it is well.
    """

    about: str
    state: str
    text: str
    fix: str = ""


Check = Callable[[Mapping[str, str], Mapping[str, Any]], list[Finding]]


def examine(environ: Mapping[str, str] | None = None) -> list[Finding]:
    """Everything that was looked at; see `checks` for what that is.

    Args:
        environ: the variables to go by; those of this process when None.
    """
    from .doctor_stack import import_stack

    variables = dict(os.environ if environ is None else environ)
    found: list[Finding] = []
    try:
        stack = import_stack(variables)
    except Exception as error:  # noqa: BLE001 - whatever is broken, the other checks are worth running
        stack = {"error": f"{type(error).__name__}: {error}"}
    for name, check in checks().items():
        try:
            found += check(variables, stack)
        except Exception as error:  # noqa: BLE001 - as above
            found.append(Finding(name, BROKEN, f"this check itself failed: {type(error).__name__}: {error}"))
    return found


def checks() -> dict[str, Check]:
    """All checks by name, in the order of their findings."""
    from .doctor_hub import check_cache, check_late, check_variables
    from .doctor_machine import check_gpu, check_python, check_threads
    from .doctor_package import check_folders, check_plugin, check_version, check_weights
    from .doctor_stack import check_requirements, check_stack

    return {
        "python": check_python, "gemnet": check_version, "torch, torchvision, timm": check_stack,
        "packages": check_requirements, "threads": check_threads, "gpu": check_gpu, "variables": check_variables,
        "variables set too late": check_late, "cache": check_cache, "folders": check_folders,
        "plugin": check_plugin, "weights": check_weights,
    }  # fmt: skip


def pip(*packages: str, options: str = "") -> str:
    """The command that installs packages into this environment."""
    return " ".join([quoted(sys.executable), "-m pip install", *options.split(), *map(quoted, packages)])


def own_source() -> str:
    """Where pip can install this package from again: its checkout, else what it was installed from, else its name."""
    from importlib import metadata

    checkout = Path(__file__).resolve().parents[1]
    if (checkout / "pyproject.toml").is_file():
        return str(checkout)
    try:
        origin = metadata.distribution("gemnet").read_text("direct_url.json")
        return str(json.loads(origin)["url"]) if origin else "gemnet"
    except (metadata.PackageNotFoundError, ValueError, KeyError):
        return "gemnet"


def quoted(word: str | Path) -> str:
    """A word as a shell takes it."""
    return shlex.quote(str(word))
