"""Which devices a search may be started with."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from commands import call

from gemnet.errors import ConfigError
from gemnet.recipe import Recipe
from gemnet.search.checking import check_device, check_devices
from gemnet.search.compose import Parts, compose
from gemnet.search.evaluators.proxy import ProxyTask
from gemnet.search.evaluators.synthetic import Synthetic
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.strategies.random import RandomSearch
from gemnet.search.study import Study


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
    check_device(PARTS)
    assert asked == ([gpu] if gpu else [])


def test_a_gpu_that_cannot_be_used_is_named(monkeypatch):
    def broken(n, device):
        raise RuntimeError("CUDA error: device is busy\nmore")

    monkeypatch.setattr(torch, "zeros", broken)
    with pytest.raises(ConfigError, match=r"device=cuda: torch cannot use it here \(CUDA error: device is busy\)"):
        check_device(on("cuda"))


def test_a_precision_that_the_device_has_not_is_refused(gpu, monkeypatch):
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda n, device: zeros(n))
    task = replace(PARTS, evaluator=ProxyTask("fashion-mini", recipe=Recipe(precision="fp16"), device="auto"))
    if gpu:
        check_device(task)
    else:
        with pytest.raises(ConfigError, match=r"precision=fp16 needs a GPU; a CPU computes in bf16 or no"):
            check_device(task)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_study_is_not_gone_on_with_where_its_gpu_is_not(tmp_path):
    parts = compose({
        "data": {"name": "fashion-mini"}, "space": {"name": "cells"}, "strategy": {"name": "random"},
        "evaluator": {"name": "proxy", "train_images": 64, "val_images": 64, "device": "cuda"},
    })  # fmt: skip
    Study.create(tmp_path / "s", parts).close()
    result = call("resume", tmp_path / "s", "--workers", "1")
    assert result.exit_code == 2
    assert "evaluator.device=cuda: torch cannot use it here" in result.stderr
    assert json.loads(call("status", tmp_path / "s", "--json").stdout)["trials"] == 0


def test_lists_of_devices_need_an_evaluator_on_cuda(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(ConfigError, match="names the CUDA device 2, but torch sees 2, numbered from 0"):
        check_devices(on("cuda"), ("1", "2"))
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
