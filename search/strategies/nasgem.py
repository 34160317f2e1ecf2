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
from gemnet.errors import ConfigError, EvaluationError
from gemnet.search.learning import EncoderSettings, PredictorSettings
from gemnet.search.trial import Arch, Trial

if TYPE_CHECKING:
    import numpy as np

    from gemnet.search.bootstrap import Ranked
    from gemnet.search.embedding import Encoder
    from gemnet.search.predictor import Predictor
    from gemnet.search.study import Study

PREDICTION, REPORT = "prediction.json", "report.json"


@dataclass(frozen=True)
class NASGEM:
    """The search's settings.

    Args:
        samples: random cells that are measured first, T.
        candidates: random cells that are predicted in each round, C.
        finalists: best predicted cells that are measured in each round, k.
        rounds: how often predictor and bootstrap run, finalists fed back; more than 1 is an extension.
        block: candidates handled at a time.
        encoder: the graph embedding, see EncoderSettings.
        predictor: the efficiency predictor, see PredictorSettings.
    """

    samples: int = 200
    candidates: int = 1_000_000
    finalists: int = 10
    rounds: int = 1
    block: int = 4096
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    predictor: PredictorSettings = field(default_factory=PredictorSettings)

    def __post_init__(self) -> None:
        for name in ("samples", "candidates", "finalists", "rounds", "block"):
            least = 2 if name == "samples" else 1
            if getattr(self, name) < least:
                raise ConfigError(f"strategy.{name} must be at least {least}, got {getattr(self, name)}")

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
            predictor = self._predictor(study, f"predictor{mark}", encoder, measured)
            archs = self._finalists(study, mark, predictor, measured)
            measured += zip(archs, study.evaluate(f"finalists{mark}", archs))
        return study.best([trial for _, trial in measured])

    def _encoder(self, study: "Study") -> "Encoder":
        """Phase 1: an encoder trained on random graphs of the space, without labels."""
        from gemnet.search.embedding import Encoder, train_encoder
        from gemnet.search.encoder_report import report

        seed = int(study.rng("encoder").integers(2**63))

        def build(folder: Path) -> None:
            with study.progress.phase("encoder", self.encoder.steps) as phase:
                encoder = train_encoder(study.space, self.encoder, seed, lambda *_: phase.advance(1))
            encoder.save(folder)
            _write(folder / REPORT, settings.to_dict(report(encoder, study.space, seed)))

        inputs = [study.space.fingerprint, settings.to_dict(self.encoder)]
        return Encoder.load(study.artifact("encoder", build, inputs), study.space)

    def _predictor(
        self, study: "Study", name: str, encoder: "Encoder", measured: Sequence[tuple[Arch, Trial]]
    ) -> "Predictor":
        """Phase 2: what the measured cells' embeddings say about their scores."""
        import numpy as np

        from gemnet.search.predictor import build_predictor, load_predictor, save_predictor

        done = [(arch, study.score(trial)) for arch, trial in measured if trial.done]
        done = [(arch, score) for arch, score in done if math.isfinite(score)]
        if len(done) < 2:
            raise EvaluationError(f"a predictor needs two measured cells, {len(done)} of {len(measured)} were measured")
        archs, scores = study.space.batch([arch for arch, _ in done]), np.array([score for _, score in done])
        seed = int(study.rng(name).integers(2**63))

        def build(folder: Path) -> None:
            predictor = build_predictor(self.predictor, encoder, seed)
            predictor.fit(archs, scores)
            save_predictor(predictor, folder)

        inputs = [[trial for _, trial in measured], scores.tolist(), settings.to_dict(self.predictor)]
        return load_predictor(study.artifact(name, build, inputs), self.predictor, encoder, seed)

    def _finalists(
        self, study: "Study", mark: str, predictor: "Predictor", measured: Sequence[tuple[Arch, Trial]]
    ) -> list[Arch]:
        """Phase 3: the best predicted of many random cells, none measured before."""
        rng = study.rng(f"bootstrap{mark}")

        def build(folder: Path) -> None:
            ranked = self._bootstrap(study, rng, predictor, [arch for arch, _ in measured])
            rows = zip(ranked.graphs.cells(), ranked.mean, ranked.std)
            data = [{"arch": arch.to_dict(), "arch_key": arch.key, "mean": float(mean), "std": float(std)}
                    for arch, mean, std in rows]  # fmt: skip
            _write(folder / PREDICTION, data)

        inputs = [[arch.key for arch, _ in measured], self.to_dict(), study.objective]
        folder = study.artifact(f"prediction{mark}", build, inputs)
        return [study.space.arch(row["arch"]) for row in read_predictions(folder)]

    def _bootstrap(
        self, study: "Study", rng: "np.random.Generator", predictor: "Predictor", measured: Sequence[Arch]
    ) -> "Ranked":
        from gemnet.search import wl
        from gemnet.search.bootstrap import top_candidates
        from gemnet.search.limits import cost_limits

        known = wl.graph_hash(study.space.batch(measured))
        with study.progress.phase("bootstrap", self.candidates) as phase:
            return top_candidates(
                study.space, predictor.predict, rng, self.candidates, self.finalists, block=self.block,
                known=known, limits=cost_limits(study.objective, study.evaluator, study.space), on_block=phase.advance,
            )  # fmt: skip


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """The finalists a bootstrap chose, best first: `arch`, `arch_key`, predicted `mean` and `std`."""
    rows: list[dict[str, Any]] = json.loads((folder / PREDICTION).read_text(encoding="utf-8"))
    return rows


def _write(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")
