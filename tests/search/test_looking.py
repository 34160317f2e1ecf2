"""Commands that look at studies: status while it runs, best, compare, replay, dry runs."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from commands import call, process, wait_for_trials

from gemnet.search.checking import check
from gemnet.search.compose import compose
from gemnet.search.progress import LIVE, Notice, Now, Progress, read_notice
from gemnet.search.standing import planned_trials, standing
from gemnet.search.study import Study


def settings(**strategy):
    return {
        "data": {"name": "fashion-mini"},
        "space": {"name": "cells", "min_nodes": 4, "max_nodes": 10},
        "evaluator": {"name": "proxy", "macs": 1_000_000, "train_images": 64, "val_images": 64,
                      "recipe": {"epochs": 1, "batch_size": 16}},
        "strategy": {"name": "random", "samples": 4, **strategy},
    }  # fmt: skip


def test_a_running_search_says_what_it_does_and_how_long_it_takes(preset, tmp_path):
    slow = ("--set", "evaluator.duration_s=0.5", "--workers", "2", "--set", "strategy.samples=14")
    with process("run", tmp_path / "s", "--preset", preset, *slow) as running:
        wait_for_trials(tmp_path / "s", 4)
        time.sleep(1.1)
        found = json.loads(call("status", tmp_path / "s", "--json").stdout)
        text = call("status", tmp_path / "s").stdout
        with process("status", tmp_path / "s", "--watch") as watching:
            watched, err = watching.communicate(timeout=60)
        running.communicate(timeout=60)
    assert (found["now"]["phase"], found["now"]["workers"], found["now"]["running"]) == ("measured", 2, 2)
    assert 1 < found["left_s"] < 60
    assert "2 running, about" in text
    assert "finished" in watched.splitlines()[-3]
    assert err == ""
    assert not (tmp_path / "s" / LIVE).exists()


def test_without_architectures_a_study_stands_the_same(study, tmp_path):
    whole, brief = standing(tmp_path / "study"), standing(tmp_path / "study", archs=False)
    assert [trial.key for trial, _ in brief.ranking] == [trial.key for trial, _ in whole.ranking]
    assert [score for _, score in brief.ranking] == [score for _, score in whole.ranking]
    assert brief.to_dict() == whole.to_dict()
    assert brief.best() == whole.best()
    assert brief.all_trials == tuple(replace(trial, arch={}) for trial in whole.all_trials)


def test_time_left_is_steps_left_at_the_pace_so_far():
    since = (datetime.now(UTC) - timedelta(seconds=100)).isoformat()
    assert Now("a", 30, 20, 10, since, 2).left_s() == pytest.approx(100, rel=0.01)
    assert Now("a", 30, 10, 10, since, 2).left_s() is None
    assert Now("a", None, 10, 0, since, 2).left_s() is None


def test_a_notice_that_cannot_be_written_or_read_disturbs_nothing(tmp_path):
    progress = Progress(quiet=True)
    progress.post(Notice(tmp_path / "absent" / LIVE, 1))
    with progress.phase("a", 3) as phase:
        phase.advance()
    progress.post(None)
    (tmp_path / LIVE).write_text("{")
    assert read_notice(tmp_path) is None


def test_planned_trials_count_every_round():
    assert planned_trials({"strategy": {"samples": 24, "finalists": 4, "rounds": 2}}) == 32
    assert planned_trials({"strategy": {"samples": 24}}) == 24
    assert planned_trials({}) == 0


def test_best_says_why_there_is_none(preset, tmp_path):
    from gemnet.search import presets

    Study.create(tmp_path / "s", compose(presets.load(preset))).close()
    result = call("best", tmp_path / "s")
    assert (result.exit_code, result.stdout) == (2, "")
    remedy = f"go on with 'gemnet-search resume {tmp_path}/s'"
    assert f"no best cell: nothing has been measured yet; {remedy}" in result.stderr
    limited = ("--set", "objective.max_macs=1", "--set", "strategy.samples=2", "--workers", "0")
    assert call("run", tmp_path / "limited", "--preset", preset, *limited).exit_code == 1
    assert "none of its 2 trials keeps the objective's limits" in call("best", tmp_path / "limited").stderr


def test_a_journal_without_its_study_json_is_told_from_no_study(study):
    (Path(study) / "study.json").unlink()
    result = call("status", study)
    assert (result.exit_code, "has a journal but no study.json: restore that" in result.stderr) == (2, True)


def test_seeds_are_compared_with_their_spread_and_strategies_beside_each_other(preset, tmp_path):
    places = []
    for name, seed, samples in (("a", 1, 6), ("b", 2, 6), ("c", 1, 3)):
        places.append(tmp_path / name)
        change = ("--set", f"strategy.samples={samples}")
        call("run", places[-1], "--preset", preset, "--seed", seed, *change, "--workers", 0)
    groups = json.loads(call("compare", *places, places[0], "--json").stdout)  # a search given twice counts once
    sixes = next(group for group in groups if len(group["seeds"]) == 2)
    best = [standing(place).best()[1] for place in places]
    assert sixes["score"] == best[:2]
    assert sixes["mean"]["score"] == pytest.approx(sum(best[:2]) / 2)
    assert sixes["std"]["score"] == pytest.approx(abs(best[0] - best[1]) / 2**0.5)
    text = call("compare", *places).stdout
    assert "random, strategy.samples=6" in text
    assert "±" in text


def test_replay_gives_the_same_numbers_and_tells_others(study, monkeypatch):
    result = call("replay", study, "--trials", "4", "--workers", "0")
    assert (result.exit_code, result.stdout.count("the same")) == (0, 4), result.output
    from gemnet.search.evaluators.synthetic import Synthetic

    was = Synthetic.evaluate
    monkeypatch.setattr(Synthetic, "evaluate", lambda *task: was(*task) | {"params": 7.0})
    result = call("replay", study, "--trials", "2", "--workers", "0", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [list(one["differs"]) for one in found] == [["params"], ["params"]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("space", "ops", ["sepconv3x4"]), "unknown op 'sepconv3x4'"),
        (("evaluator", "merge", "product"), "unknown merge 'product'"),
        (("evaluator", "macs", 10), "cannot be made as small"),
        (("evaluator", "device", "warp"), "evaluator.device must be auto, cpu, cuda, got 'warp'"),
        (("evaluator", "device", "cuda:1"), "got 'cuda:1'; --devices or CUDA_VISIBLE_DEVICES chooses GPUs"),
        (("objective", "max_params", 10), "objective.max_params=10: none of 256 random cells keeps it, the least is"),
        (("objective", "max_macs", 1000), "objective.max_macs=1000: none of 256 random cells keeps it"),
    ],
)
def test_settings_that_cannot_work_fail_before_a_directory_is_made(tmp_path, change, message):
    section, name, value = change
    file = tmp_path / "p.json"
    changed = settings()
    changed.setdefault(section, {})[name] = value
    file.write_text(json.dumps({"schema": "gemnet.search/1"} | changed))
    result = call("run", tmp_path / "s", "--preset", file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not (tmp_path / "s").exists()


def test_settings_that_work_pass():
    check(compose(settings()))


NASGEM = {"name": "nasgem", "samples": 8, "candidates": 2000, "finalists": 2}


@pytest.mark.parametrize("strategy", [{"samples": 10}, pytest.param(NASGEM, marks=pytest.mark.slow)])
def test_a_dry_run_tells_the_cost_and_leaves_nothing(tmp_path, strategy):
    file = tmp_path / "p.json"
    file.write_text(json.dumps({"schema": "gemnet.search/1"} | settings(**strategy)))
    result = call("run", tmp_path / "s", "--preset", file, "--dry-run", "--workers", "1", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["trials"] == 10
    assert found["measuring_s"] > 10 * found["trial_s"] > 0
    assert found["driver_s"] > 0
    assert 100 < found["memory_mb"] < 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json"]
