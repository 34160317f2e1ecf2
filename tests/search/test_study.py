import math
import os
import signal
import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from studies import content, create, reopen, toy_search
from toys import Number, Numbers, Toy, TwoPhases, calls_of

from gemnet.errors import EvaluationError, ReplayError, StudyError
from gemnet.search import record as record_module
from gemnet.search.journal import Journal
from gemnet.search.objective import Objective
from gemnet.search.study import Parts, Study


def values(trials):
    return [trial.arch["value"] for trial in trials]


def test_trials_come_back_in_the_order_asked_and_equal_ones_are_measured_once(tmp_path, calls):
    with create(tmp_path / "s", calls) as study:
        trials = study.evaluate("a", map(Number, [3, 1, 3, 2]))
        assert values(trials) == [3, 1, 3, 2]
        assert trials[0] == trials[2]
        assert values(study.evaluate("b", map(Number, [2, 9]))) == [2, 9]
    assert calls_of(calls) == {1: 1, 2: 1, 3: 1, 9: 1}


def test_repeats_stand_together_and_have_seeds_of_their_own(tmp_path, calls):
    with create(tmp_path / "s", calls) as study:
        trials = study.evaluate("a", map(Number, [3, 1]), repeats=2)
        again = study.evaluate("b", [Number(3)])
    assert [(trial.arch["value"], trial.repeat) for trial in trials] == [(3, 0), (3, 1), (1, 0), (1, 1)]
    assert len({trial.seed for trial in trials}) == 4
    assert again == [trials[0]]


def test_seeds_depend_on_the_study_and_the_trial_alone(tmp_path, calls):
    found = []
    for name, seed, order in (("a", 5, [1, 2]), ("b", 5, [2, 1]), ("c", 6, [1, 2])):
        with create(tmp_path / name, calls, seed=seed) as study:
            found.append({trial.arch["value"]: trial.seed for trial in study.evaluate("x", map(Number, order))})
    assert found[0] == found[1]
    assert found[0][1] != found[2][1]


def test_generators_depend_on_seed_and_name(tmp_path, calls):
    def draw(directory, seed, name):
        with create(tmp_path / directory, calls, seed=seed) as study:
            return tuple(study.rng(name).integers(0, 2**60, 3))

    draws = [draw("a", 1, "x"), draw("b", 1, "x"), draw("c", 1, "y"), draw("d", 2, "x")]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3
    assert isinstance(draws[0][0], np.integer)


def test_best_takes_the_highest_mean_score_within_the_limits(tmp_path, calls):
    evaluator = Toy(calls, raises=(96,))
    with create(tmp_path / "s", calls, {"study": {"max_failed_share": 0.5}}, evaluator=evaluator) as study:
        trials = study.evaluate("a", map(Number, [10, 95, 96, 50]))
        assert study.best(trials).arch == {"value": 95}
        assert study.score(trials[0]) == pytest.approx(0.1, abs=2e-3)
        assert study.score(trials[2]) == -math.inf
        study.objective = Objective(max_macs=10**6 + 60)
        assert study.best(trials).arch == {"value": 50}
        study.objective = Objective(max_macs=5)
        with pytest.raises(EvaluationError, match="no best among 4 trials: 3 finished, none within the limits"):
            study.best(trials)


def test_a_name_serves_once(tmp_path, calls):
    with create(tmp_path / "s", calls) as study:
        study.evaluate("a", [Number(1)])
        study.rng("a")
        with pytest.raises(StudyError, match="the name 'a' is used twice by evaluate"):
            study.evaluate("a", [Number(1)])
        with pytest.raises(StudyError, match="used twice by rng"):
            study.rng("a")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_changes_nothing(tmp_path, calls, workers):
    with create(tmp_path / "here", calls) as study:
        best = study.run(TwoPhases())
    with create(tmp_path / "there", calls, workers=workers) as study:
        assert study.run(TwoPhases()).key == best.key
    assert content(tmp_path / "here") == content(tmp_path / "there")


