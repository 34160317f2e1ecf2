"""The index of the zoo: every registered network with its costs, its weights and what they scored.

It is read from `gemnet.catalog.FAMILY`, the zoos' `pretrained.json` and `zoo/results/models.json`; nothing is built or
downloaded.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import zoo
from .catalog import FAMILY, cell_notes
from .cell import Cell
from .config import NetConfig
from .cost import cost
from .errors import ConfigError, GemnetError
from .pretrained import LIST, Result, Weights, load_weights_list
from .scale import MACROS

TIMES = "models"  # the result that has latencies
CHANS = 3  # of the images that they are of


@dataclass(frozen=True)
class Entry:
    """A registered network, or one of its weights.

    Args:
        model: the name timm knows it by.
        tag: of the weights, which timm loads as `model.tag`; empty without weights.
        cell: name of its cell in the zoo.
        cell_key: of the graph it is built from.
        provisional: whether the cell is to be replaced by another.
        img_size: side of its images in pixels.
        num_classes: outputs of its classifier.
        macs, params, acts, peak_acts: of one image, see `gemnet.cost`.
        latency_ms: median of a run, as `zoo/results/models.json` has it; None when that is of another network.
        weights: where they are; empty without.
        result: what they scored, if that is known.
    """

    model: str
    tag: str
    cell: str
    cell_key: str
    provisional: bool
    img_size: int
    num_classes: int
    macs: int
    params: int
    acts: int
    peak_acts: int
    latency_ms: float | None
    weights: str
    result: Result | None

    @property
    def name(self) -> str:
        """What timm loads it by."""
        return f"{self.model}.{self.tag}" if self.tag else self.model

    @property
    def weights_name(self) -> str:
        """The name of the weights' file; empty without."""
        return Path(self.weights).name

    def to_dict(self) -> dict[str, Any]:
        """A JSON object of its fields."""
        return asdict(self)


def list_models() -> list[Entry]:
    """All registered networks, each as often as it has weights and once without any.

    Raises:
        ConfigError: a list of weights is malformed, or one of them is of no network.
    """
    listed = load_weights_list()
    entries = []
    for model in FAMILY:
        own = {name: weights for name, weights in listed.items() if name.partition(".")[0] == model}
        entries += [_weights_entry(name, weights) for name, weights in own.items()]
        if not own:
            entries.append(_entry(model))
    return entries


def timing() -> dict[str, Any]:
    """What the latencies were measured with: versions, hardware, whether other work went on."""
    result: dict[str, Any] = json.loads(zoo.path("results", f"{TIMES}.json").read_text(encoding="utf-8"))
    return result


def table(entries: Sequence[Entry]) -> list[list[str]]:
    """The index as rows of text under a row of headings."""
    head = ["model", "image", "params (M)", "MACs (M)", "latency (ms)", "data", "top-1 (%)", "weights", "cell"]
    rows = [
        [e.name, f"{e.img_size} px", f"{e.params / 1e6:.2f}", f"{e.macs / 1e6:.1f}",
         "" if e.latency_ms is None else f"{e.latency_ms:.2f}", e.result.data if e.result else "",
         f"{100 * e.result.top1:.2f}" if e.result else "", e.weights or "none",
         f"{e.cell} (provisional)" if e.provisional else e.cell]
        for e in entries
    ]  # fmt: skip
    return [head, *rows]


def _weights_entry(name: str, weights: Weights) -> Entry:
    model, _, tag = name.partition(".")
    try:
        return _entry(model, tag, weights)
    except GemnetError as error:
        where = (weights.home or zoo.PACKAGE) / LIST
        raise ConfigError(f"the network of {name} in {where} is none: {error}; mend or remove the entry") from None


def _entry(model: str, tag: str = "", weights: Weights | None = None) -> Entry:
    """The entry of a network; weights bring the one they were trained as."""
    variant = FAMILY[model]
    form = MACROS[variant.macro]
    cell, net, classes, image = variant.load(), variant.net(), form.num_classes, (CHANS, form.img_size, form.img_size)
    if weights is not None:
        cell, net = Cell.from_dict(weights.model_args["cell"]), NetConfig.from_dict(weights.model_args["net"])
        classes, image = weights.cfg.get("num_classes", classes), tuple(weights.cfg.get("input_size", image))
    chans, *sides = image
    size = max(sides)
    price = cost(cell, net, size, chans, classes)
    return Entry(
        model, tag, variant.cell, cell.key, bool(cell_notes(model).get("provisional")), size, classes, price.macs,
        price.params, price.acts, price.peak_acts,
        _latency_ms(model, cell.key, price.params, size, classes) if chans == CHANS else None,
        _place(weights) if weights else "", weights.result if weights else None,
    )  # fmt: skip


def _place(weights: Weights) -> str:
    return f"package: {weights.file}" if weights.packaged else str(weights.path)


def _latency_ms(*network: object) -> float | None:
    """The time of a network, by its model, cell's key, params, size and classes; None when none was measured."""
    for row in timing()["rows"]:
        if tuple(row[field] for field in ("model", "cell_key", "params", "img_size", "num_classes")) == network:
            return float(row["p50_ms"])
    return None
