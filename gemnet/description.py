"""What a network is: its cells, stages and cost, what is known of its weights and where its cell comes from."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .catalog import cell_notes, resolve
from .cell import Cell
from .config import NetConfig
from .cost import Cost, cost
from .errors import UsageError
from .foreign import parse_config
from .listing import list_models
from .outcome import FILE as TRAIN
from .pretrained import Result
from .reading import read_json
from .release import arch_of
from .saved import LOCAL, SOURCES, refuse_size, saved_place
from .saving import CONFIG, WEIGHTS
from .scale import get_macro
from .settings import from_dict


@dataclass(frozen=True)
class Description:
    """A network.

    Args:
        macro: the form it was scaled in; None for a saved model, which is of its own.
        in_chans, img_size, num_classes: of the images [C, H, W] that `price` is counted with, and their classes.
        cells: those that differ, in the order of the stages.
        weights: what a saved model scored, or the entries of `gemnet.listing` for a registered name, as JSON objects.
        notes: `provenance` and `provisional` of the cell, as far as its file has them.
    """

    macro: str | None
    in_chans: int
    img_size: tuple[int, int]
    num_classes: int
    cells: tuple[Cell, ...]
    net: NetConfig
    price: Cost
    weights: tuple[dict[str, Any], ...]
    notes: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """A JSON object; `key` and `cell` are the first stage's, `img_size` is one number for square images."""
        height, width = self.img_size
        return {
            "macro": self.macro, "in_chans": self.in_chans, "img_size": height if height == width else [height, width],
            "num_classes": self.num_classes, "macs": self.price.macs, "params": self.price.params,
            "acts": self.price.acts, "peak_acts": self.price.peak_acts, "key": self.cells[0].key,
            "cell": self.cells[0].to_dict(), "cells": [cell.to_dict() for cell in self.cells],
            "net": self.net.to_dict(), "weights": list(self.weights), **self.notes,
        }  # fmt: skip


def describe(reference: str, macro: str | None = None, macs: int | None = None) -> Description:
    """What a reference stands for.

    Args:
        reference: a registered name, with the tag of its weights or without, a cell of the zoo, the path of a cell's
            JSON file, or a folder with a saved model, such as `gemnet train` leaves.
        macro, macs: as `gemnet.catalog.resolve` takes them; a saved model has its own.

    Raises:
        GemnetError: there is no such model, or it cannot be scaled so.
    """
    sized = macro is not None or macs is not None
    if reference.startswith(SOURCES[1:]):
        raise UsageError(f"{reference} is on the Hub: gemnet fetch {reference} --to DIR, then ask for DIR")
    if reference.startswith(LOCAL) or os.path.isdir(reference):
        place = saved_place(reference)
        if place.startswith(LOCAL):
            refuse_size(reference, sized)
            return _of_folder(Path(place.removeprefix(LOCAL)))
    arch = arch_of(reference)
    cell, net, form_name = resolve(arch, macro, macs)
    form = get_macro(form_name)
    known = () if sized else tuple(e.to_dict() for e in list_models() if reference in (e.model, e.name))
    size, chans, classes = (form.img_size, form.img_size), 3, form.num_classes
    price = cost(cell, net, size, chans, classes)
    return Description(form_name, chans, size, classes, (cell,), net, price, known, cell_notes(arch))


def _of_folder(folder: Path) -> Description:
    """A saved model; its weights are not read."""
    arguments, cfg = parse_config(read_json(folder / CONFIG))
    given, net = arguments["cell"], NetConfig.from_dict(arguments["net"])
    cells = tuple(Cell.from_dict(cell) for cell in (given if isinstance(given, list) else [given]))
    chans, *size = cfg["input_size"]
    price = cost(cells, net, (size[0], size[1]), chans, cfg["num_classes"])
    file = folder / WEIGHTS
    weights = {"model": "gemnet", "tag": cfg.get("tag", ""), "weights": str(file) if file.is_file() else "",
               "latency_ms": None, "result": _result(folder / TRAIN)}  # fmt: skip
    return Description(None, chans, (size[0], size[1]), cfg["num_classes"], tuple(dict.fromkeys(cells)), net, price,
                       (weights,), {})  # fmt: skip


def _result(record: Path) -> dict[str, Any] | None:
    """What the record of a training says of its test split; None where it says nothing."""
    if not record.is_file():
        return None
    told = read_json(record)
    try:
        test = told["result"]["test"]
        images, data = told["asked"]["data"]["counts"]["test"], told["result"].get("data_set", "")
        said = {"data": data, "split": "test", "images": images, "top1": test["top1"], "top5": test["top5"]}
    except (KeyError, TypeError):  # not over, or without a test split
        return None
    return asdict(from_dict(Result, said, str(record)))
