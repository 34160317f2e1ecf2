"""Registration with timm in programs that never import gemnet, switched on and off by the user.

`enable` puts three files into the active environment's site-packages: a module `_gemnet_autoload`, which arms a
hook on timm's import; a `.pth` file whose one line imports that module when Python starts; and, for Python 3.15
and later, a `.start` file that calls it. None of them imports gemnet or timm, the hook catches its own errors, and
they stay harmless when gemnet is uninstalled. The line is as short as it can be, since each start pays for parsing
it; should the module be damaged, Python names the file and goes on.
"""

import importlib.util
import py_compile
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from .durable import write_atomic
from .errors import UsageError

MODULE = "_gemnet_autoload"
SOURCE = '''"""Lets timm know the GEMNet models; `gemnet plugin enable` wrote it, `gemnet plugin disable` removes it."""

import sys


class Finder:
    """Has gemnet register its models when timm is imported for the first time, then steps aside."""

    def find_spec(self, name, path=None, target=None):
        if name != "timm":
            return None
        try:
            sys.meta_path.remove(self)
            import gemnet  # arms its own hook, which registers right after timm's import
        except Exception:
            pass  # gemnet was uninstalled or is broken, which is no reason to keep timm from being imported
        for finder in list(sys.meta_path):
            spec = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                return spec
        return None


def arm():
    """Puts the hook in place, once; a second call does nothing."""
    if "timm" not in sys.modules and not any(type(finder) is Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())


arm()
'''
FILES = {
    f"{MODULE}.py": SOURCE,
    "gemnet-autoload.pth": f"import {MODULE}\n",
    "gemnet-autoload.start": f"{MODULE}:arm\n",
}


@dataclass(frozen=True)
class Status:
    """What is found in a folder: `enabled`, `disabled` or `incomplete` (some files missing or of another version)."""

    state: str
    folder: str


def site_folder() -> Path:
    """The site-packages folder of the active environment."""
    return Path(sysconfig.get_path("purelib"))


def enable(folder: Path | None = None) -> Status:
    """Writes the files; raises UsageError when the folder cannot be written to."""
    target = folder or site_folder()
    try:
        for name, content in FILES.items():
            write_atomic(target / name, content)
        py_compile.compile(str(target / f"{MODULE}.py"))  # else each start compiles it where the folder is read-only
    except OSError as error:
        disable(target)
        raise UsageError(f"cannot write to {target}: {error.strerror}; use an environment of your own") from None
    return status(target)


def disable(folder: Path | None = None) -> Status:
    """Removes the files; raises UsageError when that is not allowed."""
    target = folder or site_folder()
    cached = importlib.util.cache_from_source(str(target / f"{MODULE}.py"))
    try:
        for path in (*(target / name for name in reversed(FILES)), Path(cached)):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot remove {path}: {error.strerror}") from None
    return status(target)


def status(folder: Path | None = None) -> Status:
    """Whether the files are there."""
    target = folder or site_folder()
    same = [(target / name).is_file() and (target / name).read_text("utf-8") == text for name, text in FILES.items()]
    there = [(target / name).exists() for name in FILES]
    return Status("enabled" if all(same) else "incomplete" if any(there) else "disabled", str(target))
