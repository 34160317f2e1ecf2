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
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from result import print_table, write_result
from scipy.stats import kendalltau

from gemnet.search.embedding import Encoder, train_encoder
from gemnet.search.encoder_report import decoded, report
from gemnet.search.enumerated import Enumeration
from gemnet.search.graphs import GraphBatch
from gemnet.search.learning import PREDICTORS, EncoderSettings, PredictorSettings
from gemnet.search.predictor import build_predictor
from gemnet.search.table import load_table

SIZES = (32, 78, 200, 391)
ENCODER = EncoderSettings(form="mlp", dim=64, waves=0, decoder_width=512, lr=3e-3, steps=1000)
KINDS = {"autoencoder + WL": ENCODER.alpha, "autoencoder only": 0.0}


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
    for kind, alpha in KINDS.items():
        encoders[kind] = train_encoder(rows.space, replace(ENCODER, alpha=alpha, steps=steps), seed)
        figures_of_all = {"exact_of_all": exact(encoders[kind], graphs)}
        reports[kind] = vars(report(encoders[kind], rows.space, seed)) | figures_of_all
        click.echo({kind: reports[kind]}, err=True)
    figures: list[dict[str, Any]] = []
    whole = Enumeration(graphs)
    for form, size in product(PREDICTORS, sizes):
        for kind in KINDS if PredictorSettings(form).embeds else ["none"]:
            row = {"predictor": form, "embedding": kind, "cells": size}
            encoder = encoders.get(kind, encoders["autoencoder + WL"])
            row |= measure(form, encoder, whole, accuracy, size, range(seed, seed + count))
            figures.append(row)
            click.echo(row, err=True)
    print_table(figures)
    result = write_result("predictor_tau", seed, figures, out, seeds=count, structures=len(graphs), encoders=reports)
    if as_json:
        click.echo(json.dumps(result))


def measure(
    form: str, encoder: Encoder, graphs: Enumeration, accuracy: np.ndarray, size: int, seeds: range
) -> dict[str, Any]:
    """Mean and standard deviation of tau over seeds, and processor seconds of a fit and prediction."""
    taus, start = [], time.process_time()
    for seed in seeds:
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(graphs))
        known, unseen = order[:size], order[size:]
        predictor = build_predictor(PredictorSettings(form), encoder, seed)
        predictor.fit(graphs[known], accuracy[known])
        taus.append(float(kendalltau(predictor.predict(graphs[unseen])[0], accuracy[unseen]).statistic))
    spread = statistics.stdev(taus) if len(taus) > 1 else 0.0
    seconds = (time.process_time() - start) / len(taus)
    return {"tau": round(statistics.mean(taus), 4), "std": round(spread, 4), "cpu_s": round(seconds, 2)}


def exact(encoder: Encoder, graphs: GraphBatch) -> float:
    """Share of all graphs that the decoder gives back without a fault."""
    return decoded(encoder, graphs).exact_rate


if __name__ == "__main__":
    main()
