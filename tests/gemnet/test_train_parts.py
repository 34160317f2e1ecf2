"""What a recipe's fields do to a step, against computations by hand and torch's own."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gemnet.augment import Moves, augment
from gemnet.data import load, subset
from gemnet.devices import accelerator
from gemnet.errors import ConfigError, TrainingError, UnknownNameError
from gemnet.evaluation import score
from gemnet.images import MemoryImages, Share
from gemnet.randomness import all_seeded, borrowed, capture, restore, seeded
from gemnet.recipe import Recipe
from gemnet.train import train
from gemnet.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

BARE = Recipe(
    epochs=1, batch_size=50, lr=0.1, momentum=0.0, weight_decay=0.0, crop_padding=0, flip=False, stop_epochs=0
)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data():
    return subset(load("fashion-mini"), 100, 50)


def linear():
    with seeded(0):
        return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16, 10))


def trained(data, recipe, steps=None, model=None):
    """A trainer after an epoch, or some steps of one."""
    runner = accelerator("cpu", recipe.precision, recipe.accumulate)
    with borrowed(0) as rng:
        trainer = Trainer(model or linear(), MemoryImages(data, recipe), recipe, runner, rng)
        left = [steps]

        class EnoughError(Exception):
            pass

        def count():
            if left[0] is not None:
                left[0] -= 1
                if left[0] == 0:
                    raise EnoughError

        with contextlib.suppress(EnoughError):
            trainer.run_epoch(count)
    return trainer


def by_hand(data, recipe, numbers, model=None):
    """The model after one step of plain gradient descent on the images of these numbers."""
    model = model or linear()
    pixels = (torch.from_numpy(data.train.images[numbers]) / 255 - data.mean[0]) / data.std[0]
    labels = torch.from_numpy(data.train.labels[numbers])
    loss = F.cross_entropy(model(pixels.permute(0, 3, 1, 2).float()), labels, label_smoothing=recipe.label_smoothing)
    loss.backward()
    return model, loss.detach()


def weights(model):
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def first_batch(trainer):
    again = torch.Generator()
    again.set_state(trainer._order_state)
    return torch.randperm(100, generator=again)[:50].numpy()


class TestStep:
    def test_is_plain_gradient_descent(self, data):
        trainer = trained(data, BARE, 1)
        model, loss = by_hand(data, BARE, first_batch(trainer))
        expected = weights(model) - 0.1 * torch.cat([p.grad.flatten() for p in model.parameters()])
        assert torch.allclose(weights(trainer.bare), expected, atol=1e-6)
        assert float(trainer._total) / 50 == pytest.approx(float(loss), rel=1e-5)

    @pytest.mark.parametrize("accumulate", [2, 3])
    def test_of_micro_batches_is_that_of_the_whole_batch(self, data, accumulate):
        whole = trained(data, BARE)
        parts = trained(data, dataclasses.replace(BARE, accumulate=accumulate))
        assert (whole.step, parts.step) == (2, 2)
        assert torch.allclose(weights(whole.bare), weights(parts.bare), atol=1e-6)

    def test_clips_the_norm_of_all_gradients_together(self, data):
        trainer = trained(data, dataclasses.replace(BARE, clip_grad=0.01), 1)
        assert float((weights(trainer.bare) - weights(linear())).norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)

    def test_moves_the_average_as_its_decay_says(self, data):
        recipe = dataclasses.replace(BARE, ema_decay=0.999, batch_size=25)
        one, two = weights(trained(data, recipe, 1).bare), trained(data, recipe, 2)
        decay = 1 - 2 ** (-2 / 3)  # of step 2: still warming up
        assert torch.allclose(weights(two.chosen), decay * one + (1 - decay) * weights(two.bare), atol=1e-6)
        assert trained(data, BARE, 1).ema is None

    def test_decays_the_learning_rate_from_layer_group_to_layer_group(self, data):
        from gemnet.cell import Cell
        from gemnet.network import GemNet
        from gemnet.scale import solve

        cell = Cell(("input", "sepconv3x3"), ((0, 1),))
        model = GemNet(cell, solve(cell, "proxy", 600_000, "sum", 28, 1, 10), 10, 1)
        trainer = trained(data, dataclasses.replace(BARE, layer_decay=0.5), 1, model)
        names = {id(p): name for name, p in trainer.bare.named_parameters()}
        rates = {names[id(p)]: group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
        stages = [rates[next(name for name in rates if name.startswith(f"stages.{k}."))] for k in range(3)]
        assert rates["stem.conv.weight"] == pytest.approx(stages[0] / 2)
        assert np.allclose(stages, [stages[2] / 4, stages[2] / 2, stages[2]])
        assert rates["head.fc.weight"] == 0.1 > stages[2]

    def test_mixes_images_and_targets_in_pairs(self, data):
        class Seen(nn.Module):
            def __init__(self):
                super().__init__()
                self.net, self.images = linear(), []

            def forward(self, x):
                self.images.append(x.clone())
                return self.net(x)

        recipe = dataclasses.replace(BARE, mixup=1.0, accumulate=3)
        model = Seen()
        trained(data, recipe, 1, model)
        assert [len(images) for images in model.images] == [16, 16, 16]  # of 16, 17 and 17
        plain = Seen()
        trained(data, dataclasses.replace(BARE, accumulate=3), 1, plain)
        mixed, image = model.images[0], plain.images[0]
        apart = (image[0] - image[-1]).flatten()
        share = float((mixed[0] - image[-1]).flatten() @ apart / apart.norm() ** 2)
        assert 0 < share < 1
        assert torch.allclose(mixed[0], share * image[0] + (1 - share) * image[-1], atol=1e-4)

    def test_erases_a_part_of_some_images(self, data):
        class Seen(nn.Module):
            def __init__(self):
                super().__init__()
                self.net, self.images = linear(), None

            def forward(self, x):
                self.images = x.clone()
                return self.net(x)

        erased, plain = Seen(), Seen()
        trained(data, dataclasses.replace(BARE, random_erase=0.5), 1, erased)
        trained(data, BARE, 1, plain)
        changed = (erased.images != plain.images).flatten(1).float().mean(1)
        assert 10 < int((changed > 0).sum()) < 40 and 0 < float(changed.max()) < 0.4

    def test_computes_in_bf16_and_keeps_weights_in_32_bits(self, data):
        recipe = dataclasses.replace(BARE, precision="bf16")
        exact, rounded = weights(trained(data, BARE).bare), weights(trained(data, recipe).bare)
        assert rounded.dtype == torch.float32
        assert 0 < float((exact - rounded).abs().max()) < 0.01

    def test_holds_a_constant_rate_and_ends_a_cosine_at_its_least(self, data):
        for change, last in (({"sched": "constant"}, 0.1), ({"min_lr": 0.04}, 0.07)):  # of 2 steps: half-way down
            trainer = trained(data, dataclasses.replace(BARE, **change))
            assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(last)

    @pytest.mark.parametrize("opt", ["sgd", "SGD", "nesterov"])
    def test_descends_without_momentum_where_nesterovs_needs_some(self, data, opt):
        trainer = trained(data, dataclasses.replace(BARE, opt=opt, momentum=0.0), 1)
        model, _ = by_hand(data, BARE, first_batch(trainer))
        expected = weights(model) - 0.1 * torch.cat([p.grad.flatten() for p in model.parameters()])
        assert torch.allclose(weights(trainer.bare), expected, atol=1e-6)


class TestShare:
    @pytest.mark.parametrize(("world", "accumulate"), [(1, 1), (2, 1), (1, 3), (3, 2)])
    def test_cuts_a_batch_into_even_parts_of_which_each_process_has_its_own(self, world, accumulate):
        parts = [part for rank in range(world) for part in Share(rank, world, accumulate).slices(61)]
        taken = [number for part in parts for number in range(61)[part]]
        assert taken == list(range(61))
        sizes = {part.stop - part.start for part in parts}
        assert max(sizes) - min(sizes) <= 1

    def test_two_processes_move_their_images_as_one_does(self, data):
        recipe = dataclasses.replace(BARE, crop_padding=3, flip=True)
        images, batch = MemoryImages(data, recipe), [torch.arange(11)]

        def of(share):
            return list(images.training(batch, share, 0, torch.Generator().manual_seed(5), CPU))

        ((whole, labels),) = of(Share())
        halves = [of(Share(rank, 2))[0] for rank in (0, 1)]
        assert torch.equal(torch.cat([images for images, _ in halves]), whole)
        assert torch.equal(torch.cat([labels for _, labels in halves]), labels)
        parts = [list(images.plain("val", Share(rank, 2), CPU)) for rank in (0, 1)]
        assert [sum(len(labels) for _, labels in part) for part in parts] == [50, 0]  # of one evaluation batch

    def test_moves_of_a_part_are_those_of_the_whole(self):
        images = torch.randint(255, (9, 6, 5, 2), generator=torch.Generator().manual_seed(0)).byte()
        moves = Moves.draw(9, 2, True, torch.Generator().manual_seed(1))
        whole = augment(images, 2, True, torch.Generator().manual_seed(1))
        assert torch.equal(moves.of(slice(3, 7)).apply(images[3:7]), whole[3:7])


class TestScore:
    def test_counts_top1_top5_and_every_class(self):
        class Ready(nn.Module):
            def forward(self, x):
                return x

        scores = torch.tensor([[6.0, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [5, 6, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]])
        batches = [(scores[:3], torch.tensor([0, 0, 1])), (scores[3:], torch.tensor([4]))]
        got = score(Ready(), batches, 6, CPU)
        assert (got.top1, got.top5, got.images) == (0.5, 0.75, 4)
        assert got.per_class == (0.5, 1.0, None, None, 0.0, None)
        with pytest.raises(ConfigError, match="num_classes=7"):
            score(Ready(), batches, 7, CPU)
        scores[3, 2], scores[0, 5] = float("nan"), float("-inf")
        with pytest.raises(TrainingError, match="outputs for 2 of 4 images are infinite or not a number"):
            score(Ready(), batches, 6, CPU)

    def test_a_process_without_images_has_the_scores_of_all(self):
        class Pair:
            total = 0

            def autocast(self):
                return contextlib.nullcontext()

            def reduce(self, counts, _):
                self.total = self.total + counts
                return self.total

        both, batches = Pair(), [(torch.eye(3), torch.tensor([0, 1, 1]))]
        first, second = (score(nn.Identity(), share, 3, CPU, both) for share in (batches, []))
        assert (second.top1, second.images, second.per_class) == (first.top1, 3, (1.0, 0.5, None))


class TestOptimiser:
    @pytest.mark.parametrize("error", [AssertionError("CUDA required"), ImportError("no module\nx"), RuntimeError()])
    def test_one_that_cannot_run_here_is_one_line(self, data, monkeypatch, error):
        def create(*_, **__):
            raise error

        monkeypatch.setattr("gemnet.trainer.create_optimizer_v2", create)
        with pytest.raises(ConfigError, match=r"the optimiser adamw cannot be made here: [\w ]+; set another opt$"):
            trained(data, dataclasses.replace(BARE, opt="adamw"))

    def test_one_of_second_order_is_not_among_the_known(self, data):
        with pytest.raises(UnknownNameError, match="unknown optimiser 'adahessian'") as caught:
            trained(data, dataclasses.replace(BARE, opt="adahessian"))
        assert "adahessian" not in caught.value.known and "adamw" in caught.value.known


class TestRandomness:
    def test_states_are_put_back_and_can_be_saved(self):
        with all_seeded(3):
            state = capture(CPU)
            first = torch.rand(2), np.random.rand(2), __import__("random").random()  # noqa: NPY002
            restore(state, CPU)
            again = torch.rand(2), np.random.rand(2), __import__("random").random()  # noqa: NPY002
        assert torch.equal(first[0], again[0]) and np.array_equal(first[1], again[1]) and first[2] == again[2]
        with all_seeded(3):
            assert torch.equal(torch.rand(2), first[0])

    def test_processes_share_one_generator_and_have_others_of_their_own(self):
        drawn = {}
        for rank in (0, 1):
            with borrowed(7, rank) as shared:
                drawn[rank] = torch.rand(1, generator=shared), torch.rand(1), np.random.rand()  # noqa: NPY002
        assert drawn[0][0] == drawn[1][0]
        assert drawn[0][1] != drawn[1][1] and drawn[0][2] != drawn[1][2]


class TestDevices:
    def test_one_process_may_train_in_several_precisions_in_turn(self, data):
        results = [train(linear(), data, dataclasses.replace(BARE, precision=p), 0) for p in ("no", "bf16", "no")]
        assert results[0].train_loss == results[2].train_loss != results[1].train_loss

    def test_a_device_that_is_not_there_is_refused(self):
        with pytest.raises(ConfigError, match="allowed is auto, cpu, cuda"):
            accelerator("cuda:1")
        if not torch.cuda.is_available():
            with pytest.raises(ConfigError, match="sees no CUDA device"):
                accelerator("cuda")
