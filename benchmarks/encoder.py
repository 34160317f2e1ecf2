"""How well encoders keep graph similarity, and decoders graphs, on cells never trained on.

    python benchmarks/encoder.py [--quick]

Every form with and without the WL term, at exactly 30 nodes and on the space's mixture of sizes,
beside the op histogram and the first 64 principal axes of the adjacency. One training each, on the mixture.
"""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from result import print_table, write_result
from scipy.stats import spearmanr

from gemnet.search.autoencoder import draw, pair_similarities
from gemnet.search.embedding import Encoder, train_encoder
from gemnet.search.encoder_report import report
from gemnet.search.graphs import GraphBatch
from gemnet.search.learning import ENCODERS, EncoderSettings
from gemnet.search.ordering import wl_order
from gemnet.search.spaces.cells import CellSpace

SPACES = {"mixture": CellSpace(), "30 nodes": CellSpace(min_nodes=30)}
EDITS = (1, 2, 4, 8)


@click.command()
@click.option("--quick", is_flag=True, help="A short training of each form.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
@click.option("--steps", default=EncoderSettings().steps, show_default=True)
@click.option("--dims", default="64", show_default=True, help="Sizes of the embedding, comma-separated.")
def main(quick: bool, out: Path | None, as_json: bool, seed: int, steps: int, dims: str) -> None:
    """Measure and write zoo/results/encoder.json."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = [baseline(name, space, seed) for name, space in SPACES.items()]
    for form in ENCODERS:
        for alpha in (EncoderSettings().alpha, 0.0):
            for dim in map(int, dims.split(",")):
                start = time.process_time()
                settings = EncoderSettings(form, dim, alpha=alpha, steps=20 if quick else steps, held_out=1024)
                encoder = train_encoder(SPACES["mixture"], settings, seed)
                train_s = time.process_time() - start
                for name, space in SPACES.items():
                    rows.append(measure(encoder, name, space, seed) | {"train_s": round(train_s)})
                    click.echo(rows[-1], err=True)
    print_table(rows)
    result = write_result("encoder", seed, rows, out)
    if as_json:
        click.echo(json.dumps(result))


def measure(encoder: Encoder, name: str, space: CellSpace, seed: int) -> dict[str, Any]:
    """The report of one encoder on one space, and the mean of S_e after each number of edits."""
    settings, figures = encoder.settings, report(encoder, space, seed)
    graphs = space.sample_batch(512, np.random.Generator(np.random.Philox(key=[seed, 2])))
    cosines = []
    for edits in EDITS:
        rng = np.random.Generator(np.random.Philox(key=[seed, 3]))
        other = replace(space, min_edits=edits, max_edits=edits).mutate_batch(graphs, rng)
        cosines.append(float((unit(encoder.embed(graphs)) * unit(encoder.embed(other))).sum(1).mean()))
    return {
        "form": settings.form, "dim": settings.dim, "alpha": settings.alpha, "cells": name,
        "random": round(figures.spearman_random, 3), "edited": round(figures.spearman_edited, 3),
        "after_edits": "/".join(f"{c:.3f}" for c in cosines), "edge_f1": round(figures.edge_f1, 3),
        "op_acc": round(figures.op_accuracy, 3), "exact": round(figures.exact_rate, 3),
    }  # fmt: skip


def baseline(name: str, space: CellSpace, seed: int) -> dict[str, Any]:
    """The adjacency's principal axes (64, of fresh cells) and, as note, the op histogram's correlations."""
    settings = EncoderSettings()
    graphs = draw(space, 512, np.random.Generator(np.random.Philox(key=[seed, 1])))
    z, near = pair_similarities(graphs, settings)
    fresh = flat(wl_order(SPACES["mixture"].sample_batch(4096, np.random.Generator(np.random.Philox(key=[seed, 4])))))
    axes = np.linalg.svd(fresh - fresh.mean(0), full_matrices=False)[2][: settings.dim]
    vectors = unit((flat(graphs) - fresh.mean(0)) @ axes.T)
    counts = unit(np.stack([(graphs.codes == k).sum(1) for k in range(len(graphs.ops))], 1).astype(np.float64))
    pairs, true = np.triu_indices(512, 1), (z @ z.T).toarray()
    true_edited = np.asarray(z.multiply(near).sum(1)).reshape(-1)
    (random, edited), (ops_random, ops_edited) = (
        (spearmanr((v[:512] @ v[:512].T)[pairs], true[pairs]).statistic,
         spearmanr((v[:512] * v[512:]).sum(1), true_edited).statistic)
        for v in (vectors, counts)
    )  # fmt: skip
    return {
        "form": "PCA of adjacency", "dim": settings.dim, "alpha": 0.0, "cells": name, "random": round(float(random), 3),
        "edited": round(float(edited), 3), "after_edits": f"op histogram {ops_random:.3f} {ops_edited:.3f}",
        "edge_f1": 0.0, "op_acc": 0.0, "exact": 0.0, "train_s": 0,
    }  # fmt: skip


def flat(graphs: GraphBatch) -> np.ndarray:
    """Adjacencies as vectors [B, N N]."""
    return graphs.dense.reshape(len(graphs), -1).astype(np.float64)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


if __name__ == "__main__":
    main()