@pytest.mark.parametrize(("workers", "measured"), [(2, 4), (1, 9), (2, 13)])
def test_a_killed_search_ends_as_if_it_had_not_been(tmp_path, workers, measured):
    calls = tmp_path / "calls"
    with create(tmp_path / "unbroken", tmp_path / "other-calls") as study:
        winner = study.run(TwoPhases()).key
    with toy_search(tmp_path / "killed", calls, workers, sleep_s=0.1) as driver:
        end = time.monotonic() + 30
        while sum(calls_of(calls).values()) < measured and time.monotonic() < end:
            time.sleep(0.01)
        os.killpg(driver.pid, signal.SIGKILL)
    with Journal.open(tmp_path / "killed" / "journal.db", read_only=True) as journal:
        finished = {row.body["arch"]["value"] for row in journal.of("trial")}
        assert journal.get("done", "done") is None
    before = calls_of(calls)
    assert measured - workers <= len(finished) <= measured
    with toy_search(tmp_path / "killed", calls, 3 - workers) as driver:
        out, err = driver.communicate(timeout=60)
    assert (out, err) == (f"{winner}\n", "")
    after = calls_of(calls)
    assert all(after[value] == before[value] for value in finished), "a finished trial was measured again"
    assert content(tmp_path / "killed") == content(tmp_path / "unbroken")


def stopped(directory, calls):
    """A study whose strategy was stopped between its two phases."""

    @dataclass(frozen=True)
    class Stops(TwoPhases):
        def fit(self, study, measured, folder):
            raise KeyboardInterrupt

    with create(directory, calls) as study, pytest.raises(KeyboardInterrupt):
        study.run(Stops())
    return directory


def test_a_strategy_with_another_setting_is_named(tmp_path, calls):
    stopped(tmp_path / "s", calls)
    with (
        reopen(tmp_path / "s", calls) as study,
        pytest.raises(ReplayError, match=r"^replay diverged at strategy: k was 3, is 5; go on with the gemnet"),
    ):
        study.run(TwoPhases(k=5))


def test_an_edited_strategy_is_caught_where_it_asks_for_something_else(tmp_path, calls):
    @dataclass(frozen=True)
    class More(TwoPhases):
        def run(self, study):
            return study.best(study.evaluate("measured", study.space.sample(14, study.rng("sample"))))

    @dataclass(frozen=True)
    class Others(TwoPhases):
        def run(self, study):
            return study.best(study.evaluate("measured", study.space.sample(12, study.rng("other"))))

    stopped(tmp_path / "s", calls)
    with reopen(tmp_path / "s", calls) as study:
        with pytest.raises(ReplayError, match="diverged at measured: it asked for 12 trials before, for 14 now"):
            study.run(More())
        with pytest.raises(ReplayError, match=r"diverged at measured: its trial 1 of 12 was \w{12}, is \w{12}"):
            study.run(Others())
    assert sum(calls_of(calls).values()) == 12


def test_another_strategy_is_named(tmp_path, calls):
    @dataclass(frozen=True)
    class Other(TwoPhases):
        name: ClassVar[str] = "other"

    stopped(tmp_path / "s", calls)
    with (
        reopen(tmp_path / "s", calls) as study,
        pytest.raises(ReplayError, match='its name was "two-phases", is "other"'),
    ):
        study.run(Other())


def test_other_parts_are_named(tmp_path, calls):
    stopped(tmp_path / "s", calls)
    with pytest.raises(ReplayError, match="replay diverged at evaluator: its fingerprint was toy, is new"):
        reopen(tmp_path / "s", calls, Toy(calls, fingerprint="new"))
    with pytest.raises(ReplayError, match="replay diverged at space"):
        Study.open(tmp_path / "s", Parts(Numbers(fingerprint="new"), Toy(calls), TwoPhases()))


def test_other_settings_are_named(tmp_path, calls):
    settings = {"strategy": {"k": 3, "rounds": [1, 2]}, "data": {"name": "x"}}
    create(tmp_path / "s", calls, settings).close()
    reopen(tmp_path / "s", calls, settings=settings, seed=5).close()
    other = {"strategy": {"k": 4, "rounds": [1, 2]}, "data": {}}
    with pytest.raises(StudyError, match=r'with other settings: strategy.k was 3, is 4; data.name was "x", is nothing'):
        reopen(tmp_path / "s", calls, settings=other)
    with pytest.raises(StudyError, match="seed was 5, is 6"):
        reopen(tmp_path / "s", calls, seed=6)


def test_an_edited_study_json_is_found(tmp_path, calls):
    create(tmp_path / "s", calls).close()
    file = tmp_path / "s" / "study.json"
    file.write_text(file.read_text().replace('"seed": 5', '"seed": 6'))
    with pytest.raises(StudyError, match=r"study.json was changed after the study was started"):
        reopen(tmp_path / "s", calls)


