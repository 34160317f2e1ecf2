"""What results say of the machine they were measured on."""

import json
import platform
import subprocess
import sys

import pytest
import torch

from gemnet import machine
from gemnet.export import latency
from gemnet.outcome import hardware
from gemnet.search.record import new_record, read_record, record_text, surroundings_changed

GPU = {"gpus": ["Fast 1"], "cuda": "12.8", "cudnn": 91002}


@pytest.fixture
def fresh():
    machine.processor.cache_clear()
    yield
    machine.processor.cache_clear()


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Fast 1")
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("fresh")
def test_the_first_processor_names_all(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel\t\t: 85\nmodel name\t: A CPU: 2 GHz\n\nmodel name\t: Another\n")
    monkeypatch.setattr(machine, "CPUINFO", cpuinfo)
    assert machine.processor() == "A CPU: 2 GHz"
    assert machine.system() == {"system": sys.platform, "machine": platform.machine(), "model": "A CPU: 2 GHz"}


@pytest.mark.usefixtures("fresh")
def test_elsewhere_the_system_names_the_processor(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "nothing")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert machine.processor() == "arm64"


def test_versions_are_those_of_the_packages():
    found = machine.versions(("torch", "no-such-package"))
    assert list(found) == ["gemnet", "python", "torch", "no-such-package"]
    assert torch.__version__.startswith(found["torch"])
    assert found["no-such-package"] == "nothing"


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_records_are_as_they_always_were():
    assert hardware().keys() == {"processor", "cpus", "torch_threads", "gpus"}
    assert hardware()["gpus"] == []
    assert latency.machine().keys() == {"processor", "cpus", "load", "busy"}
    record = new_record({}, 1)
    assert list(json.loads(record_text(record))) == ["schema", "settings", "seed", "versions", "cpu", "threads"]
    assert record.cpu == machine.system()


@pytest.mark.usefixtures("gpu")
def test_a_gpu_is_recorded():
    assert machine.gpus() == GPU
    assert GPU.items() <= hardware().items()
    assert GPU.items() <= latency.machine().items()
    assert json.loads(record_text(new_record({}, 1)))["gpu"] == GPU


def test_a_study_knows_its_gpu_again(tmp_path, gpu, monkeypatch):
    (tmp_path / "study.json").write_text(record_text(new_record({}, 1)))
    record, _ = read_record(tmp_path)
    assert surroundings_changed(record) == []
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 9)
    assert surroundings_changed(record) == ["gpu.cudnn was 91002, is 9"]


def test_nothing_heavy_is_loaded_where_there_is_no_driver(tmp_path):
    code = (
        "import sys, pathlib; from gemnet import machine; import gemnet.cli, gemnet.search.record\n"
        f"machine.DRIVER = pathlib.Path({str(tmp_path / 'nothing')!r})\n"
        "print({'torch', 'numpy', 'importlib.metadata'} & set(sys.modules))\n"
        "machine.gpus(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PATH": str(tmp_path)}
    )
    assert done.stdout == "set()\nFalse\n"
