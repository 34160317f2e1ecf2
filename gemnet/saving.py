"""A model as a folder that timm loads: `timm.create_model("local-dir:FOLDER", pretrained=True)`.

The same files make a model on the Hub. The config names the architecture `gemnet` and holds cell and
network themselves, so that it loads whatever becomes of a name such as `gemnet_a`; timm's own savers write
the same for our models.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .durable import scratch, write_atomic
from .errors import ConfigError, UsageError
from .manifest import FILE
from .manifest import describe as describe_files
from .network import GemNet
from .release import CONFIG, WEIGHTS
from .weights import save_weights

__all__ = ["CONFIG", "WEIGHTS", "describe", "save_folder"]


def save_folder(
    model: GemNet, folder: str | Path, *, label_names: Sequence[str] | None = None,
    pretrained_cfg: Mapping[str, Any] | None = None, notes: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Writes `config.json`, `model.safetensors` and their `manifest.json`, and returns the folder.

    Args:
        model: as `timm.create_model` built it, head pruned or reset or not.
        folder: made if it is not there; files of these names are replaced.
        label_names: of the classes, in order.
        pretrained_cfg: fields that differ from the model's own, such as `mean`, `std`, `input_size`, `tag`.
        notes: more top-level fields, such as where the weights come from.

    Raises:
        UsageError: no GemNet of `timm.create_model`, or a folder that cannot be written to.
        ConfigError: names of a wrong number, or an argument of the model that JSON has no form for.
    """
    if not isinstance(model, GemNet) or not hasattr(model, "pretrained_cfg"):
        raise UsageError(f"only models of timm.create_model('gemnet...') are saved so, got a {type(model).__name__}")
    if label_names is not None and len(label_names) != model.num_classes:
        raise ConfigError(f"{len(label_names)} label names for a model of {model.num_classes} classes")
    from timm.models._hub import save_config_for_hf

    config: dict[str, Any] = {"pretrained_cfg": dict(pretrained_cfg or {}), **describe(model), **(notes or {})}
    if label_names is not None:
        config["label_names"] = list(label_names)
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        with scratch(target, CONFIG) as made:
            draft = Path(made) / CONFIG
            save_config_for_hf(model, str(draft), config, model_args=model._model_args)
            save_weights(model, target / WEIGHTS)
            write_atomic(target / CONFIG, draft.read_bytes(), follow=False)
        describe_files(target, (CONFIG, WEIGHTS)).write(target / FILE)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{error}; pass layers by name, such as act_layer='silu'") from None
    return target


def describe(model: GemNet) -> dict[str, Any]:
    """What a reader of a saved model may want besides what timm needs: the keys of its cells, and our version."""
    from . import __version__

    keys = list(dict.fromkeys(cell.key for cell in model.cells))
    return {"cell_key": keys[0] if len(keys) == 1 else keys, "gemnet_version": __version__}
