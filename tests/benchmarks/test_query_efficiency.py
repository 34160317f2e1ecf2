"""The query benchmark goes on where it was stopped, and publishes what its runs say."""

import csv
import json
from itertools import product

import pytest
from click.testing import CliRunner

from gemnet.search.spaces.nasbench201 import Topology

OPS = ("skip_connect", "nor_conv_3x3")


@pytest.fixture
def script(load_script):
    return load_script("query_efficiency")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    with path.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "val_acc"])
        for k, ops in enumerate(product(OPS, repeat=6)):
            writer.writerow([Topology(ops).key, 0.5 + k / 1000])
    return f"csv:{path}"


def test_runs_are_kept_and_not_made_again(script, table, tmp_path):
    journal = tmp_path / "runs.jsonl"
    first = script.run(table, "local, first better", 2, 30, journal)
    with journal.open("a") as file:
        file.write('\n{"key": "cut sho')  # a kill while a line was written
    more = script.run(table, "local, first better", 4, 30, journal)
    assert more.runs[:2] == first.runs and len(more.runs) == 4
    before = journal.read_text()
    assert script.run(table, "local, first better", 3, 30, journal).runs == more.runs[:3]
    assert journal.read_text() == before


def test_other_settings_are_other_runs(script, table, tmp_path):
    journal = tmp_path / "runs.jsonl"
    for label, queries in (("random", 5), ("random", 6), ("local, best neighbour", 5)):
        script.run(table, label, 1, queries, journal)
    assert len({json.loads(line)["key"] for line in journal.read_text().strip().splitlines()}) == 3


def test_the_command_writes_every_strategy_s_row(script, table, tmp_path):
    out = tmp_path / "result.json"
    arguments = [table, "--quick", "--out", str(out), "--journal", str(tmp_path / "runs.jsonl")]
    result = CliRunner().invoke(script.main, arguments)
    assert result.exit_code == 0, result.output
    rows = json.loads(out.read_text())["rows"]
    assert [row["strategy"] for row in rows] == list(script.QUICK)
    nasgem = rows[-1]
    assert nasgem["found"] == 1 and nasgem["settings"]["acquisition"] == "ei"
    assert nasgem["mean_best"]["10"] <= nasgem["mean_best"]["20"]
