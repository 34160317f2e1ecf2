from types import SimpleNamespace

import pytest
import torch

from gemnet.config import NetConfig, Stage
from gemnet.export import plan as module
from gemnet.export.plan import NOTHING, choose_plan, runner
from gemnet.fuse import Plan
from gemnet.network import GemNet
from gemnet.train import seeded

IMAGE = (3, 8, 8)


@pytest.fixture
def model(shrinkcnn):
    """A network in which every rewrite but the sharing of sums finds something to do."""
    with seeded(0):
        return GemNet(shrinkcnn, NetConfig(8, (Stage(1, 8, 16, 1),), 16, 1, "concat"), num_classes=3).eval()


@pytest.fixture
def timed(monkeypatch):
    """Lets each comparison end as told, and keeps what was compared."""
    seen = []

    def fake(ratios):
        waiting = iter(ratios)

        def measure(models, runs, **_):
            seen.append(models)
            return {"without": SimpleNamespace(ratio=1.0), "with": SimpleNamespace(ratio=next(waiting))}

        monkeypatch.setattr(module, "measure", measure)
        monkeypatch.setattr(module, "runner", lambda fused, image, threads: fused)
        return seen

    return fake


def test_a_rewrite_stays_when_it_pays(model, timed):
    timed([0.9, 0.995, 0.5])
    plan, rows = choose_plan(model, IMAGE)
    assert plan == Plan(share_sums=False, split_concat=True, merge_pointwise=False, merge_depthwise=True)
    assert [(row["rewrite"], row["changes"], row["taken"]) for row in rows] == [
        ("share_sums", False, False), ("split_concat", True, True),
        ("merge_pointwise", True, False), ("merge_depthwise", True, True),
    ]  # fmt: skip
    assert [row["ratio"] for row in rows] == [1.0, 0.9, 0.995, 0.5]


def test_each_rewrite_is_tried_on_top_of_those_that_paid(model, timed):
    compared = timed([0.9, 0.9, 2.0])
    assert choose_plan(model, IMAGE)[0] == Plan(False, True, True, False)
    assert compared[1]["without"].code == compared[0]["with"].code
    assert compared[2]["without"].code == compared[1]["with"].code


def test_nothing_is_rewritten_where_nothing_pays(model, timed):
    timed([1.0, 1.0, 1.0])
    assert choose_plan(model, IMAGE)[0] == NOTHING


def test_the_choice_on_the_runtime_itself_replays(chain):
    net = NetConfig(8, (Stage(1, 8, 16, 1),), 16, 1)
    plan, rows = choose_plan(GemNet(chain, net, num_classes=3).eval(), IMAGE, runs=2)
    assert [row["changes"] for row in rows] == [False, False, True, False]  # entry and shortcut are siblings
    assert all(row["ratio"] > 0 for row in rows)
    assert Plan.from_dict(plan.to_dict()) == plan


def test_a_runner_runs_the_module_on_a_batch(model):
    with torch.no_grad():
        want = model(torch.zeros(2, *IMAGE))
    (got,) = runner(model, IMAGE, batch=2)()
    torch.testing.assert_close(torch.from_numpy(got), want, rtol=1e-4, atol=1e-5)
