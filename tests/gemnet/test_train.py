import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from gemnet.data import Dataset, Split, load, subset
from gemnet.errors import ConfigError, TrainingError
from gemnet.train import Recipe, augment, evaluate, seeded, train

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK = Recipe(epochs=2, batch_size=50, lr=0.1, crop_padding=2, stop_epochs=0)


@pytest.fixture(scope="module")
def small():
    return subset(load("fashion-mini"), 600, 200)


class Noise(nn.Module):
    """A layer that draws from torch's own generator, as dropout and stochastic depth do."""

    def forward(self, x):
        return x * (1 + 0.1 * torch.rand_like(x)) if self.training else x


def net(seed=0, num_classes=10):
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Noise(),
            nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, num_classes),
        )  # fmt: skip


def weights(model):
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


class TestTrain:
    def test_learns(self, small):
        losses = []
        recipe = dataclasses.replace(QUICK, epochs=4)
        result = train(net(), small, recipe, seed=0, on_epoch=lambda epoch, loss: losses.append((epoch, loss)))
        assert result.val_acc > 0.4
        assert [epoch for epoch, _ in losses] == [1, 2, 3, 4]
        assert losses[-1][1] < losses[0][1] - 0.3
        assert result.train_loss == losses[-1][1]
        assert (result.epochs_run, result.stopped_early) == (4, False)
        assert result.train_s > 0

    def test_is_bit_equal_for_the_same_seed_whatever_was_drawn_before(self, small):
        first, second, other = net(), net(), net()
        a = train(first, small, QUICK, seed=3)
        torch.rand(7)
        b = train(second, small, QUICK, seed=3)
        c = train(other, small, QUICK, seed=4)
        assert torch.equal(weights(first), weights(second))
        assert (a.val_acc, a.train_loss) == (b.val_acc, b.train_loss)
        assert not torch.equal(weights(first), weights(other))
        assert a.train_loss != c.train_loss

    def test_leaves_the_global_generator_alone(self, small):
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        train(net(), small, QUICK, seed=3)
        assert torch.equal(torch.get_rng_state(), state)
        assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002

    def test_reports_the_last_epochs_accuracy(self, small):
        model = net()
        result = train(model, small, QUICK, seed=0)
        assert result.val_acc == evaluate(model, small.val, small.mean, small.std)

    def test_never_looks_at_the_test_split(self, small):
        bare = dataclasses.replace(small, test=None)
        assert train(net(), bare, QUICK, seed=0).train_loss == train(net(), small, QUICK, seed=0).train_loss

    def test_stops_when_hopeless(self, small):
        labels = np.random.default_rng(0).permutation(small.val.labels)
        hopeless = dataclasses.replace(small, val=Split(small.val.images, labels))
        recipe = dataclasses.replace(QUICK, epochs=3, stop_epochs=1)
        result = train(net(), hopeless, recipe, seed=0)
        assert (result.epochs_run, result.stopped_early) == (1, True)
        assert train(net(), hopeless, dataclasses.replace(recipe, stop_factor=0.0), seed=0).epochs_run == 3
        assert train(net(), hopeless, dataclasses.replace(recipe, stop_epochs=0), seed=0).epochs_run == 3

    def test_a_loss_that_is_no_number_is_an_error(self, small):
        model = net()
        nn.init.constant_(model[-1].bias, float("nan"))
        with pytest.raises(TrainingError, match=r"nan in epoch 1 of 2 at learning rate 0\.1; lower lr"):
            train(model, small, QUICK, seed=0)

    def test_scores_for_other_classes_are_an_error(self, small):
        with pytest.raises(ConfigError, match="num_classes=10"):
            train(net(num_classes=9), small, QUICK, seed=0)

    def test_uses_every_image_once_an_epoch_in_even_batches(self, small):
        class Seen(nn.Module):
            def __init__(self):
                super().__init__()
                self.scale, self.batches = nn.Parameter(torch.ones(10)), []

            def forward(self, x):
                if self.training:
                    self.batches.append(x.detach().flatten(1).sum(1))
                return x.mean((1, 2, 3))[:, None] * self.scale

        model = Seen()
        recipe = Recipe(epochs=1, batch_size=128, crop_padding=0, flip=False)
        train(model, small, recipe, seed=0)
        assert [len(batch) for batch in model.batches] == [120] * 5
        pixels = torch.from_numpy(small.train.images).flatten(1).double() / 255
        expected = ((pixels - small.mean[0]) / small.std[0]).sum(1)
        seen = torch.cat(model.batches).double()
        assert torch.allclose(seen.sort().values, expected.sort().values, atol=1e-2)
        assert not torch.allclose(seen, expected, atol=1e-2)

    def test_learning_rate_rises_then_falls_as_a_cosine(self, small, monkeypatch):
        rates = []

        class Spy(torch.optim.SGD):
            def step(self, closure=None):
                rates.append([group["lr"] for group in self.param_groups])
                assert all(group["nesterov"] for group in self.param_groups)
                return super().step(closure)

        from gemnet import trainer as module

        make = module.create_optimizer_v2

        def spied(*args, **kwargs):
            optimizer = make(*args, **kwargs)
            optimizer.__class__ = Spy
            return optimizer

        monkeypatch.setattr(module, "create_optimizer_v2", spied)
        train(net(), small, Recipe(epochs=3, batch_size=100, lr=0.2, warmup_epochs=0.5, stop_epochs=0), seed=0)
        warm, steps = 3, 18
        t = np.arange(steps - warm)
        expected = [0.05, 0.1, 0.15, *(0.1 * (1 + np.cos(np.pi * t / (steps - warm))))]
        assert np.allclose([rate for rate, *_ in rates], expected)
        assert all(len(set(groups)) == 1 for groups in rates)

    @pytest.mark.gpu
    def test_trains_on_a_gpu(self, small):
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        state = torch.cuda.get_rng_state()
        recipe = dataclasses.replace(QUICK, epochs=4)
        model = net()
        result = train(model, small, recipe, seed=0, device="cuda")
        on_cpu = train(net(), small, recipe, seed=0)
        assert result.val_acc > 0.4
        assert result.train_loss == pytest.approx(on_cpu.train_loss, abs=0.1)
        assert next(model.parameters()).is_cuda
        assert torch.equal(torch.cuda.get_rng_state(), state)


