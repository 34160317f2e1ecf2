import dataclasses
import json
import pickle

import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.cost import cost
from gemnet.errors import CellError, ConfigError, DataError, EvaluationError, UnknownNameError
from gemnet.machine import DEVICES
from gemnet.recipe import Recipe
from gemnet.search.bootstrap import top_candidates
from gemnet.search.evaluators.proxy import ProxyTask
from gemnet.search.limits import CostLimits
from gemnet.search.objective import Objective
from gemnet.search.spaces.cells import CellSpace

QUICK = Recipe(epochs=1, batch_size=32, stop_epochs=0, crop_padding=2)
TASK = ProxyTask("fashion-mini", macs=600_000, train_images=200, val_images=100, recipe=QUICK)


def numbers(metrics):
    return {name: value for name, value in metrics.items() if not name.endswith("_s")}


def test_a_measurement_is_an_accuracy_and_what_the_proxy_network_costs(shrinkcnn):
    metrics = TASK.evaluate(shrinkcnn, 1)
    assert 0 <= metrics["val_acc"] <= 1
    assert metrics["val_acc"] * 100 == pytest.approx(round(metrics["val_acc"] * 100))  # of 100 images
    assert metrics["train_s"] > 0
    price = cost(shrinkcnn, TASK.net(shrinkcnn), (28, 28), 1, 10)
    assert {name: metrics[name] for name in dataclasses.asdict(price)} == dataclasses.asdict(price)
    assert 0.8 * TASK.macs < metrics["macs"] <= TASK.macs


def test_the_same_seed_gives_the_same_numbers_also_in_another_order_of_nodes(shrinkcnn, relabelled):
    first = numbers(TASK.evaluate(shrinkcnn, 1))
    other = relabelled(shrinkcnn)
    assert other != shrinkcnn
    assert numbers(TASK.evaluate(other, 1)) == first != numbers(TASK.evaluate(shrinkcnn, 2))


def test_fixed_widths_are_not_scaled(chain):
    fixed = dataclasses.replace(TASK, equal_macs=False, widths=(8, 12, 16))
    assert [stage.node_chs for stage in fixed.net(chain).stages] == [8, 12, 16]


@pytest.mark.parametrize("merge", ["sum", "concat"])
def test_costs_of_a_batch_are_those_of_each_cell_where_widths_are_fixed(merge):
    fixed = dataclasses.replace(TASK, equal_macs=False, widths=(8, 12, 16), merge=merge)
    graphs = CellSpace(min_nodes=3, max_nodes=12).sample_batch(40, np.random.Generator(np.random.Philox(key=0)))
    together = fixed.batch_cost(graphs)
    for b, price in enumerate(map(fixed.cost, graphs.cells())):
        got = {name: int(getattr(together, name)[b]) for name in dataclasses.asdict(price)}
        assert got == dataclasses.asdict(price)
    assert TASK.batch_cost(graphs) is None  # each cell has widths of its own


@pytest.mark.parametrize(
    ("limit", "equal_macs", "slow"),
    [({"max_macs": 1000}, False, False), ({"max_acts": 10}, False, False), ({"max_macs": 1000}, True, True)],
    ids=["by a law", "by batches", "one by one"],
)
def test_a_limit_no_proxy_network_keeps_is_named_after_a_few_blocks(limit, equal_macs, slow):
    space, task = CellSpace(min_nodes=3, max_nodes=12), dataclasses.replace(TASK, equal_macs=equal_macs)
    limits = CostLimits(Objective(**limit), task, space)
    assert limits.slow == slow
    ((name, value),) = limit.items()
    drawn = []
    with pytest.raises(EvaluationError, match=rf"none of \d+ candidates keeps the limits \({name}={value}\)"):
        top_candidates(
            space, lambda graphs: (graphs.sizes * 1.0, graphs.sizes * 0.0), np.random.default_rng(0),
            10**9 if slow else 4000, 5, block=64 if slow else 1000, limits=limits, on_block=drawn.append,
        )  # fmt: skip
    assert sum(drawn) <= 4000


def test_the_fingerprint_covers_images_and_settings_but_not_names_and_devices():
    copies = [pickle.loads(pickle.dumps(TASK)), ProxyTask.from_dict(TASK.to_dict())]
    same = [*(dataclasses.replace(TASK, device=name) for name in DEVICES), *copies]
    assert {task.fingerprint for task in same} == {TASK.fingerprint}
    changes = ({"macs": 700_000}, {"train_images": 210}, {"recipe": Recipe(epochs=2)}, {"merge": "concat"})
    others = {dataclasses.replace(TASK, **change).fingerprint for change in changes}
    assert len(others | {TASK.fingerprint}) == 5


def test_settings_survive_json():
    assert ProxyTask.from_dict(json.loads(json.dumps(TASK.to_dict()))) == TASK


def test_only_the_training_split_is_used():
    from gemnet.data import load

    data, whole = TASK.dataset(), load("fashion-mini")
    seen = {image.tobytes() for split in (data.train, data.val) for image in split.images}
    assert len(seen) == 300
    assert not seen & {image.tobytes() for image in whole.test.images}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"macs": 0}, ConfigError, "macs must be at least 1"),
        ({"widths": (8,)}, ConfigError, "lists three widths"),
        ({"device": "cuda:1"}, ConfigError, r"device must be auto, cpu, cuda, got 'cuda:1'; .*CUDA_VISIBLE_DEVICES"),
        ({"device": "mps"}, ConfigError, "device must be auto, cpu, cuda, got 'mps'"),
        ({"recipe": {"epochs": 0}}, ConfigError, "epochs must be at least 1"),
        ({"recipe": {"epoch": 1}}, UnknownNameError, "did you mean 'epochs'"),
    ],
)
def test_wrong_settings_are_refused(change, error, words):
    with pytest.raises(error, match=words):
        ProxyTask.from_dict({**TASK.to_dict(), **change})


def test_what_cannot_be_measured_is_named(chain):
    class Other:
        key = "x"

    with pytest.raises(CellError, match="measures cells, got Other"):
        TASK.evaluate(Other(), 0)
    with pytest.raises(CellError, match=r"cannot be made as small as 0\.001 M"):
        dataclasses.replace(TASK, macs=1000).evaluate(chain, 0)
    with pytest.raises(UnknownNameError, match="unknown op"):
        TASK.evaluate(Cell(("input", "nothing"), ((0, 1),)), 0)
    with pytest.raises(DataError):
        dataclasses.replace(TASK, train_images=10**6).dataset()
