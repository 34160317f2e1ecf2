import csv
import json

import pytest
from commands import call, trials

from gemnet.search.journal import Journal


@pytest.fixture
def lines(study, tmp_path):
    file = tmp_path / "trials.jsonl"
    assert call("export", study, "--jsonl", file).exit_code == 0
    return file


def rows(directory):
    with Journal.open(directory / "journal.db", read_only=True) as journal:
        return sorted((row.kind, row.key, json.dumps(row.body)) for row in journal.rows if row.kind != "study")


def test_a_study_goes_on_elsewhere_without_measuring_again(study, lines, tmp_path):
    result = call("resume", tmp_path / "there", "--from", lines, "--workers", "0")
    assert result.exit_code == 0, result.output
    assert "12 of 12 trials" in result.stderr
    assert rows(tmp_path / "there") == rows(tmp_path / "study"), "times among the metrics tell that none ran again"
    again = call("resume", tmp_path / "there", "--from", lines, "--workers", "0")
    assert "0 of 12 trials" in again.stderr


def test_what_is_missing_is_measured(study, lines, tmp_path):
    lines.write_text("\n".join(lines.read_text().splitlines()[:8]) + "\n")
    assert "7 of 7 trials" in call("resume", tmp_path / "there", "--from", lines, "--workers", "0").stderr
    assert trials(tmp_path / "there") == trials(study)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: text.replace('"val_acc": 0.', '"val_acc": 0.9', 1), "line 2 is damaged"),
        (lambda text: text[:-40], "line 13 is damaged"),
        (lambda text: text.replace("gemnet.trials/1", "gemnet.trials/2"), "is no file that"),
        (lambda text: "", "is no file that"),
    ],
)
def test_a_damaged_file_is_refused_before_anything_is_started(lines, tmp_path, edit, message):
    lines.write_text(edit(lines.read_text()))
    result = call("resume", tmp_path / "there", "--from", lines)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert not (tmp_path / "there").exists()


def test_trials_of_another_seed_or_evaluator_are_refused(lines, preset, tmp_path):
    small = ("--preset", preset, "--workers", "0", "--seed", "3", "--set", "strategy.samples=2")
    call("run", tmp_path / "other", *small, "--set", "evaluator.noise=0.5")
    result = call("resume", tmp_path / "other", "--from", lines)
    assert result.exit_code == 2
    assert "was measured with other data, settings or seed than" in result.stderr
    call("run", tmp_path / "seed", *small[:-3], "4")
    result = call("resume", tmp_path / "seed", "--from", lines)
    assert (result.exit_code, "seed was 4, is 3" in result.stderr) == (2, True)


def test_csv_has_a_line_for_every_trial(study, tmp_path):
    call("export", study, "--csv", tmp_path / "t.csv")
    with open(tmp_path / "t.csv", newline="") as file:
        table = list(csv.DictReader(file))
    best = json.loads(call("best", study, "--json").stdout)
    assert len(table) == 12
    top = max(table, key=lambda row: float(row["score"]))
    assert (top["key"], float(top["val_acc"])) == (best["trial"], best["metrics"]["val_acc"])
    assert (json.loads(top["arch"]), top["phases"], top["status"]) == (best["arch"], "measured", "done")


def test_an_export_of_nothing_is_a_usage_error(study):
    result = call("export", study)
    assert (result.exit_code, "give --jsonl FILE or --csv FILE" in result.stderr) == (2, True)
