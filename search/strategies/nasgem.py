"""NASGEM: a graph embedding, a predictor on it, and a bootstrap over many candidates.

Cheng et al., "NASGEM: Neural Architecture Search via Graph Embedding Method", AAAI 2021
(arXiv 2007.04452). The three phases are the paper's; the numbers are this project's defaults.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemnet import settings
from gemnet.errors import EvaluationError, UnknownNameError
from gemnet.search.learning import EncoderSettings, PredictorSettings
from gemnet.search.trial import Arch, Trial

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from gemnet.search.bootstrap import Portable, Predict, Ranked
    from gemnet.search.graphs import GraphBatch
    from gemnet.search.predictor import Embedder
    from gemnet.search.study import Study

PREDICTION, REPORT, LOSSES = "prediction.json", "report.json", "losses.json"
ACQUISITIONS = ("mean", "ei")
Measured = Sequence[tuple[Arch, Trial]]


@dataclass(frozen=True)
class NASGEM:
    """The search's settings.

    Args:
        samples: random cells that are measured first, T.
        candidates: random cells that are predicted in each round, C.
        finalists: best ranked cells that are measured in each round, k.
        rounds: how often predictor and bootstrap run, finalists fed back; more than 1 is an extension.
        acquisition: what candidates are ranked by: `"mean"`, the predicted score, as in the paper; or `"ei"`,
            the expected improvement on the best measured score, which is for several rounds.
        block: candidates handled at a time.
        encoder: the graph embedding, see EncoderSettings; not trained for a predictor that looks at none.
        predictor: the efficiency predictor, see PredictorSettings.
    """

    samples: int = 200
    candidates: int = 1_000_000
    finalists: int = 10
    rounds: int = 1
    acquisition: str = "mean"
    block: int = 4096
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    predictor: PredictorSettings = field(default_factory=PredictorSettings)

    def __post_init__(self) -> None:
        at_least_1 = ("candidates", "finalists", "rounds", "block")
        ranges = {name: (getattr(self, name) >= 1, "at least 1") for name in at_least_1}
        settings.check_ranges(self, "strategy", {"samples": (self.samples >= 2, "at least 2"), **ranges})
        if self.acquisition not in ACQUISITIONS:
            raise UnknownNameError("value of strategy.acquisition", self.acquisition, ACQUISITIONS)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "NASGEM":
        """The strategy a JSON object gives; raises ConfigError or UnknownNameError."""
        return settings.from_dict(cls, data, "strategy")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal strategy."""
        return settings.to_dict(self)

    @property
    def name(self) -> str:
        """`"nasgem"`."""
        return "nasgem"

    def run(self, study: "Study") -> Arch | Trial:
        """The best measured cell.

        Raises:
            EvaluationError: too few cells could be measured, or no candidate keeps the limits.
        """
        encoder = self._encoder(study)
        sampled = study.space.sample(self.samples, study.rng("sample"))
        measured = list(zip(sampled, study.evaluate("measured", sampled)))
        for r in range(self.rounds):
            mark = f"/{r}" if self.rounds > 1 else ""
            predict = self._predictor(study, f"predictor{mark}", encoder, measured)
            archs = self._finalists(study, mark, predict, measured)
            measured += zip(archs, study.evaluate(f"finalists{mark}", archs))
        return study.best([trial for _, trial in measured])

    def _encoder(self, study: "Study") -> "Embedder":
        """Phase 1: an encoder trained on random graphs of the space, without labels, if embeddings are looked at."""
        if not self.predictor.embeds:
            return Unembedded(study.space.vocabulary)
        from gemnet.search.embedding import Encoder, train_encoder
        from gemnet.search.encoder_report import report

        seed = int(study.rng("encoder").integers(2**63))

        def build(folder: Path) -> None:
            losses: list[float] = []

            def advance(_: int, loss: float) -> None:
                losses.append(round(loss, 6))
                phase.advance()

            with study.progress.phase("encoder", self.encoder.steps) as phase:
                encoder = train_encoder(study.space, self.encoder, seed, advance)
            encoder.save(folder)
            _write(folder / LOSSES, {"loss": losses})
            _write(folder / REPORT, settings.to_dict(report(encoder, study.space, seed)))

        inputs = [study.space.fingerprint, settings.to_dict(self.encoder)]
        return Encoder.load(study.artifact("encoder", build, inputs), study.space)

    def _predictor(self, study: "Study", name: str, encoder: "Embedder", measured: Measured) -> "Portable":
        """Phase 2: what the measured cells say about the scores of others."""
        from gemnet.search.bootstrap import Portable
        from gemnet.search.predictor import build_predictor, load_predictor, save_predictor

        archs, scores = _learnable(study, measured)
        seed = int(study.rng(name).integers(2**63))
        fitted = []

        def build(folder: Path) -> None:
            fitted.append(build_predictor(self.predictor, encoder, seed))
            fitted[0].fit(study.space.batch(archs), scores)
            save_predictor(fitted[0], folder)

        inputs = [[trial for _, trial in measured], scores.tolist(), settings.to_dict(self.predictor)]
        folder = study.artifact(name, build, inputs)
        predictor = fitted[0] if fitted else load_predictor(folder, self.predictor, encoder, seed)
        return Portable(predictor, self.predictor, encoder, seed)

    def _finalists(self, study: "Study", mark: str, predict: "Portable", measured: Measured) -> list[Arch]:
        """Phase 3: the best ranked of many random cells, none measured before."""
        rng = study.rng(f"bootstrap{mark}")

        def build(folder: Path) -> None:
            rank = self._ranking(study, predict, measured)
            ranked = self._bootstrap(study, rng, rank, [arch for arch, _ in measured])
            mean, std = (ranked.mean, ranked.std) if rank is predict else predict(ranked.graphs)
            data = [{"arch": arch.to_dict(), "arch_key": arch.key, "mean": float(m), "std": float(s)}
                    for arch, m, s in zip(ranked.graphs.cells(), mean, std)]  # fmt: skip
            _write(folder / PREDICTION, data)

        inputs = [[arch.key for arch, _ in measured], self.to_dict(), study.objective]
        folder = study.artifact(f"prediction{mark}", build, inputs)
        return [study.space.arch(row["arch"]) for row in read_predictions(folder)]

    def _ranking(self, study: "Study", predict: "Predict", measured: Measured) -> "Predict":
        """What the bootstrap maximises: the predicted score, or the expected improvement on the best within limits."""
        from gemnet.search.acquisition import LogImprovement
        from gemnet.search.warp import Warp

        if self.acquisition == "mean":
            return predict
        _, scores = _learnable(study, measured)
        allowed = [trial for _, trial in measured if trial.done and study.objective.accepts(trial.metrics)]
        best = max(filter(math.isfinite, map(study.score, allowed)), default=float(scores.min()))
        return LogImprovement(predict, Warp.of(scores, self.predictor.target), best)

    def _bootstrap(
        self, study: "Study", rng: "np.random.Generator", rank: "Predict", measured: Sequence[Arch]
    ) -> "Ranked":
        from gemnet.search import wl
        from gemnet.search.bootstrap import top_candidates
        from gemnet.search.limits import cost_limits

        known = wl.graph_hash(study.space.batch(measured))
        with study.progress.phase("bootstrap", self.candidates) as phase:
            return top_candidates(
                study.space, rank, rng, self.candidates, self.finalists, block=self.block, known=known,
                limits=cost_limits(study.objective, study.evaluator, study.space), workers=study.workers,
                on_block=phase.advance,
            )  # fmt: skip


@dataclass(frozen=True)
class Unembedded:
    """In the place of an encoder when no embedding is looked at.

    Args:
        ops: vocabulary of the graphs.
    """

    ops: tuple[str, ...]

    def embed(self, graphs: "GraphBatch") -> "npt.NDArray[np.float32]":
        """Nothing: there is no embedding to look at."""
        raise NotImplementedError("this predictor looks at no embedding")


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """The finalists a bootstrap chose, best first: `arch`, `arch_key`, predicted `mean` and `std`."""
    rows: list[dict[str, Any]] = json.loads((folder / PREDICTION).read_text(encoding="utf-8"))
    return rows


def _learnable(study: "Study", measured: Measured) -> tuple[list[Arch], "npt.NDArray[np.float64]"]:
    """The measured cells with a finite score, and these; raises EvaluationError when there are fewer than two."""
    import numpy as np

    done = [(arch, study.score(trial)) for arch, trial in measured if trial.done]
    done = [(arch, score) for arch, score in done if math.isfinite(score)]
    if len(done) < 2:
        raise EvaluationError(f"a predictor needs two measured cells, {len(done)} of {len(measured)} were measured")
    return [arch for arch, _ in done], np.array([score for _, score in done])


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
