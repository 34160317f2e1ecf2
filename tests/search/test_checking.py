"""Which devices a search may be started with."""

from dataclasses import dataclass, replace

import pytest
import torch

from gemnet.errors import ConfigError
from gemnet.search.checking import check, check_devices
from gemnet.search.compose import Parts
from gemnet.search.evaluators.synthetic import Synthetic
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.strategies.random import RandomSearch


@dataclass(frozen=True)
class Placed(Synthetic):
    """An evaluator with a device."""

    device: str | None = "auto"


PARTS = Parts(CellSpace(max_nodes=8), Placed(), RandomSearch())


def on(device):
    return replace(PARTS, evaluator=Placed(device=device))


@pytest.fixture(params=[None, "cuda"])
def gpu(request, monkeypatch):
    """The kind of accelerator that torch says there is."""
    kind = request.param and torch.device(request.param)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available=False: kind)
    return request.param


def test_auto_is_the_gpu_that_is_there_or_else_the_cpu(gpu, monkeypatch):
    zeros, asked = torch.zeros, []
    monkeypatch.setattr(torch, "zeros", lambda n, device: asked.append(device) or zeros(n))
    check(PARTS)
    assert asked == [gpu or "cpu"]


def test_a_gpu_that_cannot_be_used_is_named(monkeypatch):
    def broken(n, device):
        raise RuntimeError("CUDA error: device is busy\nmore")

    monkeypatch.setattr(torch, "zeros", broken)
    with pytest.raises(ConfigError, match=r"device=cuda: torch cannot use it here \(CUDA error: device is busy\)"):
        check(on("cuda"))


def test_lists_of_devices_need_an_evaluator_on_cuda(gpu):
    check_devices(on("cuda"), ("0", "1"))
    check_devices(on("cpu"), ())
    for device in ("cpu", None):
        with pytest.raises(ConfigError, match=f"--set evaluator.device=cuda; it is {device}$"):
            check_devices(on(device), ("0", "1"))
    if gpu:
        check_devices(PARTS, ("0", "1"))
    else:
        with pytest.raises(ConfigError, match="it is auto, but torch sees no CUDA device"):
            check_devices(PARTS, ("0", "1"))
