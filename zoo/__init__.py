"""Files that come with the package, and the user's own beside them: cells, presets, weights, results and data.

A name such as `gemnet_a` of kind `cells` is the file `cells/gemnet_a.json`, looked up in the user's
zoo first and in the package then. The user's zoo is the folder in the environment variable
`GEMNET_ZOO`, or `gemnet/zoo` in the user's data folder.
"""

import os
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def path(*parts: str) -> Path:
    """The path of a packaged file, such as `path("data", "fashion_mini.npz")`."""
    return PACKAGE.joinpath(*parts)


def user_folder() -> Path:
    """The user's own zoo; it need not exist. A `~NAME` that nobody is called stays as it is."""
    if os.environ.get("GEMNET_ZOO"):
        return Path(os.path.expanduser(os.environ["GEMNET_ZOO"]))
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(os.path.expanduser(base), "gemnet", "zoo")


def find(kind: str, name: str) -> Path | None:
    """The JSON file of that kind and name, or None; a name holds no path separators."""
    if not name or name != Path(name).name:
        return None
    for folder in (user_folder(), PACKAGE):
        file = folder / kind / f"{name}.json"
        if file.is_file():
            return file
    return None


def names(kind: str) -> list[str]:
    """All names of a kind, the user's and the package's, sorted."""
    found = {file.stem for folder in (user_folder(), PACKAGE) for file in (folder / kind).glob("*.json")}
    return sorted(found)
