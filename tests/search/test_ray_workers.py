import os
import sys
import time
from pathlib import Path

import pytest
from studies import content, create, reopen
from toys import Gpu, Number, Toy, TwoPhases, calls_of

from gemnet.errors import EvaluationError, UsageError
from gemnet.search.ray_workers import RayPool
from gemnet.search.workers import Task
from gemnet.search.workforce import RAY, Workforce
from gemnet.stopping import Stop

try:
    import ray
except ImportError:
    ray = None

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}")  # ray's own
    for kind in ("FutureWarning", "ResourceWarning", "DeprecationWarning", "pytest.PytestUnraisableExceptionWarning")
]
needs_ray = pytest.mark.skipif(ray is None, reason="needs Ray: pip install 'gemnet[ray]'")


@pytest.fixture(scope="module")
def cluster():
    """A Ray cluster of two nodes with one processor each, which can import the toys."""
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "RAY_ADDRESS", "RAY_USAGE_STATS_ENABLED")}
    folders = [Path(__file__).parent, Path(__file__).parents[2]]
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, folders))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for left in (2, 1, 0):  # Ray gives up after 30 s, which a busy machine may need
        try:
            made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            made.add_node(num_cpus=1)
            break
        except Exception:
            if not left:
                raise
    os.environ["RAY_ADDRESS"] = made.address
    yield made
    ray.shutdown()
    made.shutdown()
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def pool(cluster, calls):
    pools = []

    def make(evaluator=None, retries=2, time_limit_s=None, stop=None, cpus=1.0):
        pools.append(RayPool(evaluator or Toy(calls), cpus, 0.0, retries, time_limit_s, stop or Stop()))
        return pools[-1]

    yield make
    for made in pools:
        made.close()


def tasks(*values):
    return [Task(f"key{value}", Number(value), seed=value) for value in values]


def outcomes(made, *values):
    return {outcome.task.arch.value: outcome for outcome in made.run(tasks(*values))}


@needs_ray
@pytest.mark.slow
def test_faults_of_trials_end_as_with_local_workers(pool, calls):
    faulty = Toy(calls, raises=(2,), nan=(3,), memory=(4,), dies_once=(5,), hangs=(6,))
    found = outcomes(pool(faulty, retries=1, time_limit_s=3), *range(1, 9))
    assert {value: outcome.status for value, outcome in found.items() if outcome.status != "done"} == {
        2: "failed", 3: "failed", 4: "failed:infra", 6: "failed:infra"}  # fmt: skip
    assert found[2].error == "ValueError: no net of 2 second line"
    assert (found[4].attempts, found[5].attempts, found[6].attempts) == (2, 2, 2)
    assert found[6].error == "time limit of 3 s"


@needs_ray
@pytest.mark.slow
def test_trials_on_a_gpu_have_processes_of_their_own(pool, calls):
    found = outcomes(pool(Gpu(calls, breaks=(2,)), retries=1), *range(5))
    assert {value: (outcome.status, outcome.attempts) for value, outcome in found.items()} == {
        0: ("done", 1), 1: ("done", 1), 2: ("failed:infra", 2), 3: ("done", 1), 4: ("done", 1)}  # fmt: skip
    assert found[2].error == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert len({outcome.metrics["process"] for outcome in found.values() if outcome.metrics}) == 4


@needs_ray
def test_a_search_on_ray_is_the_search_without(cluster, tmp_path, calls):
    with create(tmp_path / "here", calls) as study:
        winner = study.run(TwoPhases())
    with create(tmp_path / "there", calls, workers=Workforce(kind=RAY)) as study:
        assert study.run(TwoPhases()).key == winner.key
    assert content(tmp_path / "there") == content(tmp_path / "here")


@needs_ray
@pytest.mark.slow
def test_a_node_that_is_killed_in_the_middle_loses_nothing(cluster, tmp_path, calls):
    with create(tmp_path / "here", tmp_path / "other") as study:
        winner = study.run(TwoPhases(samples=30))
    lost = cluster.add_node(num_cpus=2)
    with create(tmp_path / "there", calls, evaluator=Toy(calls, sleep_s=0.3), workers=Workforce(kind=RAY)) as study:
        append = study._journal.append
        seen = []

        def noticed(kind, key, body):
            seen.append(kind)
            if seen.count("trial") == 8:
                cluster.remove_node(lost, allow_graceful=False)
            return append(kind, key, body)

        study._journal.append = noticed
        assert study.run(TwoPhases(samples=30)).key == winner.key
    assert content(tmp_path / "there") == content(tmp_path / "here")
    with reopen(tmp_path / "there", calls) as study:
        assert all(trial.done for trial in study._trials.values())


@needs_ray
@pytest.mark.slow
def test_a_stop_lets_the_running_ones_end(pool, calls):
    stop = Stop()
    found = []
    for outcome in pool(Toy(calls, sleep_s=0.2), stop=stop).run(tasks(*range(20))):
        found.append(outcome)
        stop.requested = True
    assert 1 <= len(found) <= 6, "no more than the cluster had room for, a killed node may be counted for a while"
    assert sum(calls_of(calls).values()) == len(found)


@needs_ray
@pytest.mark.slow
def test_a_cluster_without_room_says_so(pool, monkeypatch):
    monkeypatch.setattr("gemnet.search.ray_workers.ROOM_WAIT_S", 0.5)
    start = time.monotonic()
    with pytest.raises(EvaluationError, match="has no room for a trial of 99 CPUs and 0 GPUs"):
        outcomes(pool(cpus=99.0), 1)
    assert time.monotonic() - start < 30


def test_without_ray_the_extra_is_named(monkeypatch, calls):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"--workers ray needs Ray: pip install 'gemnet\[ray\]'"):
        RayPool(Toy(calls), 1.0, 0.0, 1, None, Stop())
