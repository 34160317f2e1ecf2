import os
import signal
import time
from pathlib import Path

import pytest
from commands import call, process, trials, wait_for_trials
from studies import create, reopen
from toys import Number, Toy, TwoPhases, calls_of

from gemnet.search.workers import Pool, Task
from gemnet.stopping import NOTICE, Stop

DEFAULT = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a shell's "&" ignores it
SLOW = ("--set", "evaluator.duration_s=1", "--workers", "2", "--set", "strategy.samples=10")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_saves_what_runs_and_says_how_to_go_on(preset, tmp_path, number):
    directory = tmp_path / "study"
    with process("run", directory, "--preset", preset, *SLOW, start_new_session=True, **DEFAULT) as running:
        wait_for_trials(directory, 2)
        time.sleep(0.3)
        before = len(trials(directory))
        os.killpg(running.pid, number)  # the workers hear it, too
        out, err = running.communicate(timeout=30)
    assert running.returncode == 128 + number
    assert out == ""
    assert err == NOTICE.decode() + f"Interrupted. Go on with: gemnet-search resume {directory}\n"
    assert len(trials(directory)) == before + 2, "both trials that ran are saved, no other was begun"
    assert "stopped" in call("status", directory).stdout


def test_a_second_signal_stops_at_once(preset, tmp_path):
    directory = tmp_path / "study"
    slow = ("--set", "evaluator.duration_s=60", "--workers", "1")
    with process("run", directory, "--preset", preset, *slow, start_new_session=True, **DEFAULT) as running:
        end = time.monotonic() + 30
        while time.monotonic() < end and not _measuring(directory):
            time.sleep(0.05)
        os.kill(running.pid, signal.SIGINT)
        assert running.stderr.readline() == "\n"
        assert running.stderr.readline().startswith("Stopping: ")
        start = time.monotonic()
        os.kill(running.pid, signal.SIGINT)
        _, err = running.communicate(timeout=20)
    assert time.monotonic() - start < 10
    assert running.returncode == 130
    assert err == f"Interrupted. Go on with: gemnet-search resume {directory}\n"
    assert "stopped" in call("status", directory).stdout


def _measuring(directory):
    return (Path(directory) / "live.json").exists()


def test_a_signal_that_was_ignored_stays_ignored():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with Stop().heard():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


class StopAfter(Stop):
    """A stop that is requested once a file has a number of lines."""

    def __init__(self, calls, count):
        self.calls, self.count = calls, count

    @property
    def requested(self):
        return sum(calls_of(self.calls).values()) >= self.count


@pytest.mark.parametrize("workers", [0, 1])
def test_no_task_is_begun_after_a_stop(calls, workers):
    pool = Pool(Toy(calls), workers, stop=StopAfter(calls, 3))
    try:
        found = [outcome.task.key for outcome in pool.run(Task(f"k{k}", Number(k), k) for k in range(9))]
    finally:
        pool.close()
    assert found == ["k0", "k1", "k2"]


def test_a_stop_in_an_artifact_ends_the_search_after_it(tmp_path, calls):
    stop = Stop()

    class Asks(TwoPhases):
        def fit(self, study, measured, folder):
            super().fit(study, measured, folder)
            stop.requested = True

    with create(tmp_path / "s", calls, stop=stop) as study, pytest.raises(KeyboardInterrupt):
        study.run(Asks())
    with reopen(tmp_path / "s", calls) as study:
        assert study.artifact("table", lambda folder: pytest.fail("built again"), study._trials.values())
