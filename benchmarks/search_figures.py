"""The figures of a finished NASGEM study: found against random cells, predicted against measured.

    python benchmarks/search_figures.py STUDY --name search_cifar10_small

The cross-validated Kendall tau refits the study's predictor, on the study's encoder, to all but a fold of
the random cells and compares its predictions of that fold with what was measured; the finalists' tau
compares what the search predicted before it measured them.
"""

import json
import statistics
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import numpy as np
from result import print_table, write_result
from scipy.stats import kendalltau

from gemnet.cell import Cell
from gemnet.search.compose import compose
from gemnet.search.embedding import Encoder
from gemnet.search.opening import look
from gemnet.search.predictor import Embedder, build_predictor
from gemnet.search.standing import Standing, standing
from gemnet.search.strategies.nasgem import Unembedded, read_predictions

FOLDS = 7


@click.command()
@click.argument("study", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--name", required=True, help="Of the result.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(study: Path, name: str, out: Path | None, as_json: bool) -> None:
    """Write zoo/results/NAME.json."""
    found = standing(study)
    parts = compose(found.record.settings)
    folders = artifact_folders(study)
    random = [trial for trial in found.trials_of("measured") if trial.done]
    finalists = found.trials_of("finalists")
    predicted = {row["arch_key"]: row for row in read_predictions(folders["prediction"])}
    rows = [
        {"cell": trial.arch_key[:12], "chosen_by": "random" if trial in random else "predictor",
         "nodes": len(trial.arch["ops"]), **{k: trial.metrics[k] for k in ("val_acc", "macs", "params", "train_s")},
         "score": parts.objective.score(trial.metrics),
         "predicted": predicted[trial.arch_key]["mean"] if trial.arch_key in predicted else None}
        for trial in random + finalists if trial.done
    ]  # fmt: skip
    embeds = "encoder" in folders
    encoder = Encoder.load(folders["encoder"], parts.space) if embeds else Unembedded(parts.space.vocabulary)
    summary = summarise(found, random, rows) | {
        "tau_cross_validated": cross_validated(parts, encoder, random), "folds": FOLDS,
        "encoder": json.loads((folders["encoder"] / "report.json").read_text()) if embeds else None,
        "candidates": parts.settings["strategy"]["candidates"], "hours": hours(study),
    }  # fmt: skip
    print_table(rows)
    data = parts.settings["data"]["name"]
    result = write_result(
        name, found.record.seed, rows, out, summary=summary, preset=name.removeprefix("search_").replace("_", "-"),
        data=Path(data).stem if ":" in data else data, train_images=parts.settings["evaluator"]["train_images"],
        settings={k: v for k, v in parts.settings.items() if k != "data"},
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def summarise(found: Standing, random: list[Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Found, best random and median random cell."""
    winner = found.best()[0].metrics
    best = max(random, key=lambda trial: trial.metrics["val_acc"]).metrics
    by_phase = [[r for r in rows if r["chosen_by"] == how] for how in ("random", "predictor")]
    tau = kendalltau([r["predicted"] for r in by_phase[1]], [r["score"] for r in by_phase[1]]).statistic
    return {
        "samples": len(by_phase[0]), "finalists": len(by_phase[1]),
        "found_by": next(r["chosen_by"] for r in rows if found.best()[0].arch_key.startswith(r["cell"])),
        "best_val_acc": winner["val_acc"], "best_macs": winner["macs"],
        "best_random_val_acc": best["val_acc"], "best_random_macs": best["macs"],
        "median_random_val_acc": statistics.median(r["val_acc"] for r in by_phase[0]),
        "median_random_macs": statistics.median(r["macs"] for r in by_phase[0]),
        "median_finalist_val_acc": statistics.median(r["val_acc"] for r in by_phase[1]),
        "median_finalist_macs": statistics.median(r["macs"] for r in by_phase[1]),
        "tau_finalists": None if np.isnan(tau) else float(tau),
    }  # fmt: skip


def cross_validated(parts: Any, encoder: Embedder, trials: list[Any]) -> float:
    """Kendall tau of out-of-fold predictions against scores."""
    cells = [Cell.from_dict(trial.arch) for trial in trials]
    scores = np.array([parts.objective.score(trial.metrics) for trial in trials])
    fold = np.random.default_rng(0).permutation(len(cells)) % FOLDS
    predicted = np.empty(len(cells))
    for k in range(FOLDS):
        predictor = build_predictor(parts.strategy.predictor, encoder, seed=k)
        predictor.fit(parts.space.batch([c for c, f in zip(cells, fold) if f != k]), scores[fold != k])
        predicted[fold == k] = predictor.predict(parts.space.batch([c for c, f in zip(cells, fold) if f == k]))[0]
    return float(kendalltau(predicted, scores).statistic)


def artifact_folders(study: Path) -> dict[str, Path]:
    """Where a study's artifacts lie, by name."""
    return {folder.name.rpartition("-")[0]: folder for folder in sorted((study / "artifacts").iterdir())}


def hours(study: Path) -> float:
    """From the first row of the journal to the last."""
    _, journal = look(study)
    with journal:
        first, last = (datetime.fromisoformat(journal.rows[k].time) for k in (0, -1))
    return (last - first).total_seconds() / 3600


if __name__ == "__main__":
    main()
