"""Registration of the models with timm, without importing timm.

The classes follow the protocols of `importlib.abc` without importing it, which would cost more than
all the rest of `import gemnet`.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

ENTRY_POINTS = "gemnet.gemnet"


def register() -> None:
    """Registers the entry points now if timm is imported, else as soon as it is."""
    if "timm" in sys.modules:
        _import_entry_points()
    elif not any(isinstance(finder, _TimmFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TimmFinder())


def _import_entry_points() -> None:
    try:
        importlib.import_module(ENTRY_POINTS)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with ours, timm itself must stay usable
        warnings.warn(f"the GEMNet models could not be registered with timm: {error}", RuntimeWarning, stacklevel=2)


class _TimmFinder:
    """Lets the other finders find timm and puts a loader in front that registers afterwards."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "timm":
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _TimmLoader(spec.loader, self)  # type: ignore[assignment]
                return spec
        return None


class _TimmLoader:
    """Runs timm's own loader, restores it on the module, then registers the models once."""

    def __init__(self, loader: Any, finder: _TimmFinder) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        _import_entry_points()
