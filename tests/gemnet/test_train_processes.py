import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from two_processes import gradients

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def as_before():
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_have_the_gradients_of_one_that_accumulates_the_same_micro_batches(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, str(HERE / "two_processes.py"), str(tmp_path / "both"), "1"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert "processes 2" in done.stdout, done.stderr[-2000:]
    both, one, whole = load_file(tmp_path / "both"), gradients(2), gradients(1)
    assert both.keys() == one.keys()
    for name, gradient in one.items():
        assert (both[name] - gradient).abs().max() < 1e-12 * gradient.abs().max(), name
    name, gradient = next(iter(whole.items()))  # batch norm over the whole batch is another function
    assert (both[name] - gradient).abs().max() > 1e-2 * gradient.abs().max()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_train_stop_and_go_on_in_one_folder(tmp_path):
    (tmp_path / "cell.json").write_text('{"schema": "gemnet.cell/1", "ops": ["input", "conv1x1"], "edges": [[0, 1]]}')
    settings = ("epochs=2", "ema_decay=0.9", "accumulate=2", "precision=no", "crop_padding=2")
    launch = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gemnet.cli",
        "train", str(tmp_path / "cell.json"), "--macro", "proxy", "--macs", "1", "--data", "fashion-mini", "--recipe",
        "cifar-cpu-short", *(word for change in settings for word in ("--set", change)), "--device", "cpu", "--resume",
        "--threads", "1", "--json",
    ]  # fmt: skip
    command = [*launch, "--save-minutes", "0", "--out", str(tmp_path / "out")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), *sys.path]), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env) as first:
        while first.poll() is None and not list((tmp_path / "out" / "checkpoints").glob("step-*")):
            time.sleep(0.1)
        first.send_signal(signal.SIGTERM)  # which torchrun hands on to both
        first.wait()
    assert json.loads((tmp_path / "out" / "train.json").read_text())["result"] is None
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)  # one process tells
    assert told["epochs_run"] == 2 and told["test"]["images"] == 1000
    kept = json.loads((tmp_path / "out" / "train.json").read_text())
    assert kept["asked"]["processes"] == 2 and len(kept["curve"]) == 2
    unbroken = subprocess.run([*launch, "--out", str(tmp_path / "all")], capture_output=True, check=False, env=env)
    assert unbroken.returncode == 0
    rows = [json.loads((tmp_path / name / "train.json").read_text())["curve"] for name in ("out", "all")]
    for got, expected in zip(*rows):
        assert got["train_loss"] == pytest.approx(expected["train_loss"], rel=1e-5)
        assert got["val_acc"] == expected["val_acc"]
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("out", "all")]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
