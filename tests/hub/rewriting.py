"""Releases of the tests, and how a test changes one."""

import json
from pathlib import Path

import safetensors.torch

from gemnet.durable import file_sha256
from gemnet.manifest import FILE

REPO, TAG = "lab/tiny", "v1.0.0"


def rewrite(folder: Path, name: str, change) -> None:
    """Changes a JSON file."""
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))


def change_weights(folder: Path, change, honest: bool = True) -> None:
    """Changes the weights and, if honest, the record of which they are; the manifest is gone."""
    tensors = safetensors.torch.load_file(folder / "model.safetensors")
    safetensors.torch.save_file({name: change(name, value) for name, value in tensors.items()},
                                folder / "model.safetensors")  # fmt: skip
    if honest:
        sha256 = file_sha256(folder / "model.safetensors")
        rewrite(folder, "train.json", lambda train: train["result"].update(weights_sha256=sha256))
    (folder / FILE).unlink(missing_ok=True)
