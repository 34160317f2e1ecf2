"""Cells and networks by the ways a user names them: a zoo name, a file, a JSON object."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import zoo
from .cell import Cell
from .config import NetConfig
from .errors import CellError, UnknownNameError
from .scale import solve

Reference = str | Path | Mapping[str, Any] | Cell


@dataclass(frozen=True)
class Variant:
    """A registered network: a zoo cell scaled to a number of MACs in a macro."""

    cell: str
    macro: str
    macs: int

    def net(self) -> NetConfig:
        """The solved network."""
        return solve(self.load(), self.macro, self.macs)

    def load(self) -> Cell:
        """The packaged cell: a user's own of that name does not change what a registered name means."""
        return Cell.load(zoo.path("cells", f"{self.cell}.json"))


FAMILY: dict[str, Variant] = {
    "gemnet_a": Variant("gemnet_a", "imagenet", 240_000_000),
    "gemnet_b": Variant("gemnet_b", "imagenet", 455_000_000),
    "gemnet_a_cifar": Variant("gemnet_a", "small", 40_000_000),
    "gemnet_b_cifar": Variant("gemnet_b", "small", 300_000_000),
}

HUB = ("hf-hub", "hf_hub")  # schemes by which timm names what is there
DEFAULT_MACS = {"imagenet": 240_000_000, "small": 40_000_000, "proxy": 12_000_000}


def find_cell(reference: Reference) -> Cell:
    """The cell of a zoo name, a path of a JSON file, or a JSON object.

    Raises:
        UnknownNameError: neither a zoo name nor a path; names the nearest.
        CellError: the file or object holds no cell.
    """
    if isinstance(reference, Cell):
        return reference
    if isinstance(reference, Mapping):
        return Cell.from_dict(reference)
    if not isinstance(reference, (str, Path)) or "\0" in str(reference):
        raise CellError(f"a cell is named by a zoo name, a path or a JSON object, got {reference!r:.60}")
    if not str(reference):
        raise CellError("the name is empty; gemnet list shows models and cells")
    scheme, _, place = str(reference).partition(":")
    if scheme in HUB:
        raise CellError(f"{reference} is a model on the Hub; gemnet fetch {place} --to DIR, then name DIR")
    if not _is_known(reference):
        raise UnknownNameError("cell", str(reference), zoo.names("cells"))
    return Cell.load(zoo.find("cells", str(reference)) or Path(reference))


def cell_notes(reference: Reference) -> dict[str, Any]:
    """What a cell's file says beyond the graph: `provenance`, `provisional`; empty for an object without."""
    if isinstance(reference, str) and reference in FAMILY:
        reference = zoo.path("cells", f"{FAMILY[reference].cell}.json")
    if isinstance(reference, Cell):
        return {}
    if isinstance(reference, Mapping):
        data = dict(reference)
    else:
        find_cell(reference)
        data = json.loads((zoo.find("cells", str(reference)) or Path(reference)).read_text(encoding="utf-8"))
    return {name: data[name] for name in ("provenance", "provisional") if name in data}


def resolve(
    reference: Reference, macro: str | None = None, macs: int | None = None,
    img_size: int | tuple[int, int] | None = None, in_chans: int = 3, num_classes: int | None = None,
) -> tuple[Cell, NetConfig, str]:  # fmt: skip
    """The cell, the network and the macro that a registered name, zoo cell or cell file stands for.

    Args:
        reference: a name of `FAMILY`, or whatever `find_cell` takes.
        macro, macs: form and size; those of the registered name, else of `gemnet_a`, when None.
        img_size, in_chans, num_classes: what `macs` is counted with; the macro's own when None. Without `macs` they
            change nothing: a registered name stays the network it is.

    Raises:
        UnknownNameError: no such name.
        CellError: no cell, or one that cannot be scaled so.
    """
    variant = FAMILY.get(reference) if isinstance(reference, str) else None
    if variant is None and isinstance(reference, str) and not _is_known(reference):
        from .pretrained import load_weights_list  # imports this module

        raise UnknownNameError("model or cell", reference, {*FAMILY, *load_weights_list(), *zoo.names("cells")})
    cell = variant.load() if variant else find_cell(reference)
    form = macro or (variant.macro if variant else "imagenet")
    default = variant.macs if variant and variant.macro == form else DEFAULT_MACS.get(form, 0)
    if macs is None:
        return cell, solve(cell, form, default), form
    return cell, solve(cell, form, macs, "sum", img_size, in_chans, num_classes), form


def _is_known(reference: str | Path) -> bool:
    """Whether a reference is a zoo name or is meant as a path."""
    path = Path(reference)
    named = zoo.find("cells", str(reference)) is not None
    return named or isinstance(reference, Path) or path.exists() or path.suffix == ".json" or path.name != reference
