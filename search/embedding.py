"""The trained encoder: embeds graphs, reports how good it is, is saved and loaded.

A folder of an encoder holds `encoder.safetensors` (weights of encoder and decoder) and
`encoder.json` (settings, vocabulary, size and the fingerprint of the space it was trained on).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gemnet import settings as plain
from gemnet.errors import ConfigError

from .autoencoder import Autoencoder, GraphSource, OnStep, train_autoencoder
from .graphs import GraphBatch
from .learning import EncoderSettings
from .ordering import wl_order

SCHEMA = "gemnet.encoder/4"
WEIGHTS, SETTINGS = "encoder.safetensors", "encoder.json"

Embeddings = npt.NDArray[np.float32]


class EncoderSpace(GraphSource, Protocol):
    """What an encoder needs of a search space."""

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, eq=False)
class Encoder:
    """E of NASGEM: graphs to vectors whose cosine follows the WL similarity.

    Args:
        settings: how it looks and was trained.
        ops: vocabulary of the graphs it embeds.
        width: most nodes of a graph.
        output: whether its graphs have an explicit output.
        fingerprint: of the space it was trained on.
        model: the networks.
    """

    settings: EncoderSettings
    ops: tuple[str, ...]
    width: int
    output: bool
    fingerprint: str
    model: Autoencoder

    @property
    def dim(self) -> int:
        """p, the size of an embedding."""
        return self.settings.dim

    def embed(self, graphs: GraphBatch) -> Embeddings:
        """Embeddings of graphs, computed in blocks of `settings.block` [B, p].

        Raises:
            ConfigError: the graphs have another vocabulary, another kind of output, or too many nodes.
        """
        if graphs.ops != self.ops or graphs.output != self.output:
            known, got = (
                ", ".join([*ops[1:], *["an explicit output"] * output])
                for ops, output in ((self.ops, self.output), (graphs.ops, graphs.output))
            )
            raise ConfigError(f"this encoder embeds graphs of the ops {known}, got {got}; train one on their space")
        graphs = graphs.widen(self.width)
        out = np.empty((len(graphs), self.dim), np.float32)
        with torch.inference_mode():
            for start in range(0, len(graphs), self.settings.block):
                block = slice(start, start + self.settings.block)
                out[block] = self._embed_block(graphs[block])
        return out

    def _embed_block(self, graphs: GraphBatch) -> Embeddings:
        if self.settings.form == "wl":
            return self.model(graphs).numpy()  # type: ignore[no-any-return]
        if self.settings.form == "mlp":
            return self.model(wl_order(graphs)).numpy()  # type: ignore[no-any-return]
        order = np.argsort(graphs.sizes, kind="stable")  # graphs of like size together: absent nodes cost time
        out = np.empty((len(graphs), self.dim), np.float32)
        for part in np.array_split(order, max(1, len(graphs) // 128)):
            some = graphs[part]
            out[part] = self.model(some.widen(int(some.sizes.max()))).numpy()
        return out

    def save(self, folder: Path) -> None:
        """Writes both files into an existing or new folder."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in self.model.state_dict().items()}, folder / WEIGHTS)
        data = {"schema": SCHEMA, "settings": plain.to_dict(self.settings), "ops": list(self.ops), "width": self.width,
                "output": self.output, "space": self.fingerprint}  # fmt: skip
        (folder / SETTINGS).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, space: EncoderSpace | None = None) -> "Encoder":
        """The encoder a folder holds.

        Args:
            folder: what `save` wrote.
            space: the space whose graphs are to be embedded; unchecked when None.

        Raises:
            ConfigError: the folder holds no encoder, or one that was trained on another space.
        """
        data = _read(folder)
        if space is not None and data["space"] != space.fingerprint:
            theirs = f"{data['width']} nodes, ops {', '.join(data['ops'][1:])}"
            ours = f"{space.width} nodes, ops {', '.join(space.vocabulary[1:])}"
            raise ConfigError(
                f"the encoder in {folder} was trained on another space ({theirs}; fingerprint {data['space'][:12]}) "
                f"than this one ({ours}; {space.fingerprint[:12]}): train one on this space"
            )
        made = plain.from_dict(EncoderSettings, data["settings"], "encoder settings")
        model = Autoencoder(made, len(data["ops"]), data["width"])
        try:
            model.load_state_dict(load_file(folder / WEIGHTS))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ConfigError(f"{folder / WEIGHTS} does not hold this encoder's weights: {error!s:.200}") from None
        return cls(made, tuple(data["ops"]), data["width"], data["output"], data["space"], model.eval())


def train_encoder(
    space: EncoderSpace, settings: EncoderSettings, seed: int, on_step: OnStep | None = None,
    budget_s: float | None = None,
) -> Encoder:  # fmt: skip
    """An encoder trained on a space's random graphs; arguments as `train_autoencoder`'s."""
    model = train_autoencoder(space, settings, seed, on_step, budget_s)
    output = space.sample_batch(1, np.random.default_rng(0)).output
    return Encoder(settings, space.vocabulary, space.width, output, space.fingerprint, model)


def _read(folder: Path) -> Mapping[str, Any]:
    path = folder / SETTINGS
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{folder} holds no encoder: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise ConfigError(f"{path} is no encoder's description: its schema is not {SCHEMA!r}")
    return data
