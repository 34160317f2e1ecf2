import dataclasses
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gemnet.checkpoint import Checkpoints
from gemnet.data import load
from gemnet.errors import ConfigError, DataError
from gemnet.fit import Plan, fit
from gemnet.images import Share
from gemnet.randomness import all_seeded, seeded
from gemnet.recipe import Recipe
from gemnet.streaming import FolderImages
from gemnet.task import open_images

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = Recipe(
    epochs=2, batch_size=8, lr=0.05, stop_epochs=0, img_size=16, crop_pct=1.0, crop_scale=0.3, color_jitter=0.3,
    auto_augment="rand-m5-mstd0.5",
)  # fmt: skip
PLAIN = {"recipe": RECIPE, "in_chans": 3, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
CPU, ALL = torch.device("cpu"), Share()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """20 + 20 training images of 24 x 20 pixels, of two classes told apart by their colour; 6 test images."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 3)):
        for channel, name in enumerate(("red", "green")):
            (root / part / name).mkdir(parents=True)
            for k in range(count):
                pixels = rng.integers(0, 120, (20, 24, 3), dtype=np.uint8)
                pixels[..., channel] += 130
                Image.fromarray(pixels).save(root / part / name / f"{k}.png")
    return root


def micro_batches(images, numbers, epoch=0, share=ALL):
    batches = [torch.tensor(batch) for batch in numbers]
    return list(images.training(batches, share, epoch, torch.Generator(), CPU))


def test_lists_the_splits_and_takes_a_validation_split_off_as_in_memory(folder):
    images = FolderImages(str(folder), **PLAIN)
    assert images.classes == ("green", "red")
    assert images.counts == {"train": 36, "test": 6, "val": 4}
    held = load(f"folder:{folder}")
    for part in ("val", "test"):
        got = torch.cat([labels for _, labels in images.plain(part, ALL, CPU)])
        assert got.tolist() == held.splits[part].labels.tolist()


def test_file_names_that_are_not_utf_8_are_read_and_in_the_fingerprint(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "set")
    before = FolderImages(str(tmp_path / "set"), **PLAIN).fingerprint
    try:
        (tmp_path / "set" / "train" / "red" / "0.png").rename(tmp_path / "set" / "train" / "red" / "\udcff0.png")
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    images = FolderImages(str(tmp_path / "set"), **PLAIN)
    assert images.fingerprint != before
    assert len(micro_batches(images, [range(36)])[0][1]) == 36


def test_plain_images_are_those_in_memory(folder):
    square = dataclasses.replace(RECIPE, img_size=20)
    images = FolderImages(str(folder), **{**PLAIN, "recipe": square})
    ((got, _),) = images.plain("test", ALL, CPU)
    expected = torch.from_numpy(load(f"folder:{folder}@20").test.images).permute(0, 3, 1, 2) / 255
    assert got.shape == (6, 3, 20, 20) and got.is_contiguous(memory_format=torch.channels_last)
    assert (got - expected).abs().max() < 0.01
    halves = [torch.cat([labels for _, labels in images.plain("val", Share(rank, 2), CPU)] or [torch.zeros(0)])
              for rank in (0, 1)]  # fmt: skip
    assert sum(map(len, halves)) == 4


def test_an_images_augmentation_depends_on_seed_epoch_and_image_alone(folder):
    images = FolderImages(str(folder), **PLAIN)
    ((first, labels), (second, _)) = micro_batches(images, [[3, 30, 7], [8, 9]])
    assert first.shape == (3, 3, 16, 16) and len(set(labels.tolist())) == 2
    ((swapped, _),) = micro_batches(images, [[7, 9]])
    assert torch.equal(swapped, torch.stack([first[2], second[1]]))
    ((later, _),) = micro_batches(images, [[3, 30, 7]], epoch=1)
    ((other, _),) = micro_batches(FolderImages(str(folder), **PLAIN, seed=1), [[3, 30, 7]])
    assert not torch.equal(later, first) and not torch.equal(other, first)


def test_reading_processes_change_nothing_and_draw_nothing(folder):
    with all_seeded(0):
        state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        here = micro_batches(FolderImages(str(folder), **PLAIN), [[1, 2, 3, 4, 5]], share=Share(0, 1, 2))
        assert torch.equal(torch.get_rng_state(), state[0])
        assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    there = micro_batches(FolderImages(str(folder), **PLAIN, workers=2), [[1, 2, 3, 4, 5]], share=Share(0, 1, 2))
    assert [len(labels) for _, labels in here] == [2, 3]
    for (a, b), (c, d) in zip(here, there):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_the_fingerprint_sees_another_file(folder, tmp_path):
    before = FolderImages(str(folder), **PLAIN).fingerprint
    assert FolderImages(str(folder), **PLAIN, seed=3).fingerprint == before
    extra = folder / "train" / "red" / "extra.png"
    Image.new("RGB", (8, 8)).save(extra)
    try:
        assert FolderImages(str(folder), **PLAIN).fingerprint != before
    finally:
        extra.unlink()


def net():
    with seeded(0):
        layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    return nn.Sequential(*layers)


def run(folder, out, resume=False, recipe=RECIPE):
    images = FolderImages(str(folder), **{**PLAIN, "recipe": recipe})
    return fit(net(), images, recipe, 0, out, about={}, device="cpu", resume=resume, plan=Plan(save_every_s=0.0))


def test_learns_and_resumes_in_the_middle_of_an_epoch_with_the_same_weights(folder, tmp_path, monkeypatch):
    from gemnet.trainer import Trainer

    whole = run(folder, tmp_path / "whole")
    assert whole["test"]["top1"] > 0.8
    step = Trainer._run_step

    def broken_off(trainer, *args):
        if trainer.step == 7:
            raise RuntimeError("power cut")
        step(trainer, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_run_step", broken_off)
        with pytest.raises(RuntimeError, match="power cut"):
            run(folder, tmp_path / "broken")
    assert run(folder, tmp_path / "broken", resume=True)["val_acc"] == whole["val_acc"]
    a, b = (Checkpoints(tmp_path / name / "checkpoints").load(10) for name in ("whole", "broken"))
    assert all(torch.equal(value, b.tensors["model"][name]) for name, value in a.tensors["model"].items())


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_does_not_decode_stops_with_its_name_and_nothing_is_lost(folder, tmp_path, workers):
    bad = folder / "train" / "red" / "zzz.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\nthis is none")
    try:
        images = FolderImages(str(folder), **PLAIN, workers=workers)
        with pytest.raises(DataError, match=r"zzz\.png cannot be decoded .*; replace or remove it") as caught:
            micro_batches(images, [[number] for number in range(images.counts["train"])])
        assert "\n" not in str(caught.value)
    finally:
        bad.unlink()


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_16_bits_are_refused_as_in_memory(folder, workers):
    deep = folder / "train" / "red" / "zzz.png"
    Image.new("I;16", (8, 8), 1000).save(deep)
    try:
        images = FolderImages(str(folder), **PLAIN, workers=workers)
        with pytest.raises(DataError, match=r"zzz\.png has more than 8 bits per channel \(I;16\); convert it"):
            micro_batches(images, [[number] for number in range(images.counts["train"])])
    finally:
        deep.unlink()


def test_large_images_are_read_and_cropped_without_pillows_warning(folder, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 300)  # of the 480 there are
    whole = dataclasses.replace(RECIPE, crop_scale=1.0, auto_augment="")
    ((got, _),) = micro_batches(FolderImages(str(folder), **{**PLAIN, "recipe": whole}), [[1, 2, 3]])
    assert got.shape == (3, 3, 16, 16)


@pytest.mark.parametrize("policy", ["foo", "rand-q9", "random-m9"])
def test_a_policy_that_timm_has_not_is_refused_at_once(folder, policy):
    recipe = dataclasses.replace(RECIPE, auto_augment=policy)
    with pytest.raises(ConfigError, match=f"recipe.auto_augment must be a policy of timm's, .*, got '{policy}'"):
        FolderImages(str(folder), **{**PLAIN, "recipe": recipe})


def test_a_policy_that_fails_on_an_image_is_one_line(folder):
    recipe = dataclasses.replace(RECIPE, auto_augment="rand-m1-n8")  # of which Pillow refuses to posterise to 0 bits
    images = FolderImages(str(folder), **{**PLAIN, "recipe": recipe})
    with pytest.raises(DataError, match=r"\.png cannot be augmented \(bits .*\); set another auto_augment"):
        micro_batches(images, [range(36)])


def test_a_size_goes_with_images_in_memory_alone(folder):
    with pytest.raises(ConfigError, match=r"at 16 pixels, so folder:.*@64 may not have a size too; leave out @SIZE"):
        open_images(f"folder:{folder}@64", RECIPE)
    assert open_images(f"folder:{folder}@20", dataclasses.replace(RECIPE, img_size=0)).img_size == (20, 20)


def test_what_is_no_data_set_is_refused(tmp_path, folder):
    with pytest.raises(DataError, match="there is no such folder"):
        FolderImages(str(tmp_path / "none"), **PLAIN)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a" / "0.png")
    with pytest.raises(DataError, match="b has no images"):
        FolderImages(str(tmp_path), **PLAIN)
    Image.new("RGB", (4, 4)).save(tmp_path / "b" / "0.png")
    with pytest.raises(DataError, match="class a has one training image"):
        FolderImages(str(tmp_path), **PLAIN)
    with pytest.raises(ConfigError, match="needs folder:DIR, not fashion-mini; or --set img_size=0"):
        open_images("fashion-mini", RECIPE)
