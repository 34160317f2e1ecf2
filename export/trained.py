"""Models that bring their own weights: folders that `gemnet train` wrote, and registered names with weights."""

import hashlib
import os
from pathlib import Path
from typing import Any

from gemnet.data import Dataset
from gemnet.errors import ConfigError
from gemnet.network import GemNet
from gemnet.pretrained import load_weights_list
from gemnet.release import is_registered
from gemnet.saved import LOCAL
from gemnet.saving import CONFIG, WEIGHTS
from gemnet.task import trained_model


def is_trained_folder(name: str) -> bool:
    """Whether a name is a folder with a model of its own; a registered name never is, `./NAME` is the folder."""
    return not is_registered(name) and all(os.path.isfile(os.path.join(name, file)) for file in (CONFIG, WEIGHTS))


def as_path(name: str) -> str:
    """The folder of a name `local-dir:DIR` as a path that is like no registered name; other names as they are."""
    return os.path.join(name.removeprefix(LOCAL), "") if name.startswith(LOCAL) else name


def load_trained(name: str) -> tuple[GemNet, str] | None:
    """A model with its own weights in eval mode, and where these are from; None when the name has none.

    Args:
        name: a folder, also as `local-dir:DIR`, or anything else `gemnet.catalog.resolve` takes.

    Raises:
        GemnetError: the folder's model cannot be loaded, or has different cells.
    """
    if is_trained_folder(name) or name.startswith(LOCAL):
        place = Path(as_path(name))
        if not is_trained_folder(as_path(name)):
            raise ConfigError(f"{place} is no folder with {CONFIG} and {WEIGHTS}, such as gemnet train writes")
        sha256 = hashlib.sha256((place / WEIGHTS).read_bytes()).hexdigest()
        return _load(name, sha256)
    published = [entry for key, entry in load_weights_list().items() if name in (key, key.partition(".")[0])]
    if not is_registered(name) or not published:
        return None
    return _load(name, published[0].sha256)


def misfit(
    model: GemNet, num_classes: int | None, in_chans: int | None, data: Dataset | None, sized: bool
) -> str:
    """Why a model's weights are not for what is asked for, as the rest of a sentence; empty when they are.

    Args:
        model: with its weights.
        num_classes, in_chans: asked for; those of the data, or else the model's, when None.
        data: that it is to see.
        sized: whether a macro or MACs are asked for.
    """
    if sized:
        return "are for its own network, but --macro or --macs asks for another"
    for what, has, asked, option, shown in (
        ("classes", model.num_classes, num_classes, "--num-classes", data.num_classes if data else None),
        ("channels", model.in_chans, in_chans, "--in-chans", data.in_chans if data else None),
    ):
        if (asked or shown) not in (None, has):
            who = f"{option} asks for {asked}" if asked or data is None else f"{data.name} has {shown}"
            return f"are for {has} {what}, but {who}"
    return ""


def own_labels(model: GemNet) -> tuple[str, ...]:
    """The names of a saved model's classes; empty when it does not know them."""
    cfg: Any = model.pretrained_cfg
    names = cfg.get("label_names") or ()
    return tuple(map(str, names)) if len(names) == model.num_classes else ()


def _load(name: str, sha256: str) -> tuple[GemNet, str]:
    model = trained_model(name, None, None, None, None, None)
    if len(set(model.cells)) > 1:
        raise ConfigError(f"{name} has different cells in its stages; only networks of one cell are exported")
    return model.eval(), f"sha256 {sha256}"
