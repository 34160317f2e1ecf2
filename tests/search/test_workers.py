import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from toys import Device, Gpu, Number, Surroundings, Toy, calls_of

from gemnet.errors import EvaluationError
from gemnet.search.workers import Pool, Task


def tasks(*values):
    return [Task(f"key{value}", Number(value), seed=value) for value in values]


def outcomes(pool, *values):
    try:
        return {outcome.task.arch.value: outcome for outcome in pool.run(tasks(*values))}
    finally:
        pool.close()


def test_one_two_and_no_workers_measure_the_same(calls):
    found = []
    for workers in (0, 1, 2):
        metrics = {v: dict(o.metrics) for v, o in outcomes(Pool(Toy(calls), workers), *range(9)).items()}
        assert all(numbers.pop("train_s") for numbers in metrics.values())
        found.append(metrics)
    assert found[0] == found[1] == found[2]
    assert set(found[0]) == set(range(9))


def test_tasks_are_handed_out_in_order_and_results_come_as_they_arrive(calls):
    pool = Pool(Toy(calls, sleep_s=0.01), 1)
    assert [outcome.task.key for outcome in pool.run(tasks(5, 3, 4))] == ["key5", "key3", "key4"]
    workers = [worker.process.pid for worker in pool._workers]
    assert [outcome.task.key for outcome in pool.run(tasks(1, 2))] == ["key1", "key2"]
    assert [worker.process.pid for worker in pool._workers] == workers, "workers stay between phases"
    pool.close()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_candidate_that_raises_has_failed_by_itself_and_is_not_retried(calls, workers):
    found = outcomes(Pool(Toy(calls, raises=(2,), nan=(3,)), workers), 1, 2, 3)
    assert found[1].status == "done"
    assert (found[2].status, found[2].error) == ("failed", "ValueError: no net of 2 second line")
    assert (found[3].status, found[3].error) == ("failed", "val_acc is nan")
    assert calls_of(calls) == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("workers", [0, 1])
def test_want_of_memory_is_retried_and_never_a_result(calls, workers):
    found = outcomes(Pool(Toy(calls, memory=(2,)), workers, retries=1), 1, 2)
    assert (found[2].status, found[2].attempts) == ("failed:infra", 2)
    assert calls_of(calls) == {1: 1, 2: 2}


def test_no_trial_is_measured_in_a_process_whose_gpu_another_broke(calls):
    pool = Pool(Gpu(calls, breaks=(2,), breaks_once=(4,)), 1, retries=2)
    found = outcomes(pool, *range(7))
    assert {value: outcome.status for value, outcome in found.items() if outcome.status != "done"} == {
        2: "failed:infra"}  # fmt: skip
    assert found[2].error == "RuntimeError: CUDA error: an illegal memory access was encountered"
    assert {value: outcome.attempts for value, outcome in found.items()} == {0: 1, 1: 1, 2: 3, 3: 1, 4: 2, 5: 1, 6: 1}
    assert calls_of(calls) == {value: outcome.attempts for value, outcome in found.items()}
    process = {value: outcome.metrics["process"] for value, outcome in found.items() if outcome.metrics}
    assert process[0] == process[1] != process[3] != process[4] == process[5] == process[6]


def test_a_trial_that_breaks_the_gpu_of_several_workers_costs_no_other(calls):
    found = outcomes(Pool(Gpu(calls, breaks=(1, 5)), 3, retries=1, devices=("0", "1")), *range(12))
    assert [value for value, outcome in sorted(found.items()) if outcome.status == "failed:infra"] == [1, 5]
    assert calls_of(calls) == {value: 2 if value in (1, 5) else 1 for value in range(12)}


def test_a_search_in_the_main_process_stops_when_its_gpu_is_lost(calls, monkeypatch):
    monkeypatch.setattr("toys.broken_by", [])
    pool = Pool(Gpu(calls, breaks=(2,)), 0)
    run = pool.run(tasks(1, 2, 3))
    assert next(run).status == "done"
    with pytest.raises(EvaluationError, match=r"illegal memory access .*with --workers 1 or more"):
        next(run)
    assert calls_of(calls) == {1: 1, 2: 1}


def test_the_trial_of_a_dead_worker_is_tried_again(calls):
    found = outcomes(Pool(Toy(calls, dies_once=(2,)), 2), *range(6))
    assert {outcome.status for outcome in found.values()} == {"done"}
    assert found[2].attempts == 2
    assert calls_of(calls)[2] == 2