class TestEvaluate:
    def test_equals_a_count_by_hand(self, small):
        model = net()
        train(model, small, QUICK, seed=0)
        model.train()
        got = evaluate(model, small.val, small.mean, small.std, batch_size=64)
        assert model.training
        model.eval()
        right = 0
        for image, label in zip(small.val.images, small.val.labels):
            x = (image.astype(np.float32) / 255 - small.mean) / small.std
            scores = model(torch.tensor(x, dtype=torch.float32).permute(2, 0, 1)[None])
            right += int(scores.argmax()) == label
        assert got == right / 200

    def test_changes_no_weight_and_takes_read_only_images(self, small):
        model = net()
        before = weights(model)
        images = small.val.images.copy()
        images.flags.writeable = False
        evaluate(model, Split(images, small.val.labels), small.mean, small.std)
        assert torch.equal(weights(model), before)


class TestAugment:
    images = torch.arange(1, 1 + 64 * 5 * 4 * 3, dtype=torch.int64).remainder(255).add(1).byte().reshape(64, 5, 4, 3)

    def test_each_image_is_a_crop_of_the_padded_one_or_of_its_mirror(self):
        got = augment(self.images, 2, True, torch.Generator().manual_seed(0))
        seen = set()
        for image, original in zip(got, self.images):
            options = {}
            padded = torch.zeros(9, 8, 3, dtype=torch.uint8)
            padded[2:7, 2:6] = original
            for top in range(5):
                for left in range(5):
                    crop = padded[top : top + 5, left : left + 4]
                    options[top, left, False] = crop
                    options[top, left, True] = crop.flip(1)
            match = [option for option, crop in options.items() if torch.equal(crop, image)]
            assert len(match) == 1
            seen.add(match[0])
        assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(5))
        assert {mirrored for _, _, mirrored in seen} == {False, True}

    def test_without_padding_and_flip_nothing_changes(self):
        assert torch.equal(augment(self.images, 0, False, torch.Generator()), self.images)

    def test_flip_alone_mirrors_about_half(self):
        got = augment(self.images, 0, True, torch.Generator().manual_seed(0))
        kept = (got == self.images).flatten(1).all(1)
        assert torch.equal(got[~kept], self.images[~kept].flip(2))
        assert 16 < int(kept.sum()) < 48

    def test_depends_on_the_generator_alone(self):
        first, second, third = (augment(self.images, 2, True, torch.Generator().manual_seed(k)) for k in (5, 5, 6))
        assert torch.equal(first, second)
        assert not torch.equal(first, third)
        assert first.dtype == torch.uint8
        assert first.shape == self.images.shape


def test_seeded_gives_the_same_draws_and_puts_the_generator_back():
    state = torch.get_rng_state()
    with seeded(7):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(7):
        assert torch.equal(torch.rand(3), first)
    with seeded(8):
        assert not torch.equal(torch.rand(3), first)


def test_two_classes_of_colour_images_train():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 100, (40, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1, ..., 0] += 100
    split = Split(images, labels)
    with seeded(0):
        model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    data = Dataset("x", split, split, None, ("a", "b"))
    assert train(model, data, Recipe(epochs=5, batch_size=8), seed=0).val_acc == 1.0
