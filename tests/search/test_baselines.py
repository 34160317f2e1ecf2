"""Evolution and local search on a small table: they climb, count structures once, and can be resumed."""

import csv
from itertools import pairwise, product

import pytest

from gemnet.errors import ConfigError, UnknownNameError
from gemnet.search.evaluators.table import TableEvaluator
from gemnet.search.journal import Journal
from gemnet.search.memory import MemoryStudy
from gemnet.search.objective import Objective
from gemnet.search.spaces.listed import TableSpace
from gemnet.search.spaces.nasbench201 import Topology
from gemnet.search.strategies.evolution import RegularizedEvolution
from gemnet.search.strategies.ledger import Ledger
from gemnet.search.strategies.local import LocalSearch
from gemnet.search.study import Parts, Study

OPS = ("none", "skip_connect", "nor_conv_3x3")
BEST = Topology(("nor_conv_3x3",) * 6)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """All 729 cells of three ops; every convolution adds to the accuracy."""
    path = tmp_path_factory.mktemp("table") / "table.csv"
    with path.open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["arch", "val_acc"])
        for ops in product(OPS, repeat=6):
            writer.writerow([Topology(ops).key, 0.5 + 0.05 * ops.count("nor_conv_3x3") + 0.01 * ops.count(OPS[1])])
    return f"csv:{path}"


@pytest.fixture
def parts(table):
    return {"space": TableSpace(table), "evaluator": TableEvaluator(table), "objective": Objective(lam=0)}


@pytest.fixture
def study(parts, tmp_path):
    return MemoryStudy(tmp_path, 0, **parts, limit=10_000)


def archs_of(study):
    return [Topology.parse(trial.arch["arch"]) for trial in study.queries]


def changed(one, two):
    return sum(a != b for a, b in zip(one.ops, two.ops))


@pytest.mark.parametrize("strategy", [
    LocalSearch(samples=150), LocalSearch(samples=150, until="first", batch=4, starts=3),
    RegularizedEvolution(samples=200, population=20, tournament=5, batch=4),
])  # fmt: skip
def test_the_best_cell_is_found_within_the_budget(strategy, study):
    assert strategy.run(study).arch_key == BEST.key
    archs = archs_of(study)
    assert len({study.space.structure(arch) for arch in archs}) == len(archs) <= strategy.samples


def test_a_finished_search_runs_again_without_measuring(parts, tmp_path):
    strategy = RegularizedEvolution(samples=20, population=8, tournament=3, batch=3)
    searched = Parts(strategy=strategy, **parts)
    with Study.create(tmp_path / "study", searched, seed=1) as first:
        winner = first.run(strategy)
    with Study.open(tmp_path / "study", searched) as again:
        assert again.run(strategy) == winner
        assert strategy.run(again) == winner  # the strategy's own code, all of it
    with Journal.open(tmp_path / "study" / "journal.db", read_only=True) as journal:
        assert len(list(journal.of("trial"))) == 20


def test_the_oldest_die(study):
    RegularizedEvolution(samples=100, population=1, tournament=1).run(study)  # a population of one walks at random
    assert [changed(one, two) for one, two in pairwise(archs_of(study))].count(1) > 20
    scores = [study.score(trial) for trial in study.queries]
    assert any(later < earlier for earlier, later in pairwise(scores))


def test_local_search_moves_to_the_best_neighbour(study):
    LocalSearch(samples=40).run(study)
    start, *later = archs_of(study)
    near = [arch for arch in later if changed(arch, start) == 1]
    assert later[: len(near)] == near  # the whole neighbourhood, before anything else
    best = max(study.queries[: len(near) + 1], key=study.score)
    assert changed(later[len(near)], Topology.parse(best.arch["arch"])) == 1


def test_a_ledger_measures_a_structure_once(study):
    chain, same = (Topology(("nor_conv_3x3", op, "none", "none", "nor_conv_3x3", "none")) for op in OPS[:2])
    ledger = Ledger(study, 2)
    assert len({score for _, score in ledger.measure("a", [chain, same, chain])}) == 1
    assert len(ledger.trials) == 1
    assert [arch for arch, _ in ledger.measure("b", [BEST, Topology(OPS * 2), chain])] == [BEST, chain]
    assert not ledger.open


def test_a_space_that_is_used_up_ends_a_search(study, monkeypatch):
    monkeypatch.setattr("gemnet.search.strategies.ledger.MAX_IDLE", 50)
    assert LocalSearch(samples=10_000).run(study).arch_key == BEST.key


@pytest.mark.parametrize("build", [
    lambda: LocalSearch(samples=0), lambda: LocalSearch(batch=0), lambda: RegularizedEvolution(population=0),
    lambda: RegularizedEvolution(tournament=-1),
])  # fmt: skip
def test_settings_are_checked(build):
    with pytest.raises(ConfigError, match="expected 1 or more"):
        build()
    with pytest.raises(UnknownNameError, match="did you mean 'first'"):
        LocalSearch(until="firs")
