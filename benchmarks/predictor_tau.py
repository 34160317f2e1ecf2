"""Kendall's tau of every predictor on a NAS-Bench-201 table, with and without the encoder's WL term.

    python benchmarks/predictor_tau.py cifar10.csv.gz [--quick]

Architectures that compute the same function are one (5,615 of 15,625), its accuracy the mean of its
rows, so no function is on both sides of a split. A predictor learns 32, 78, 200 or 391 of them and
ranks all others. One encoder of either kind, trained without accuracies, serves all seeds.
"""

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from result import print_table, write_result
from scipy.stats import kendalltau

from gemnet.search.embedding import Encoder, train_encoder
from gemnet.search.encoder_report import decoded, report
from gemnet.search.graphs import GraphBatch
from gemnet.search.learning import PREDICTORS, EncoderSettings, PredictorSettings
from gemnet.search.ordering import wl_order
from gemnet.search.predictor import build_predictor
from gemnet.search.table import load_table

SIZES = (32, 78, 200, 391)
BLIND = ("gp-wl", "gp-traits")  # forms that do not look at embeddings
ENCODER = EncoderSettings(buckets=1024, steps=3000)


@click.command()
@click.argument("table", type=click.Path(exists=True, dir_okay=False))
@click.option("--quick", is_flag=True, help="Two seeds, two sizes, a short training.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True, help="First of the seeds.")
@click.option("--seeds", default=20, show_default=True)
@click.option("--steps", default=ENCODER.steps, show_default=True, help="Of each encoder's training.")
def main(table: str, quick: bool, out: Path | None, as_json: bool, seed: int, seeds: int, steps: int) -> None:
    """Measure and write zoo/results/predictor_tau.json."""
    torch.set_num_threads(1)
    rows = load_table(f"nasbench201:{table}")
    graphs, accuracy = rows.graphs[rows.representatives], rows.means["val_acc"]
    sizes, count, steps = (SIZES[:2], 2, 50) if quick else (SIZES, seeds, steps)
    encoders, reports = {}, {}
    for kind, alpha in (("autoencoder + WL", ENCODER.alpha), ("autoencoder only", 0.0)):
        encoders[kind] = train_encoder(rows.space, replace(ENCODER, alpha=alpha, steps=steps), seed)
        figures_of_all = {"exact_of_all": exact(encoders[kind], graphs)}
        reports[kind] = vars(report(encoders[kind], rows.space, seed)) | figures_of_all
        click.echo({kind: reports[kind]}, err=True)
    figures: list[dict[str, Any]] = []
    for form in PREDICTORS:
        for kind, encoder in encoders.items():
            if form in BLIND and kind != "autoencoder + WL":
                continue
            for size in sizes:
                row = {"predictor": form, "embedding": "none" if form in BLIND else kind, "cells": size}
                row |= measure(form, encoder, graphs, accuracy, size, range(seed, seed + count))
                figures.append(row)
                click.echo(row, err=True)
    print_table(figures)
    result = write_result("predictor_tau", seed, figures, out, seeds=count, structures=len(graphs), encoders=reports)
    if as_json:
        click.echo(json.dumps(result))


def measure(
    form: str, encoder: Encoder, graphs: GraphBatch, accuracy: np.ndarray, size: int, seeds: range
) -> dict[str, Any]:
    """Mean and standard deviation of tau over seeds, and seconds of a fit and prediction."""
    taus, start = [], time.perf_counter()
    for seed in seeds:
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(graphs))
        known, unseen = order[:size], order[size:]
        predictor = build_predictor(PredictorSettings(form), encoder, seed)
        predictor.fit(graphs[known], accuracy[known])
        taus.append(float(kendalltau(predictor.predict(graphs[unseen])[0], accuracy[unseen]).statistic))
    spread = statistics.stdev(taus) if len(taus) > 1 else 0.0
    seconds = (time.perf_counter() - start) / len(taus)
    return {"tau": round(statistics.mean(taus), 4), "std": round(spread, 4), "seconds": round(seconds, 2)}


def exact(encoder: Encoder, graphs: GraphBatch) -> float:
    """Share of all graphs that the decoder gives back without a fault."""
    return decoded(encoder, wl_order(graphs))[2]


if __name__ == "__main__":
    main()
