"""Random numbers of a training: from one seed, put back afterwards, saved and restored.

The nets and timm's augmentations draw from the generators of torch, numpy and Python's `random` that a process
has one of each. A training borrows them: they are set from its seed, and are as before when it is over.
"""

import base64
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


@contextlib.contextmanager
def seeded(seed: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """A block in which torch draws from `seed`; afterwards its generators are as they were before.

    Build a model inside one to make its first weights depend on the seed alone.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        _set_torch(seed, device)
        yield


@contextlib.contextmanager
def all_seeded(seed: int, *path: int, device: str | torch.device = "cpu") -> Iterator[None]:
    """A block that begins with `set_all`, and after which all generators are as they were before."""
    with all_kept(device):
        set_all(seed, *path, device=device)
        yield


@contextlib.contextmanager
def all_kept(device: str | torch.device = "cpu") -> Iterator[None]:
    """A block after which the generators of torch, numpy and Python's `random` are as they were before."""
    device = torch.device(device)
    before = np.random.get_state(), random.getstate()  # noqa: NPY002 - timm draws from this generator
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        np.random.set_state(before[0])  # noqa: NPY002
        random.setstate(before[1])


def set_all(seed: int, *path: int, device: str | torch.device = "cpu") -> None:
    """Makes torch draw from `seed`, numpy and Python's `random` from (seed, *path).

    With a path of an epoch and an image, say, torch draws from all of it too.
    """
    words = np.random.SeedSequence([seed, *path]).generate_state(3, np.uint64)
    np.random.seed(int(words[0]) % 2**32)  # noqa: NPY002
    random.seed(int(words[1]))
    _set_torch(int(words[2]) >> 1 if path else seed, torch.device(device))


def _set_torch(seed: int, device: torch.device) -> None:
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)


def capture(device: torch.device) -> dict[str, Any]:
    """The states of a process's generators as a JSON object."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    state = {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": encode(torch.get_rng_state()),
    }
    return state | ({"cuda": encode(torch.cuda.get_rng_state(device))} if device.type == "cuda" else {})


def restore(state: dict[str, Any], device: torch.device) -> None:
    """Puts the generators in states that `capture` gave."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(decode(state["torch"]))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(decode(state["cuda"]), device)


def encode(state: torch.Tensor) -> str:
    """A generator's state, uint8 [K], as text."""
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def decode(text: str) -> torch.Tensor:
    """The generator's state that `encode` made a text of."""
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)


@contextlib.contextmanager
def borrowed(seed: int, rank: int = 0, device: str | torch.device = "cpu") -> Iterator[torch.Generator]:
    """A block in which a process's generators are a training's; gives one more that all processes have alike."""
    with all_seeded(seed, device=device):
        shared = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        with all_seeded(seed, rank, device=device) if rank else contextlib.nullcontext():
            yield shared
