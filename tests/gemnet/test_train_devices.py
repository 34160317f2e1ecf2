"""The same training on a CPU and on a GPU: everything a recipe can ask for, stopped in an epoch and gone on with."""

import dataclasses
import json
import signal

import numpy as np
import pytest
import torch
from killed_training import DATA, RECIPE, net
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import gemnet.trainer as module
from gemnet.devices import accelerator, tuned
from gemnet.fit import Plan, fit
from gemnet.images import MemoryImages, Share
from gemnet.randomness import borrowed
from gemnet.recipe import Recipe
from gemnet.task import build_model, open_images, save_model
from gemnet.train import train
from gemnet.trainer import Trainer
from gemnet.weights import save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
FORMS = [("cpu", "no"), ("cpu", "bf16")]
FORMS += [pytest.param("cuda", precision, marks=pytest.mark.gpu) for precision in ("no", "bf16", "fp16")]


@pytest.fixture(autouse=True)
def device_is_there(request):
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def interrupt_at(number, monkeypatch):
    step = Trainer._run_step

    def interrupted(trainer, *args):
        step(trainer, *args)
        if trainer.step == number:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_run_step", interrupted)


@pytest.mark.parametrize(("device", "precision"), FORMS)
def test_goes_on_as_if_it_had_not_been_stopped(tmp_path, device, precision, monkeypatch):
    recipe = dataclasses.replace(RECIPE, precision=precision)

    def run(folder, **options):
        images = MemoryImages(DATA, recipe)
        plan = Plan(save_model=lambda best, place: save_weights(best, place / "model.safetensors"))
        return fit(net(), images, recipe, 1, folder, about={"name": "net"}, device=device, plan=plan, **options)

    unbroken = run(tmp_path / "all")
    with monkeypatch.context() as patch:
        interrupt_at(8, patch)  # in the second epoch
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "out")
    again = run(tmp_path / "out", resume=True)
    curves = [json.loads((tmp_path / name / "train.json").read_text())["curve"] for name in ("all", "out")]
    near = 0 if device == "cpu" else 0.02  # a GPU adds up in another order each time
    assert [row["train_loss"] for row in curves[1]] == pytest.approx([row["train_loss"] for row in curves[0]], rel=near)
    assert again["test"]["top1"] == pytest.approx(unbroken["test"]["top1"], abs=5 * near)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("all", "out")]
    for name, value in weights[0].items():
        assert torch.allclose(value.float(), weights[1][name].float(), rtol=5 * near, atol=5 * near), name


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_streams_with_reading_processes(tmp_path, device):
    rng = np.random.default_rng(0)
    for part, name in ((part, name) for part in ("train", "test") for name in ("dark", "light")):
        (tmp_path / "set" / part / name).mkdir(parents=True)
        for k in range(20):
            pixels = rng.integers(0, 100, (40, 40, 3), dtype=np.uint8) + (100 if name == "light" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "set" / part / name / f"{k}.png")
    recipe = Recipe(epochs=3, batch_size=12, lr=0.02, opt="lamb", stop_epochs=0, img_size=32, crop_scale=0.5,
                    auto_augment="rand-m5-mstd0.5", random_erase=0.2, ema_decay=0.5, precision="bf16")  # fmt: skip
    images = open_images(f"folder:{tmp_path / 'set'}", recipe, workers=2)
    (tmp_path / "cell.json").write_text('{"schema": "gemnet.cell/1", "ops": ["input", "conv1x1"], "edges": [[0, 1]]}')
    model = build_model(str(tmp_path / "cell.json"), images, recipe, macro="proxy", macs=1_000_000)
    plan = Plan(save_model=lambda best, folder: save_model(best, folder, images, recipe))
    result = fit(model, images, recipe, 0, tmp_path / "out", about={}, device=device, plan=plan)
    assert result["test"]["images"] == 40 and result["test"]["top1"] > 0.5
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert all(value.device.type == "cpu" and torch.isfinite(value).all() for value in tensors.values())


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_gpu_tries_its_convolutions_out_for_the_training_alone(device):
    before = torch.backends.cudnn.benchmark
    with tuned(torch.device(device)):
        assert torch.backends.cudnn.benchmark == (before or device == "cuda")
    assert torch.backends.cudnn.benchmark == before


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize(("device", "precision"), FORMS)
def test_a_trained_model_is_as_it_was_but_for_its_weights(device, precision, ema_decay):
    model, recipe = net(), Recipe(epochs=1, batch_size=100, stop_epochs=0, ema_decay=ema_decay, precision=precision)
    train(model, DATA, recipe, 0, device)
    assert "forward" not in vars(model)
    assert model.eval()[0](torch.zeros(2, 1, 28, 28, device=device)).dtype == torch.float32
    train(model, DATA, recipe, 0, device)  # once more


def test_batch_norms_are_handed_to_all_processes_in_the_same_order(monkeypatch):
    class Net(nn.Module):
        def __init__(self, place):
            super().__init__()
            self.net, self.place = net(), place

        def __hash__(self):  # by which a set of small numbers is ordered
            return self.place

        def forward(self, x):
            return self.net(x)

    recipe, orders = Recipe(epochs=1, batch_size=100, stop_epochs=0, ema_decay=0.9), []
    for bare, average in ((0, 1), (1, 0)):
        seen: list[nn.Module] = []
        monkeypatch.setattr(module, "distribute_bn", lambda model, *_, seen=seen, **__: seen.append(model))
        with borrowed(0) as rng:
            trainer = Trainer(Net(bare), MemoryImages(DATA, recipe), recipe, accelerator("cpu"), rng)
            trainer.ema.module.place, trainer.share = average, Share(0, 2, 1)
            trainer.run_epoch()
        orders.append([part is trainer.bare for part in seen])
    assert orders == [[True, False]] * 2