def test_a_trial_that_always_kills_its_worker_is_given_up(calls):
    found = outcomes(Pool(Toy(calls, dies=(2,)), 1, retries=2), 1, 2, 3)
    assert (found[2].status, found[2].error) == ("failed:infra", "its worker died (killed by SIGKILL)")
    assert calls_of(calls) == {1: 1, 2: 3, 3: 1}
    assert found[1].status == found[3].status == "done"


def test_a_trial_beyond_its_time_is_given_up(calls):
    start = time.monotonic()
    found = outcomes(Pool(Toy(calls, hangs=(2,)), 1, retries=1, time_limit_s=0.5), 1, 2, 3)
    assert (found[2].status, found[2].error, found[2].attempts) == ("failed:infra", "time limit of 0.5 s", 2)
    assert found[1].status == found[3].status == "done"
    assert time.monotonic() - start < 30


def test_an_idle_worker_that_dies_is_replaced(calls):
    pool = Pool(Toy(calls), 1)
    list(pool.run(tasks(1)))
    os.kill(pool._workers[0].process.pid, signal.SIGKILL)
    pool._workers[0].process.join()
    assert outcomes(pool, 2)[2].status == "done"


def test_workers_share_the_devices_evenly_and_a_new_one_takes_the_place_of_the_dead(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    pool = Pool(Device(), 4, devices=("2", "5"))
    try:
        found = [outcome.metrics for outcome in pool.run(tasks(*range(12)))]
        assert len({numbers["process"] for numbers in found}) == 4
        places = {numbers["process"]: numbers["device"] for numbers in found}
        assert sorted(places.values()) == [2, 2, 5, 5]
        os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        pool._workers[0].process.join()
        list(pool.run(tasks(*range(12))))
        assert sorted(worker.device for worker in pool._workers) == ["2", "2", "5", "5"]
    finally:
        pool.close()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"


@dataclass(frozen=True)
class Nowhere:
    """An evaluator that cannot be read back."""

    fingerprint: str = "nowhere"

    def __reduce__(self):
        return int, ("no number",)


def test_workers_have_one_thread_and_the_driver_keeps_its_own(calls, monkeypatch, capfd):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = outcomes(Pool(Surroundings(), 1), 1)
    assert found[1].metrics == {"threads": 1.0, "driver": os.getpid()}
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert capfd.readouterr().out == ""


def test_an_evaluator_that_cannot_be_loaded_is_one_error(calls):
    with pytest.raises(EvaluationError, match="a worker cannot load the evaluator"):
        outcomes(Pool(Nowhere(), 1), 1)


def test_an_evaluator_that_cannot_be_pickled_is_one_error():
    with pytest.raises(EvaluationError, match="cannot be sent to workers"):
        outcomes(Pool(Toy("calls", extra={"f": lambda: 0}), 1), 1)


def test_leaving_in_the_middle_ends_the_busy_workers(calls):
    pool = Pool(Toy(calls, hangs=(2,)), 2)
    run = pool.run(tasks(2, 1))
    assert next(run).task.arch == Number(1)
    busy = next(worker for worker in pool._workers if worker.task)
    pid = busy.process.pid
    run.close()
    assert not running(pid)
    pool.close()


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_workers_end_with_a_killed_driver(tmp_path):
    code = (
        "import sys; from toys import Toy; from gemnet.search.workers import Pool, Task; from toys import Number\n"
        "pool = Pool(Toy(sys.argv[1], hangs=(2, 3)), 2)\n"
        "run = pool.run([Task('a', Number(1), 0), Task('b', Number(2), 0), Task('c', Number(3), 0)])\n"
        "next(run)\n"
        "print(*[worker.process.pid for worker in pool._workers], flush=True)\n"
        "list(run)\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", code, str(tmp_path / "calls")]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as driver:
        pids = [int(pid) for pid in driver.stdout.readline().split()]
        assert pids
        assert all(map(running, pids))
        driver.kill()
    end = time.monotonic() + 10
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(running, pids))


def test_a_device_that_was_lost_is_taken_last_until_it_measures_again(calls):
    pool = Pool(Toy(calls), 3, devices=("0", "1"))
    assert pool._free_device() == "0"
    pool._lost["0"] += 1
    assert pool._free_device() == "1"
    del pool._lost["0"]
    assert pool._free_device() == "0"
