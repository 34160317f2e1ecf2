"""Passes that read files are long enough for reading to be measured."""

import time
from dataclasses import replace

import pytest
import torch

from gemnet.recipe import Recipe

FILES, MEMORY = Recipe(img_size=224), Recipe()


@pytest.fixture
def script(load_script):
    return load_script("throughput")


@pytest.fixture
def plan(script):
    return script.Plan("cpu", steps=10, repeats=1, batch_size=8, in_memory=8, workers=0)


@pytest.mark.parametrize(
    ("steps", "workers", "untimed", "timed"),
    [(10, 0, 2, 10), (2, 0, 2, 4), (10, 1, 2, 10), (10, 4, 4, 16), (10, 15, 15, 60), (70, 15, 15, 75)],
)
def test_what_processes_read_ahead_is_not_counted(steps, workers, untimed, timed, plan):
    plan = replace(plan, steps=steps, workers=workers)
    assert plan.lengths(FILES) == (untimed, timed)
    assert plan.lengths(MEMORY) == (2, steps)


def test_the_clock_leaves_out_the_untimed_steps(script):
    clock = script.Clock(torch.device("cpu"), untimed=3, steps=7)
    for step in range(7):
        time.sleep(0.2 if step < 3 else 0.005)
        clock.tick()
    time.sleep(0.2)
    assert 4 * 10 / 0.2 < clock.rate(10) <= 10 / 0.005


@pytest.mark.parametrize(
    ("cuda", "asked", "expected"), [(False, 0, (0, 32, 128)), (True, 0, (6, 256, None)), (True, 2, (2, 256, None))]
)
def test_files_for_a_gpu_are_read_by_processes(cuda, asked, expected, script, tmp_path, monkeypatch):
    plans = []

    class Runner:
        device = torch.device("cuda" if cuda else "cpu")

    monkeypatch.setattr(script, "accelerator", lambda *_: Runner())
    monkeypatch.setattr(script, "usable_cores", lambda: 7)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(script, "of_recipe", lambda name, plan: plans.append(plan) or {"recipe": name})
    monkeypatch.setattr(script, "beside_loop", lambda kind, plan: plans.append(plan) or {"images": kind})
    monkeypatch.setattr(script, "on_cpu", lambda plan, quick: [])
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    script.main.main(["--workers", str(asked), "--out", str(tmp_path / "out.json")], standalone_mode=False)
    assert {(plan.workers, plan.batch_size, plan.in_memory) for plan in plans} == {expected}


def test_file_batches_are_no_larger_than_asked_on_any_device(script, plan, monkeypatch):
    taken = []

    def stop(recipe, *_):
        taken.append(recipe.batch_size)
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "make_images", stop)
    for name, in_memory in (("imagenet", None), ("cifar-cpu", None), ("cifar-cpu", 16)):
        with pytest.raises(KeyboardInterrupt):
            script.of_recipe(name, replace(plan, in_memory=in_memory))
    assert taken == [8, script.load_recipe("cifar-cpu").batch_size, 16]
