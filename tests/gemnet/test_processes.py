"""Questions between processes, by a clock of our own and sums that are known; see also test_train_processes.py."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from gemnet import processes
from gemnet.processes import Questions, total


class Both:
    """Two processes, of which the other answers the same."""

    num_processes = 2
    device = torch.device("cpu")

    def __init__(self):
        self.sums = 0

    def reduce(self, values, how):
        assert how == "sum"
        self.sums += 1
        return 2 * values


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(processes.time, "perf_counter", lambda: clock.now)
    return clock


def asked_after(questions, clock, steps, step_s):
    found = []
    for step in steps:
        clock.now += step_s
        if questions.ask(step, 0.0) is not None:
            found.append(step)
    return found


def test_a_process_alone_answers_itself_after_each_step(clock):
    alone = SimpleNamespace(num_processes=1)
    assert asked_after(Questions(alone), clock, range(1, 6), 0.001) == [1, 2, 3, 4, 5]
    assert total(alone, 3, 4) == [3, 4]


def test_answers_are_sums_over_the_processes(clock):
    assert Questions(Both()).ask(1, 3.0, 0.5) == [6.0, 1.0]


@pytest.mark.parametrize("step_s", [0.001, 0.05, 0.5])
def test_short_steps_are_asked_after_every_two_seconds(clock, step_s):
    runner = Both()
    found = asked_after(Questions(runner), clock, range(1, 20_001), step_s)
    spans = [(b - a) * step_s for a, b in pairwise(found)]
    assert found[0] == 1  # a training stopped before it began ends at once
    assert max(spans) <= processes.ASK_EVERY_S
    assert min(spans[-5:]) >= processes.ASK_EVERY_S - 1.5 * step_s
    assert runner.sums == len(found)


def test_long_steps_are_asked_after_each(clock):
    assert asked_after(Questions(Both()), clock, range(1, 6), 30.0) == [1, 2, 3, 4, 5]


def test_a_training_that_goes_on_counts_from_where_it_does(clock):
    questions = Questions(Both())
    questions.begin(5000)
    clock.now += 0.05
    assert questions.ask(5001, 1.0) == [2.0]
    assert asked_after(questions, clock, range(5002, 5010), 0.05)[0] == 5003  # no more than twice as far ahead
