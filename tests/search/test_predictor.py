"""One contract for every predictor, and what each adds."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from gemnet.errors import ConfigError, UnknownNameError
from gemnet.search.embedding import Encoder, train_encoder
from gemnet.search.gp import GaussianProcess
from gemnet.search.graphs import GraphBatch
from gemnet.search.learning import PREDICTORS, EncoderSettings, PredictorSettings
from gemnet.search.predictor import build_predictor, load_predictor, save_predictor
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.traits import traits
from gemnet.search.warp import Warp

SPACE = CellSpace(min_nodes=4, max_nodes=10, max_in_degree=3)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def truth(graphs: GraphBatch) -> np.ndarray:
    """A score that a sensible predictor can learn: share of one op, and how many leaves."""
    return 0.5 + 0.1 * (graphs.codes == 1).sum(1) / graphs.sizes - 0.01 * graphs.leaves.sum(1)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    small = {"dim": 32, "decoder_width": 32, "buckets": 512, "axes": 2, "warm_start": 1024}
    return train_encoder(SPACE, EncoderSettings(steps=40, batch_size=64, **small), seed=1)


@pytest.mark.parametrize("form", PREDICTORS)
class TestEveryPredictor:
    def test_ranks_unseen_graphs_and_beats_the_mean(self, form: str, encoder: Encoder) -> None:
        known, unseen = SPACE.sample_batch(80, rng(1)), SPACE.sample_batch(200, rng(2))
        predictor = build_predictor(PredictorSettings(form), encoder, 0)
        predictor.fit(known, truth(known))
        mean, std = predictor.predict(unseen)
        assert mean.shape == std.shape == (200,)
        assert (std > 0).all() and np.isfinite(std).all()
        assert kendalltau(mean, truth(unseen)).statistic > 0.5
        assert ((mean - truth(unseen)) ** 2).mean() < 0.5 * truth(unseen).var()

    def test_a_saved_one_predicts_the_same(self, form: str, encoder: Encoder, tmp_path: Path) -> None:
        known, unseen = SPACE.sample_batch(12, rng(1)), SPACE.sample_batch(20, rng(2))
        settings = PredictorSettings(form, steps=30)
        one, two = build_predictor(settings, encoder, 5), build_predictor(settings, encoder, 5)
        one.fit(known, truth(known))
        two.fit(known, truth(known))
        save_predictor(one, tmp_path)
        restored = load_predictor(tmp_path, settings, encoder, 5).predict(unseen)
        for a, b, c in zip(one.predict(unseen), two.predict(unseen), restored):
            assert a.tobytes() == b.tobytes() == c.tobytes()

    def test_equal_scores_and_two_cells_are_enough(self, form: str, encoder: Encoder) -> None:
        predictor = build_predictor(PredictorSettings(form, steps=20), encoder, 0)
        predictor.fit(SPACE.sample_batch(2, rng(1)), np.array([0.3, 0.3]))
        mean, std = predictor.predict(SPACE.sample_batch(5, rng(2)))
        assert np.allclose(mean, 0.3, atol=0.01) and np.isfinite(std).all()

    @pytest.mark.parametrize("scores", [[0.1], [0.1, float("nan")], [0.1, 0.2, 0.3], [[0.1], [0.2]]])
    def test_unusable_scores_are_refused(self, form: str, encoder: Encoder, scores: list[float]) -> None:
        count = 1 if len(scores) == 1 else 2
        with pytest.raises(ConfigError, match="two or more finite scores"):
            build_predictor(PredictorSettings(form), encoder, 0).fit(SPACE.sample_batch(count, rng()), np.array(scores))

    def test_refuses_other_graphs_and_to_predict_before_it_is_fitted(self, form: str, encoder: Encoder) -> None:
        graphs = SPACE.sample_batch(10, rng(1))
        predictor = build_predictor(PredictorSettings(form, steps=20), encoder, 0)
        with pytest.raises(ConfigError, match="fitted before it predicts"):
            predictor.predict(graphs)
        predictor.fit(graphs, truth(graphs))
        turned = GraphBatch.from_cells(graphs.cells(), (graphs.ops[0], *graphs.ops[:0:-1]))
        with pytest.raises(ConfigError, match="graphs of the ops"):
            predictor.predict(turned)

    def test_wild_predictions_stay_numbers(self, form: str, encoder: Encoder) -> None:
        one = SPACE.sample_batch(1, rng(3))
        predictor = build_predictor(PredictorSettings(form, steps=20), encoder, 0)
        predictor.fit(one[np.zeros(20, np.int64)], rng(4).random(20))
        mean, std = predictor.predict(SPACE.sample_batch(50, rng(5)))
        assert np.isfinite(mean).all() and np.isfinite(std).all()


def test_a_gaussian_process_is_sure_of_what_it_has_seen(encoder: Encoder) -> None:
    known, unseen = SPACE.sample_batch(60, rng(1)), SPACE.sample_batch(60, rng(2))
    predictor = build_predictor(PredictorSettings("gp-wl"), encoder, 0)
    predictor.fit(known, truth(known))
    assert predictor.predict(known)[1].mean() < 0.5 * predictor.predict(unseen)[1].mean()


def test_the_ranking_term_alone_orders_cells(encoder: Encoder) -> None:
    known, unseen = SPACE.sample_batch(80, rng(1)), SPACE.sample_batch(200, rng(2))
    predictor = build_predictor(PredictorSettings("mlp", ranking=1000.0, margin=1.0), encoder, 0)
    predictor.fit(known, truth(known))
    assert kendalltau(predictor.predict(unseen)[0], truth(unseen)).statistic > 0.5


def test_unknown_forms_and_ranges_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'gp-wl'"):
        PredictorSettings("gp_wl")
    with pytest.raises(ConfigError):
        PredictorSettings(held_out=1.0)


def test_a_folder_of_another_form_is_refused(encoder: Encoder, tmp_path: Path) -> None:
    known = SPACE.sample_batch(5, rng(1))
    predictor = build_predictor(PredictorSettings("gp-wl"), encoder, 0)
    predictor.fit(known, truth(known))
    save_predictor(predictor, tmp_path)
    with pytest.raises(ConfigError, match="no predictor of form 'combined'"):
        load_predictor(tmp_path, PredictorSettings(), encoder, 0)


def test_the_warp_is_monotone_and_restores_what_it_changed() -> None:
    scores = rng().normal(size=50)
    warp = Warp.of(scores, "gap")
    learned = warp.learned(scores)
    assert (np.argsort(learned) == np.argsort(scores)).all()
    mean, std = warp.restored(learned, np.full(50, 1e-4))
    assert np.allclose(mean, scores)
    slope = (warp.learned(scores + 1e-6) - learned) / 1e-6
    assert np.allclose(std * slope, 1e-4, rtol=1e-3)
    assert Warp.of(scores, "raw").learned(scores) is scores
    assert Warp.of(np.array([0.1, 0.3, 0.3, 0.3, 0.3]), "gap").learned(np.array([0.2])) == 0.2  # no gap to speak of


def test_evidence_gives_useless_parts_little_weight() -> None:
    known, unseen = SPACE.sample_batch(120, rng(1)), SPACE.sample_batch(200, rng(2))
    noise = lambda graphs: np.random.default_rng(0).normal(size=(len(graphs), 5))  # noqa: E731
    process = GaussianProcess([], [noise, traits], "raw")
    process.fit(known, truth(known))
    useless, useful = process.state()["theta"][:2].tolist()
    assert useful > useless + 1
    assert kendalltau(process.predict(unseen)[0], truth(unseen)).statistic > 0.7
