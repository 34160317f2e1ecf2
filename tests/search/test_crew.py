"""Work that several processes share: same answers, in order, and no process outlives its purpose."""

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bootstrap_toys import Counting, Fails, Lag, Steps, running

from gemnet.errors import ConfigError, EvaluationError
from gemnet.search import crew
from gemnet.search.bootstrap import Portable, Ranked, top_candidates
from gemnet.search.embedding import train_encoder
from gemnet.search.learning import PREDICTORS, EncoderSettings, PredictorSettings
from gemnet.search.predictor import build_predictor
from gemnet.search.spaces.cells import CellSpace

SPACE = CellSpace(min_nodes=4, max_nodes=9, max_in_degree=3)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def bits(ranked: Ranked) -> list[bytes]:
    return [ranked.hashes.tobytes(), ranked.mean.tobytes(), ranked.std.tobytes(), ranked.graphs.adjacency.tobytes()]


def fitted(form: str) -> Portable:
    small = EncoderSettings(width=16, dim=16, decoder_width=32, steps=5, batch_size=32)
    encoder, settings = train_encoder(SPACE, small, 0), PredictorSettings(form, steps=40)
    predictor = build_predictor(settings, encoder, 0)
    known = SPACE.sample_batch(30, rng(1))
    predictor.fit(known, known.leaves.sum(1) / known.sizes)
    return Portable(predictor, settings, encoder, 0)


@pytest.mark.parametrize("form", ["mlp", "gp-all"])
def test_the_bootstrap_finds_the_same_with_workers(form: str) -> None:
    portable, counts = fitted(form), []
    found = [
        bits(top_candidates(SPACE, portable, rng(2), 1500, 7, block=200, workers=workers, on_block=counts.append))
        for workers in (0, 2)
    ]
    assert found[0] == found[1]
    assert counts == ([200] * 7 + [100]) * 2


@pytest.mark.parametrize("form", PREDICTORS)
def test_a_predictor_sent_elsewhere_predicts_the_same(form: str) -> None:
    portable, graphs = fitted(form), SPACE.sample_batch(50, rng(4))
    there = pickle.loads(pickle.dumps(portable))
    assert [part.tobytes() for part in there(graphs)] == [part.tobytes() for part in portable(graphs)]


def test_limits_and_ties_are_the_same_with_any_number_of_workers() -> None:
    """Few different scores, so that ties at the last place abound; the limit refuses every other graph."""
    known = np.array([1], np.uint64)
    found = [
        bits(top_candidates(SPACE, Steps(), rng(3), 2000, 40, block=150, known=known, limits=Counting(), workers=w))
        for w in (0, 1, 3)
    ]
    assert found[0] == found[1] == found[2]


def test_answers_come_in_order_and_hints_are_taken_late() -> None:
    given: list[int] = []
    for answer in crew.in_order(Lag(), 9, 2, lambda: len(given)):
        given.append(answer[0])
        assert answer[1] <= answer[0]  # no more was merged than pieces came before it
    assert given == list(range(9))


def test_a_dead_worker_is_an_error_that_names_it_and_ends_the_others() -> None:
    said = r"worker [12] of 2 \(process \d+\) died at piece 3 \(killed by SIGKILL\)"
    with pytest.raises(EvaluationError, match=said):
        list(crew.in_order(Fails("dies", 3), 8, 2, lambda: None))


def test_errors_of_the_work_reach_the_driver() -> None:
    with pytest.raises(ConfigError, match="piece 2 is refused"):
        list(crew.in_order(Fails("refuses", 2), 4, 1, lambda: None))
    with pytest.raises(EvaluationError, match="piece 1 failed: ZeroDivisionError"):
        list(crew.in_order(Fails("divides", 1), 4, 1, lambda: None))
    with pytest.raises(EvaluationError, match="cannot be sent to workers"):
        list(crew.in_order(lambda number, hint: None, 4, 1, lambda: None))
    with pytest.raises(EvaluationError, match="cannot load its work"):
        list(crew.in_order(Fails("unreadable", 0), 4, 1, lambda: None))


def test_workers_end_with_a_killed_driver() -> None:
    code = (
        "from bootstrap_toys import Fails; from gemnet.search import crew\n"
        "for answer in crew.in_order(Fails('hangs', 2), 9, 2, lambda: None):\n"
        "    print(answer, flush=True)\n"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as driver:
        pids = [int(driver.stdout.readline()) for _ in range(2)]
        assert any(map(running, pids))
        driver.kill()
    end = time.monotonic() + 10
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(map(running, pids))
