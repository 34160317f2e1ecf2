"""Weights in safetensors files, read and written."""

import hashlib
import os
from pathlib import Path

from torch import nn

from .errors import ConfigError


def load_weights(model: nn.Module, path: Path) -> str:
    """Loads a safetensors file into the model, strictly, and returns the file's sha256 (hex).

    Raises:
        ConfigError: the file is missing, is no safetensors file, or holds another model's weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = path.read_bytes()
        tensors = load(content)
    except OSError as error:
        raise ConfigError(f"cannot read weights {path}: {error.strerror}") from None
    except SafetensorError as error:
        raise ConfigError(f"{path} is no safetensors file: {error}") from None
    own = model.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors or name not in own:
            lacks = "the file has no" if name not in tensors else "the model has no"
            raise ConfigError(f"{path} holds another model's weights: {lacks} {name!r}")
        if own[name].shape != tensors[name].shape:
            shapes = f"{list(tensors[name].shape)} in the file, {list(own[name].shape)} in the model"
            raise ConfigError(f"{path} holds another model's weights: {name!r} is {shapes}")
    model.load_state_dict(tensors)
    return f"sha256 {hashlib.sha256(content).hexdigest()}"


def save_weights(model: nn.Module, path: Path) -> str:
    """Writes the model's weights as a safetensors file, under a temporary name first; returns its sha256 (hex)."""
    from safetensors.torch import save

    content = save({name: value.contiguous() for name, value in model.state_dict().items()})
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(content)  # safetensors' own writer leaves files that only their owner can read
    os.replace(draft, path)
    return f"sha256 {hashlib.sha256(content).hexdigest()}"
