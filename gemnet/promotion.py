"""Which zoo is written to, when a cell or weights are promoted."""

import os
from pathlib import Path

from . import zoo
from .errors import UsageError


def default_zoo() -> Path:
    """The user's own zoo when `GEMNET_ZOO` names it, else the checkout's `zoo/`, else the user's own.

    Raises:
        UsageError: `GEMNET_ZOO` names the home of a user that there is not.
    """
    editable = (zoo.PACKAGE.parent / "pyproject.toml").is_file()
    if editable and not os.environ.get("GEMNET_ZOO"):
        return zoo.PACKAGE
    folder = zoo.user_folder()
    if folder.parts[0].startswith("~"):
        raise UsageError(f"GEMNET_ZOO is {folder}, but there is no home of {folder.parts[0]}; set it to a folder")
    return folder