def test_a_finished_study_gives_its_winner_without_running(tmp_path, calls):
    with create(tmp_path / "s", calls) as study:
        winner = study.run(TwoPhases())
    before = content(tmp_path / "s")
    with reopen(tmp_path / "s", calls, Toy(calls, raises=tuple(range(1000)))) as study:
        assert study.run(TwoPhases()) == winner
    assert content(tmp_path / "s") == before


def test_directories_that_are_no_study_or_are_taken(tmp_path, calls):
    with pytest.raises(StudyError, match="does not exist; start one with"):
        reopen(tmp_path / "none", calls)
    with pytest.raises(StudyError, match=r"is no study: it has no study.json"):
        reopen(tmp_path, calls)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(StudyError, match=r"is not empty \(it holds 'notes.txt'\)"):
        create(tmp_path / "full", calls)
    with pytest.raises(StudyError, match="is a file"):
        create(tmp_path / "full" / "notes.txt", calls)
    create(tmp_path / "s", calls).close()
    with pytest.raises(StudyError, match="holds a study already; go on with 'gemnet-search resume"):
        create(tmp_path / "s", calls)
    (tmp_path / "s" / "study.json").write_text("{}")
    with pytest.raises(StudyError, match=r"expected schema 'gemnet.study/1', got None"):
        reopen(tmp_path / "s", calls)


def test_a_start_that_was_cut_off_can_be_made_again(tmp_path, calls):
    create(tmp_path / "s", calls).close()
    (tmp_path / "s" / "study.json").unlink()
    with create(tmp_path / "s", calls) as study:
        study.run(TwoPhases())
    (tmp_path / "s" / "study.json").unlink()
    (tmp_path / "s" / "artifacts").rename(tmp_path / "elsewhere")
    with pytest.raises(StudyError, match=r"has a journal but no study.json"):
        create(tmp_path / "s", calls)


def test_a_study_is_for_one_process_at_a_time(tmp_path, calls):
    with create(tmp_path / "s", calls), pytest.raises(StudyError, match=f"in use by process {os.getpid()} on"):
        reopen(tmp_path / "s", calls)


def test_failed_trials_are_seen_and_too_many_stop_the_search(tmp_path, calls):
    evaluator = Toy(calls, raises=(2, 3, 4))
    with create(tmp_path / "s", calls, {"study": {"max_failed_share": 0.25}}, evaluator=evaluator) as study:
        trials = study.evaluate("few", map(Number, [1, 2, 5, 6]))
        assert [trial.status for trial in trials] == ["done", "failed", "done", "done"]
        assert trials[1].error == "ValueError: no net of 2 second line"
        message = "^2 of 4 trials of 'many' failed, .* 0.25 .*; the first: ValueError: no net of 3 second line$"
        with pytest.raises(EvaluationError, match=message):
            study.evaluate("many", map(Number, [7, 3, 4, 8]))
    assert calls_of(calls) == dict.fromkeys([1, 2, 5, 6, 7, 3, 4], 1)
    with reopen(tmp_path / "s", calls, evaluator) as study, pytest.raises(EvaluationError, match=r"^2 of 4 trials"):
        study.evaluate("many", map(Number, [7, 3, 4, 8]))
    assert sum(calls_of(calls).values()) == 7, "failed trials are results"


def test_infrastructure_failures_are_measured_again_when_asked(tmp_path, calls):
    settings = {"study": {"max_failed_share": 1, "retries": 0}}
    with create(tmp_path / "s", calls, settings, evaluator=Toy(calls, memory=(2,), raises=(3,))) as study:
        trials = study.evaluate("a", map(Number, [1, 2, 3]))
    assert [trial.status for trial in trials] == ["done", "failed:infra", "failed"]
    for retry, statuses in ((False, ["done", "failed:infra", "failed"]), (True, ["done", "done", "failed"])):
        with reopen(tmp_path / "s", calls, retry_failed=retry) as study:
            assert [trial.status for trial in study.evaluate("a", map(Number, [1, 2, 3]))] == statuses


def test_other_versions_are_warned_about(tmp_path, calls, monkeypatch, capsys):
    create(tmp_path / "s", calls).close()
    versions = record_module._versions()
    monkeypatch.setattr(record_module, "_versions", lambda: versions | {"torch": "0.1"})
    reopen(tmp_path / "s", calls).close()
    err = capsys.readouterr().err
    assert err == (
        f'Warning: torch was "{versions["torch"]}", is "0.1": results stay valid, '
        "but bit-equality with an unbroken run is not promised\n"
    )
