"""What `gemnet doctor` says of Python, threads, cores and GPUs."""

import os
import sys
from pathlib import Path

import pytest

from gemnet import doctor_machine, machine
from gemnet.doctor import BROKEN, NOTE, OK

ROOT = Path(__file__).parents[2]
TORCH = {"version": "2.15.0", "cuda": "13.2", "threads": 1, "gpus": [], "heard": []}


@pytest.mark.parametrize(
    ("variables", "threads", "state"),
    [({"OMP_NUM_THREADS": "2"}, 2, OK), ({"OMP_NUM_THREADS": "3"}, 1, NOTE), ({}, 8, NOTE), ({}, 1, OK),
     ({"OMP_NUM_THREADS": "2,4"}, 1, OK), ({"OMP_NUM_THREADS": " 4 , 2"}, 1, NOTE),
     ({"OMP_NUM_THREADS": "2,"}, 1, NOTE), ({"OMP_NUM_THREADS": "9" * 5000}, 1, NOTE),
     ({"OMP_NUM_THREADS": "many"}, 1, NOTE), ({"OMP_NUM_THREADS": "0"}, 1, NOTE), ({"OMP_NUM_THREADS": ""}, 1, NOTE)],
)  # fmt: skip
def test_threads_are_held_against_the_cores_that_may_be_used(monkeypatch, variables, threads, state):
    monkeypatch.setattr(doctor_machine, "usable_cores", lambda: 2)
    (finding,) = doctor_machine.check_threads(variables, {"torch": TORCH | {"threads": threads}})
    assert finding.state == state
    assert finding.fix == ("export OMP_NUM_THREADS=2" if state == NOTE else "")


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({"cpu.max": "150000 100000"}, "0::/", 2),
        ({"cpu.max": "50000 100000"}, "0::/", 1),
        ({"cpu.max": "max 100000"}, "0::/", 64),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 3),
        ({"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, "4:cpuacct,cpu:/a", 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/", 64),
        ({"cpu.max": "nonsense"}, "nonsense", 64),
        ({}, None, 64),
    ],
)
def test_control_groups_limit_the_cores(tmp_path, monkeypatch, files, own, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    assert doctor_machine.usable_cores(tmp_path, tmp_path / "own") == expected


@pytest.mark.parametrize(
    ("torch", "driver", "variables", "state", "words", "fix"),
    [
        (TORCH, False, {}, OK, "none", ""),
        (TORCH | {"gpus": ["H200"]}, True, {}, OK, "H200, CUDA 13.2", ""),
        (TORCH | {"cuda": None}, True, {}, NOTE, "CPU-only build", "pip install --force-reinstall torch torchvision"),
        (TORCH, True, {"CUDA_VISIBLE_DEVICES": ""}, NOTE, "hides it", "unset CUDA_VISIBLE_DEVICES"),
        (TORCH | {"heard": ["The NVIDIA driver on your system is too old"]}, True, {}, NOTE, "too old", "nvidia-smi"),
    ],
)
def test_a_gpu_that_is_not_used_is_named(tmp_path, monkeypatch, torch, driver, variables, state, words, fix):
    monkeypatch.setattr(machine, "DRIVER", ROOT if driver else tmp_path / "none")
    monkeypatch.setenv("PATH", "")
    (finding,) = doctor_machine.check_gpu(variables, {"torch": torch})
    assert finding.state == state
    assert words in finding.text and finding.fix.endswith(fix) and bool(finding.fix) == bool(fix)


def test_old_pythons_are_named(monkeypatch):
    assert doctor_machine.check_python({}, {})[0].state == OK
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert doctor_machine.check_python({}, {})[0].state == BROKEN
