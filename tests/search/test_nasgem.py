"""NASGEM on a study whose measurements are a formula, and the bootstrap alone."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemnet.cell import Cell
from gemnet.cost import Cost
from gemnet.errors import CellError, ConfigError, EvaluationError, UnknownNameError
from gemnet.search import wl
from gemnet.search.batch_cost import BatchCost
from gemnet.search.bootstrap import top_candidates
from gemnet.search.graphs import GraphBatch
from gemnet.search.learning import EncoderSettings, PredictorSettings
from gemnet.search.limits import CostLimits, cost_limits
from gemnet.search.objective import Objective
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.strategies.nasgem import NASGEM, read_predictions
from gemnet.search.study import Parts, Study

SPACE = CellSpace(min_nodes=4, max_nodes=12, max_in_degree=3)
SMALL = NASGEM(
    samples=16, candidates=1500, finalists=4, block=512,
    encoder=EncoderSettings(width=16, dim=16, decoder_width=32, steps=30, batch_size=64, held_out=64, lr=4e-3),
    predictor=PredictorSettings(steps=150),
)  # fmt: skip


@dataclass(frozen=True)
class Formula:
    """Accuracy from the ops and the leaves; cells with `fails` leaves cannot be measured."""

    fails: int = 0
    price: str = "linear"
    fingerprint: str = "formula"

    def evaluate(self, arch: Any, seed: int) -> dict[str, float]:
        if len(arch.leaves) == self.fails:
            raise CellError("no such net")
        share = arch.ops.count("conv1x1") / len(arch.ops)
        return {"val_acc": 0.4 + 0.3 * share - 0.02 * len(arch.leaves) + seed % 100 / 1e5, "macs": self.cost(arch).macs}

    def cost(self, cell: Cell) -> Cost:
        macs = 1000 * len(cell.ops) + 100 * len(cell.leaves) + 10 * len(cell.edges)
        if self.price == "square":
            macs = len(cell.edges) ** 2
        return Cost(macs, len(cell.ops), 1, len(cell.edges))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def study(folder: Path, evaluator: Any = None, workers: int = 0, **objective: Any) -> Study:
    settings = {"study": {"max_failed_share": 0.6, "threads": 1}}
    parts = Parts(SPACE, evaluator or Formula(), NASGEM(), Objective(**objective), settings)
    return Study.create(folder / "study", parts, seed=1, workers=workers)


def predictions(running: Study, name: str = "prediction") -> list[dict[str, Any]]:
    return read_predictions(next((running.directory / "artifacts").glob(f"{name}-*")))


def test_finalists_beat_the_random_median_and_predictions_are_kept(tmp_path: Path) -> None:
    with study(tmp_path) as running:
        winner = running.run(SMALL)
        rows = predictions(running)
        chosen = {row["arch_key"] for row in rows}
        trials = list(running._trials.values())
        finalists = [running.score(trial) for trial in trials if trial.arch_key in chosen]
        random = [running.score(trial) for trial in trials if trial.arch_key not in chosen]
        assert (len(random), len(finalists)) == (16, 4)
        assert np.mean(finalists) > np.median(random)
        assert running.score(winner) == max(random + finalists)
        assert [row["mean"] for row in rows] == sorted((row["mean"] for row in rows), reverse=True)
        assert all(row["std"] >= 0 and Cell.from_dict(row["arch"]).key == row["arch_key"] for row in rows)


def test_two_runs_find_the_same_and_failed_cells_are_left_out(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        with study(tmp_path / name, Formula(fails=4)) as running:
            found.append((running.run(SMALL).arch_key, [row["mean"] for row in predictions(running)]))
            assert any(not trial.done for trial in running._trials.values())
    assert found[0] == found[1]


def test_more_rounds_feed_finalists_back(tmp_path: Path) -> None:
    with study(tmp_path) as running:
        running.run(replace(SMALL, rounds=2, predictor=PredictorSettings("gp-wl")))
        first, second = (predictions(running, f"prediction-{r}") for r in (0, 1))
        assert not {row["arch_key"] for row in first} & {row["arch_key"] for row in second}
        assert len(running._trials) == 16 + 8


def test_expected_improvement_is_another_order_of_the_same_predictions(tmp_path: Path) -> None:
    strategy = replace(SMALL, finalists=12, predictor=PredictorSettings("gp-traits"))
    chosen = {}
    for acquisition in ("mean", "ei"):
        (tmp_path / acquisition).mkdir()
        with study(tmp_path / acquisition) as running:
            running.run(replace(strategy, acquisition=acquisition))
            chosen[acquisition] = {row["arch_key"]: (row["mean"], row["std"]) for row in predictions(running)}
    both = chosen["mean"].keys() & chosen["ei"].keys()
    assert 0 < len(both) < 12
    for key in both:
        assert chosen["mean"][key] == pytest.approx(chosen["ei"][key])


def test_an_encoder_is_trained_only_for_a_predictor_that_looks_at_embeddings(tmp_path: Path) -> None:
    for form, trained in (("gp-wl", 0), ("gp-embedding", 1)):
        (tmp_path / form).mkdir()
        with study(tmp_path / form) as running:
            running.run(replace(SMALL, predictor=PredictorSettings(form)))
            reports = list((running.directory / "artifacts").glob("encoder-*/report.json"))
            assert len(reports) == trained
            assert all(-1 <= json.loads(file.read_text())["spearman_random"] <= 1 for file in reports)


def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    found = []
    for workers in (0, 2):
        (tmp_path / str(workers)).mkdir()
        with study(tmp_path / str(workers), workers=workers) as running:
            winner = running.run(replace(SMALL, acquisition="ei", predictor=PredictorSettings("gp-wl")))
            kept = [(kind, row.key, row.body) for kind in ("trial", "artifact") for row in running._journal.of(kind)]
            found.append((winner, sorted(kept, key=lambda row: row[:2])))  # workers' trials come as they end
    assert found[0] == found[1]


def test_limits_are_kept_and_impossible_ones_named(tmp_path: Path) -> None:
    with study(tmp_path, max_macs=7500) as running:
        winner = running.run(SMALL)
        assert winner.metrics["macs"] <= 7500
        assert all(Formula().cost(Cell.from_dict(row["arch"])).macs <= 7500 for row in predictions(running))
    (tmp_path / "other").mkdir()
    with study(tmp_path / "other", max_macs=1) as running, pytest.raises(EvaluationError, match="max_macs=1"):
        running.run(SMALL)


@pytest.mark.parametrize("price", ["linear", "square"])
def test_batch_limits_equal_the_limits_of_each_cell(price: str) -> None:
    evaluator, objective = Formula(price=price), Objective(max_macs=7500 if price == "linear" else 200)
    graphs = SPACE.sample_batch(300, rng())
    limits = CostLimits(objective, evaluator, SPACE)
    expected = [evaluator.cost(cell).macs <= objective.max_macs for cell in graphs.cells()]
    assert limits(graphs).tolist() == expected
    assert 0 < sum(expected) < 300
    assert (limits.law is not None) == (price == "linear")


def test_a_limit_judged_cell_by_cell_that_none_keeps_is_an_error_not_a_hang() -> None:
    limits = CostLimits(Objective(max_acts=1), Formula(), SPACE)
    assert limits.slow
    judged: list[int] = []
    counts: list[int] = []
    limits._keeps = lambda cell: bool(judged.append(1))  # type: ignore[func-returns-value, method-assign]
    with pytest.raises(EvaluationError, match=r"none of 8192 candidates keeps the limits \(max_acts=1\)"):
        top_candidates(SPACE, counted, rng(), 10**9, 5, block=2048, limits=limits, on_block=counts.append)
    assert sum(judged) < 8192
    assert sum(counts) == 8192


def test_costs_of_a_batch_are_used_where_the_evaluator_has_them() -> None:
    @dataclass(frozen=True)
    class Batched(Formula):
        def batch_cost(self, graphs: GraphBatch) -> BatchCost:
            zero = np.zeros(len(graphs), np.int64)
            return BatchCost(zero, zero, zero, graphs.in_degree.sum(1))

    graphs, limits = SPACE.sample_batch(200, rng()), CostLimits(Objective(max_acts=12), Batched(), SPACE)
    assert not limits.slow
    expected = [Formula().cost(cell).peak_acts <= 12 for cell in graphs.cells()]
    assert limits(graphs).tolist() == expected
    assert 0 < sum(expected) < 200


def test_limits_without_costs_are_refused() -> None:
    assert cost_limits(Objective(), object(), SPACE) is None
    with pytest.raises(ConfigError, match=r"no cost to hold against the limits \(max_macs=5\)"):
        cost_limits(Objective(max_macs=5), object(), SPACE)


def counted(graphs: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
    mean = graphs.in_degree.sum(1) + graphs.leaves.sum(1) / 100
    return mean.astype(float), np.zeros(len(graphs))


def test_the_stream_keeps_what_sorting_everything_would_keep() -> None:
    drawn: list[GraphBatch] = []

    def remember(graphs: GraphBatch) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(graphs)
        return counted(graphs)

    known = wl.graph_hash(SPACE.sample_batch(100, rng(5)))
    counts: list[int] = []
    best = top_candidates(SPACE, remember, rng(), 5000, 25, block=700, known=known, on_block=counts.append)
    best_of: dict[int, float] = {}
    for graphs in drawn:
        best_of |= dict(zip(wl.graph_hash(graphs).tolist(), counted(graphs)[0].tolist()))
    expected = sorted(best_of, key=lambda value: (-best_of[value], value))[:25]
    assert best.hashes.tolist() == expected
    assert wl.graph_hash(best.graphs).tolist() == expected
    assert not set(expected) & set(known.tolist())
    assert sum(counts) == 5000


def test_a_space_measured_to_the_end_is_an_error_not_a_hang() -> None:
    tiny = CellSpace(min_nodes=2, max_nodes=2)
    known = wl.graph_hash(tiny.sample_batch(50, rng()))
    with pytest.raises(EvaluationError, match="all of 1000 candidates are measured already"):
        top_candidates(tiny, counted, rng(), 1000, 3, known=known)


def test_settings_round_trip_and_are_checked() -> None:
    assert NASGEM.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
    with pytest.raises(ConfigError, match=r"strategy\.samples must be at least 2"):
        NASGEM(samples=1)
    with pytest.raises(UnknownNameError, match=r"strategy\.acquisition 'means' .did you mean 'mean'"):
        NASGEM(acquisition="means")
