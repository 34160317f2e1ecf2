"""This package itself: its version, folders of the user, timm's plugin, the weights it comes with."""

import os
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from . import __version__, plugin
from .doctor import BROKEN, NOTE, OK, Finding, own_source, pip
from .doctor_hub import unwritable

FOLDERS = {"GEMNET_ZOO": "cells and weights cannot be promoted", "GEMNET_DATA": "data sets cannot be downloaded"}
AGAIN = "--force-reinstall --no-deps"


def check_version(_environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Whether the package that runs is the one that is installed."""
    place = Path(__file__).parent
    try:
        installed = metadata.version("gemnet")
    except metadata.PackageNotFoundError:
        checkout = place.resolve().parent
        text = f"{__version__} from {checkout}, which is not installed: it is found from there alone"
        return [Finding("gemnet", NOTE, text, pip(str(checkout), options="-e"))]
    if installed != __version__:
        text = f"{__version__} from {place}, but {installed} is installed: two of them are about"
        return [Finding("gemnet", BROKEN, text, pip(own_source(), options=AGAIN))]
    return [Finding("gemnet", OK, f"{__version__} from {place}")]


def check_folders(environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Folders that variables name."""
    found = []
    for name, what in FOLDERS.items():
        folder = Path(os.path.expanduser(environ[name])) if environ.get(name) else None
        reason = _nobody(folder) or unwritable(folder) if folder else ""
        if reason:
            text = f"{folder}, which {name} names, cannot be written ({reason}): {what}"
            found.append(Finding("folders", BROKEN, text, f"unset {name}"))
    return found or [Finding("folders", OK, "those for cells, weights and data can be written")]


def _nobody(folder: Path) -> str:
    """Why a folder that still begins with `~` after its expansion is none; empty otherwise."""
    return f"there is no home of {folder.parts[0]}" if folder.parts[0].startswith("~") else ""


def check_plugin(_environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Whether the files that let timm know the models are all there or all gone."""
    status = plugin.status()
    if status.state == "incomplete":
        text = f"some of its files in {status.folder} are missing or of another version"
        return [Finding("plugin", BROKEN, text, "gemnet plugin enable")]
    return [Finding("plugin", OK, status.state)]


def check_weights(_environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Whether the weights of the package and of the user's own zoo are whole."""
    from . import zoo
    from .errors import ConfigError
    from .pretrained import LIST, read_weights_list

    own, again = zoo.user_folder() / LIST, pip(own_source(), options=AGAIN)
    names: list[str] = []
    for file in dict.fromkeys((zoo.path(LIST), *((own,) if own.is_file() else ()))):
        fix = again if file == zoo.path(LIST) else f"mv {file} {file}.bad"
        try:
            for name, weights in read_weights_list(file).items():
                fix = again if weights.packaged else f"gemnet promote-weights DIR {name} --force"
                weights.check()
                names.append(name)
        except (ConfigError, OSError, ValueError) as error:
            return [Finding("weights", BROKEN, str(error), fix)]
    return [Finding("weights", OK, f"{len(names)} in the zoo, all whole" if names else "none in the zoo")]
