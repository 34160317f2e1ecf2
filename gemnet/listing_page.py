"""The index of the zoo as a page that needs no other file and no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .catalog import FAMILY, cell_notes
from .draw import draw_cell
from .listing import Entry, timing

TEMPLATE = "listing_page.html.jinja"


def to_html(entries: Sequence[Entry]) -> str:
    """The page of an index: a table that sorts and can be searched, and the cells drawn."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, autoescape=True, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    times = timing()
    about = {"runtime": times["versions"]["onnxruntime"], "processor": times["hardware"]["model"]}
    cells = [_cell(name) for name in dict.fromkeys(entry.cell for entry in entries)]
    return environment.get_template(TEMPLATE).render(
        entries=entries, cells=cells, times=about, busy=times["busy"], reference=times["reference"]
    )


def _cell(name: str) -> dict[str, Any]:
    """What the page says of a cell, by its name in the zoo."""
    model = next(model for model, variant in FAMILY.items() if variant.cell == name)
    cell, notes = FAMILY[model].load(), cell_notes(model)
    found = notes.get("provenance")
    return {
        "name": name, "picture": draw_cell(cell), "key": cell.key[:12], "nodes": len(cell.ops),
        "edges": len(cell.edges), "provisional": bool(notes.get("provisional")), "found": found,
        "data": Path(found["settings"]["data"]["name"].rpartition(":")[2]).stem if found else "",
    }  # fmt: skip
