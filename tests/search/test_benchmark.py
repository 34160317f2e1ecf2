"""The benchmark command's counts, on a table of 27 cells whose best is known."""

import csv
import json
from collections import Counter
from itertools import product

import pytest
from click.testing import CliRunner

from gemnet.errors import ConfigError, DataError, StudyError, UnknownNameError
from gemnet.search.benchmark import Report, Run, benchmark
from gemnet.search.cli import main
from gemnet.search.evaluators.table import TableEvaluator
from gemnet.search.memory import MemoryStudy, QueriesSpentError
from gemnet.search.objective import Objective
from gemnet.search.spaces.listed import TableSpace
from gemnet.search.spaces.nasbench201 import Topology

OPS = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3")


def arch(a, b, c):
    return Topology((a, b, "none", c, "none", "none")) if c == OPS[0] else Topology((a, "none", b, "none", "none", c))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Two families of cells, some of which compute the same function."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    with path.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "val_acc", "macs"])
        for k, ops in enumerate(product(OPS, repeat=3)):
            writer.writerow([arch(*ops).key, 0.5 + k / 100, 1e6])
    return f"csv:{path}"


@pytest.fixture
def study(table, tmp_path):
    def start(**changes):
        parts = {"space": TableSpace(table), "evaluator": TableEvaluator(table), "objective": Objective(lam=0)}
        return MemoryStudy(tmp_path, 0, **(parts | {"limit": 5} | changes))

    return start


def call(*arguments):
    return CliRunner().invoke(main, ["benchmark", *map(str, arguments)])


def test_a_memory_study_counts_functions(study):
    running = study()
    twice = [arch(OPS[0], OPS[1], OPS[2]), arch(OPS[1], OPS[0], OPS[2]), arch(OPS[0], OPS[1], OPS[2])]
    trials = running.evaluate("a", twice, repeats=2)
    assert len(trials) == 6 and running.queries == trials[:1]
    assert trials[0].metrics == trials[2].metrics
    assert running.best(trials).arch_key == twice[0].key
    with pytest.raises(StudyError, match="used twice"):
        running.evaluate("a", twice)


def test_a_memory_study_ends_at_the_last_query_or_the_target(study, table):
    archs = TableSpace(table).sample(10, study().rng("sample"))
    running = study()
    with pytest.raises(QueriesSpentError):
        running.evaluate("a", archs)
    assert len(running.queries) == 5
    running = study(target=running.score(running.queries[1]))
    with pytest.raises(QueriesSpentError):
        running.evaluate("a", archs)
    assert len(running.queries) <= 2


def test_an_encoder_serves_all_seeds(study):
    built = []
    for name in ("encoder", "predictor"):
        for seed in (0, 1):
            running = study()
            running.seed = seed
            running.artifact(name, lambda folder, name=name: built.append(name), [1])
    assert built == ["encoder", "predictor", "predictor"]


def test_an_encoder_is_the_same_whichever_seed_trains_it(study):
    draws = []
    for seed in (0, 1):
        running = study()
        running.seed = seed
        draws.append([int(running.rng(name).integers(2**63)) for name in ("encoder", "sample")])
        assert running.seed == seed
    assert draws[0][0] == draws[1][0] and draws[0][1] != draws[1][1]


def test_known_runs_are_not_made_again(table):
    whole, seen = benchmark(table, {"name": "local"}, 4, 10), []
    again = benchmark(table, {"name": "local"}, 3, 10, on_run=seen.append, known=[whole.runs[1], whole.runs[3]])
    assert again.runs == whole.runs[:3] and [run.seed for run in seen] == [0, 2]


def test_a_report_counts_cut_runs_as_cut():
    report = Report("t", "f", {}, 0.9, 10, (Run(0, 2, (0.5, 0.9)), Run(1, None, (0.7,) * 10), Run(2, 6, (0.8,) * 6)))
    assert report.found == pytest.approx(2 / 3)
    assert report.summary["mean"] == pytest.approx(6) and report.summary["median"] == 6
    assert report.curve[0] == pytest.approx((0.5 + 0.7 + 0.8) / 3)
    assert report.curve[9] == pytest.approx((0.9 + 0.7 + 0.8) / 3) and len(report.curve) == 10


