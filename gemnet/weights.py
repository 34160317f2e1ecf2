"""Weights in safetensors files, read and written."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .durable import write_atomic
from .errors import ConfigError, FileError
from .reading import read_file

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
METADATA = 1 << 16  # bytes of a header besides its entries
ENTRY = 300  # bytes of a header's entry besides the tensor's name


def load_weights(model: nn.Module, path: Path) -> str:
    """Loads a safetensors file into the model, strictly, and returns the file's sha256 (hex).

    Raises:
        ConfigError: as `read_tensors`.
    """
    tensors, digest = read_tensors(path, model.state_dict())
    model.load_state_dict(tensors)
    return f"sha256 {digest}"


def read_tensors(path: Path, own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file that is for a model, and the sha256 (hex) of the bytes they come from.

    Nothing larger than the model could need is read, and no tensor before the header was found to be one.

    Args:
        path: of the file.
        own: the model's state, which may be on the meta device.

    Raises:
        ConfigError: the file is missing, is no safetensors file, holds another model's weights or values that are no
            numbers.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        content = read_file(path, most_bytes(own), check=lambda start: _check_start(path, start, own))
        tensors: dict[str, Tensor] = load(content)
    except FileError as error:
        raise ConfigError(f"cannot read weights: {error}") from None
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch has not
        raise ConfigError(f"{path} is no safetensors file: {error}") from None
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors or name not in own:
            lacks = "the file has no" if name not in tensors else "the model has no"
            raise ConfigError(f"{path} holds another model's weights: {lacks} {name!r:.100}")
        _check_tensor(path, name, tensors[name], own[name])
    return tensors, hashlib.sha256(content).hexdigest()


def most_bytes(own: Mapping[str, Tensor]) -> int:
    """The largest file that a model's state may come from."""
    return 8 + _most_header(own) + sum(8 * value.numel() for value in own.values())


def save_weights(model: nn.Module, path: Path) -> str:
    """Writes the model's weights as a safetensors file, whole or not at all; returns its sha256 (hex)."""
    from safetensors.torch import save

    content = save({name: value.contiguous() for name, value in model.state_dict().items()})
    write_atomic(path, content, follow=False)  # safetensors' own writer leaves files that only their owner can read
    return f"sha256 {hashlib.sha256(content).hexdigest()}"


def _most_header(own: Mapping[str, Tensor]) -> int:
    return METADATA + sum(len(name) + ENTRY for name in own)


def _check_start(path: Path, start: bytes, own: Mapping[str, Tensor]) -> None:
    size = int.from_bytes(start[:8], "little")
    if len(start) < 9 or start[8:9] != b"{":
        raise ConfigError(f"{path} is no safetensors file: it does not begin with a header")
    if size > _most_header(own):
        raise ConfigError(f"{path} is no safetensors file of this model: its header would have {size} bytes")


def _check_tensor(path: Path, name: str, found: Tensor, own: Tensor) -> None:
    if own.shape != found.shape:
        shapes = f"{list(found.shape)} in the file, {list(own.shape)} in the model"
        raise ConfigError(f"{path} holds another model's weights: {name!r} is {shapes}")
    if found.dtype != own.dtype and not (found.dtype in FLOATS and own.dtype in FLOATS):
        raise ConfigError(f"{path} holds another model's weights: {name!r} is {found.dtype}, not {own.dtype}")
    if found.dtype in FLOATS and not bool(torch.isfinite(found).all()):
        raise ConfigError(f"{path} holds damaged weights: {name!r} has values that are infinite or not a number")