@pytest.mark.parametrize("name", ["random", "evolution", "local"])
def test_a_run_of_all_functions_finds_the_best(name, table):
    seen = []
    report = benchmark(table, {"name": name}, seeds=4, queries=1000, on_run=seen.append)
    assert report.found == 1 and sorted(run.seed for run in seen) == [0, 1, 2, 3]
    assert report.queries == TableSpace(table).structures < 27
    assert report.best == report.curve[-1] == pytest.approx(0.76)
    assert all(run.curve == tuple(sorted(run.curve)) and len(run.curve) == run.queries for run in report.runs)
    assert report == benchmark(table, {"name": name}, seeds=4, queries=1000)


def test_random_search_takes_the_expected_queries(table):
    space = TableSpace(table)
    rows = Counter(space.structure(one) for one in space.rows.archs)
    best = rows.pop(space.structure(arch(*[OPS[2]] * 3)))
    expected = 1 + sum(count / (count + best) for count in rows.values())  # drawn row by row, in random order
    counts = benchmark(table, {"name": "random"}, seeds=200, queries=1000).summary
    assert counts["mean"] == pytest.approx(expected, abs=4 * counts["mean_error"])


def test_the_number_of_workers_does_not_change_a_result(table):
    assert benchmark(table, {"name": "evolution"}, 4, 10, workers=2) == benchmark(table, {"name": "evolution"}, 4, 10)


@pytest.mark.parametrize("form", ["gp-wl", "gp-embedding"])
def test_nasgem_runs_on_a_table(table, form):
    encoder = {"steps": 2, "held_out": 8, "batch_size": 8, "width": 8, "dim": 8, "depth": 1}
    section = {"name": "nasgem", "samples": 4, "encoder": encoder, "predictor": {"form": form}}
    report = benchmark(table, section, seeds=2, queries=1000)
    assert report.found == 1
    assert (report.strategy["finalists"], report.strategy["acquisition"]) == (1, "ei")
    assert report.strategy["candidates"] == report.strategy["block"] == report.queries


def test_the_command_prints_and_writes_a_report(table, tmp_path):
    out = tmp_path / "result.json"
    arguments = (table, "--strategy", "local", "--seeds", 2, "--queries", 3, "--set", "strategy.until=first")
    result = call(*arguments, "--json", "--out", out)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads(out.read_text())
    found = json.loads(result.stdout)
    assert found["schema"] == "gemnet.benchmark/1" and len(found["curve"]) == 3
    assert found["strategy"] == {"name": "local", "samples": 3, "starts": 1, "until": "first", "batch": 1}
    text = call(*arguments).stdout
    assert "local on csv:" in text and "median" in text


def test_a_study_on_disk_searches_a_table_too(table, tmp_path):
    preset = {
        "schema": "gemnet.search/1", "data": {"name": table}, "space": {"name": "table", "table": table},
        "evaluator": {"name": "table"}, "strategy": {"name": "local", "samples": 6}, "objective": {"lam": 0},
    }  # fmt: skip
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    command = ["run", str(tmp_path / "study"), "--preset", str(tmp_path / "preset.json"), "--workers", "0", "--json"]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["metrics"] == TableEvaluator(table).evaluate(Topology.parse(found["arch"]["arch"]), 0)


def test_a_mistake_is_one_line(table, tmp_path):
    for arguments, message in [
        ((table, "--strategy", "loacl"), "did you mean 'local'"),
        ((table, "--strategy", "random", "--set", "strategy.population=3"), "unknown field of strategy 'population'"),
        ((f"csv:{tmp_path}/no.csv", "--strategy", "random"), "there is no"),
        ((table, "--strategy", "nasgem", "--set", "strategy.samples=x"), "strategy.samples: expected int"),
        ((table, "--strategy", "random", "--set", "objective.lam=1"), "got objective.*"),
        ((table, "--strategy", "random", "--set", "strategy.name=local"), "got strategy.name"),
        ((table, "--strategy", "local", "--set", "strategy.samples=1"), "end a run after 1 queries of"),
        ((table, "--strategy", "random", "--out", tmp_path / "absent" / "x.json"), "there is no folder"),
    ]:
        result = call(*arguments)
        assert result.exit_code == 2 and message in result.stderr
        assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    with pytest.raises(ConfigError, match="1 or more seeds"):
        benchmark(table, {"name": "random"}, 0, 1)
    with pytest.raises(UnknownNameError):
        benchmark("nasbench301:x", {"name": "random"}, 1, 1)
    with pytest.raises(DataError):
        benchmark("csv:", {"name": "random"}, 1, 1)
