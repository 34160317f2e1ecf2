"""How well encoders keep graph similarity, and decoders graphs, on cells never trained on.

    python benchmarks/encoder.py [--quick]

Three tables. `rows`: every form with and without the WL term, trained on the space's mixture of sizes,
judged on it and at exactly 30 nodes, beside baselines; "no waves" is what a network learns from noise.
`curve`: what bounds the decoder, by size of cell, size of embedding and steps, without the WL term.
`nasbench201`: every graph of that space decoded. `--only NAME` trains the forms or the table named, and takes all
other figures from `--earlier FILE`, a result of this benchmark; the result says which.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from result import print_table, write_result

from gemnet.search import wl
from gemnet.search.autoencoder import draw, pair_similarities, targets
from gemnet.search.embedding import Encoder, train_encoder
from gemnet.search.encoder_report import Decoded, decoded, judged, rank_correlations, report
from gemnet.search.encoders import pairs_of
from gemnet.search.graphs import GraphBatch, concat
from gemnet.search.learning import EncoderSettings
from gemnet.search.ordering import wl_order
from gemnet.search.spaces.cells import CellSpace
from gemnet.search.spaces.nasbench201 import NASBench201
from gemnet.search.trial import digest
from gemnet.settings import to_dict

SPACES = {"mixture": CellSpace(), "30 nodes": CellSpace(min_nodes=30)}
WL, SMALL = EncoderSettings(), EncoderSettings(dim=64)
GRAPH = EncoderSettings("graph", dim=128, steps=800, lr=3e-3)
MLP = EncoderSettings("mlp", dim=128, decoder_width=512, lr=3e-3)
NO_GRAPH, NO_MLP = (replace(form, dim=64, waves=0) for form in (GRAPH, MLP))
FORMS = (
    *(SMALL, WL, replace(WL, alpha=0.0)),
    *(replace(form, alpha=alpha) for form in (GRAPH, MLP) for alpha in (10.0, 0.0)),
    *(replace(form, alpha=alpha) for form in (NO_GRAPH, NO_MLP) for alpha in (100.0, 10.0, 0.0)),
)
AXES = 64  # of the adjacency: the baseline
CURVE = ((10, 64, 1000), (15, 64, 1000), (20, 64, 1000), (30, 64, 250), (30, 64, 1000), (30, 64, 2000),
         (30, 128, 1000), (30, 256, 1000))  # fmt: skip
EDITS = (1, 2, 4, 8)
HELD_OUT, FRESH = 1024, 8192
NASBENCH = "nasbench201"
TABLES = ("curve", NASBENCH, "bits_of_a_cell", "edge_accuracy_of_no_edges")
Row = dict[str, Any]


def label_of(settings: EncoderSettings) -> str:
    """What a form is called in the table."""
    label = f"{settings.form}, p {settings.dim}, alpha {settings.alpha:g}"
    return label if settings.waves or settings.form == "wl" else f"{label}, no waves"


@click.command()
@click.option("--quick", is_flag=True, help="A short training of each.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
@click.option("--seed", default=0, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep encoders here and use kept ones.")
@click.option("--only", multiple=True, type=click.Choice([*(label_of(form) for form in FORMS), NASBENCH]),
              help="A form to train, or a table; may be given again. Without it, all.")  # fmt: skip
@click.option("--earlier", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="A result of this benchmark, from which --only takes all other figures.")  # fmt: skip
def main(
    quick: bool, out: Path | None, as_json: bool, seed: int, keep: Path | None, only: tuple[str, ...],
    earlier: Path | None,
) -> None:  # fmt: skip
    """Measure and write zoo/results/encoder.json."""
    torch.set_num_threads(1)
    if bool(only) != bool(earlier):
        raise click.UsageError("--only and --earlier go together")
    train = Training(seed, quick, keep)
    rows = [] if only else [row for name, space in SPACES.items() for row in baselines(name, space, seed)]
    for settings in FORMS:
        if not only or label_of(settings) in only:
            rows += form_rows(train, settings, seed)
    if earlier:
        rows, tables = joined(rows, json.loads(earlier.read_text(encoding="utf-8")), only)
        if NASBENCH in only:
            tables[NASBENCH] = nasbench201_rows(train, seed)
    else:
        tables = other_tables(train, seed)
    for table in (rows, tables["curve"], tables[NASBENCH]):
        print_table([{name: "-" if value is None else value for name, value in row.items()} for row in table])
    result = write_result("encoder", seed, rows, out, **tables)
    if as_json:
        click.echo(json.dumps(result))


def form_rows(train: "Training", settings: EncoderSettings, seed: int) -> list[Row]:
    """The rows of one form, trained on the mixture."""
    encoder, train_s = train(SPACES["mixture"], settings)
    rows = [form_row(encoder, name, space, seed) | {"train_s": train_s} for name, space in SPACES.items()]
    click.echo(rows, err=True)
    return rows


def joined(rows: list[Row], earlier: Row, only: Sequence[str]) -> tuple[list[Row], Row]:
    """The rows with those an earlier result has of other forms, in order, and its other tables."""
    new = {row["form"] for row in rows}
    old = [row for row in earlier["rows"] if row["form"] not in new]
    labels = [label_of(settings) for settings in FORMS]
    known = {row["form"] for row in old} - {*labels}
    rows = sorted(old + rows, key=lambda row: -1 if row["form"] in known else labels.index(row["form"]))
    note = f"of this run: {'; '.join(sorted(only))}; all else of earlier runs, the last of them {earlier['command']}"
    return rows, {name: earlier[name] for name in TABLES} | {"origin": note}


def other_tables(train: "Training", seed: int) -> Row:
    """What the result holds beside its rows."""
    return {
        "curve": [curve_row(train, *point, seed) for point in CURVE],
        NASBENCH: nasbench201_rows(train, seed),
        "bits_of_a_cell": {name: cell_bits(space, seed) for name, space in SPACES.items()},
        "edge_accuracy_of_no_edges": {name: no_edges(space, seed) for name, space in SPACES.items()},
    }


@dataclass(frozen=True)
class Training:
    """Encoders of one seed and the CPU seconds their training took; kept ones are not trained again."""

    seed: int
    quick: bool
    keep: Path | None

    def __call__(self, space: Any, settings: EncoderSettings) -> tuple[Encoder, int]:
        settings = replace(settings, steps=20 if self.quick else settings.steps, held_out=HELD_OUT)
        if self.keep is None:
            return self.trained(space, settings)
        folder = self.keep / digest(space.fingerprint, to_dict(settings), self.seed)[:16]
        if not (folder / "train_s").exists():
            encoder, train_s = self.trained(space, settings)
            encoder.save(folder)
            (folder / "train_s").write_text(str(train_s), encoding="utf-8")
        return Encoder.load(folder, space), int((folder / "train_s").read_text(encoding="utf-8"))

    def trained(self, space: Any, settings: EncoderSettings) -> tuple[Encoder, int]:
        """A new one."""
        start = time.process_time()
        return train_encoder(space, settings, self.seed), round(time.process_time() - start)


def form_row(encoder: Encoder, name: str, space: CellSpace, seed: int) -> Row:
    """The report of one encoder on one space, and the mean of S_e after each number of edits."""
    figures = report(encoder, space, seed)
    after = {}
    for edits, (graphs, edited) in edited_graphs(space, seed).items():
        after[edits] = float((unit(encoder.embed(graphs)) * unit(encoder.embed(edited))).sum(1).mean())
    scores = Decoded(figures.edge_f1, figures.op_accuracy, figures.exact_rate, figures.bits)
    return row(label_of(encoder.settings), name, (figures.spearman_random, figures.spearman_edited), after, scores)


def baselines(name: str, space: CellSpace, seed: int) -> list[Row]:
    """Op histogram and PCA of the adjacency for similarity, and decoders that see no embedding."""
    graphs = draw(space, HELD_OUT // 2, stream(seed, 1))
    truth = pair_similarities(graphs, EncoderSettings())
    fresh = wl_order(space.sample_batch(FRESH, stream(seed, 4)))
    flat = fresh.dense.reshape(FRESH, -1).astype(np.float64)
    axes = np.linalg.eigh(np.cov(flat, rowvar=False))[1][:, -AXES:]
    vectors = (graphs.dense.reshape(len(graphs), -1) - flat.mean(0)) @ axes
    counts = np.stack([(graphs.codes == k).sum(1) for k in range(len(graphs.ops))], 1)
    falls = {}
    for edits, both in edited_graphs(space, seed).items():
        z, near = pair_similarities(concat(both), EncoderSettings())
        falls[edits] = float(z.multiply(near).sum(1).mean())
    return [
        row("WL similarity itself", name, (1.0, 1.0), falls),
        row("op histogram", name, rank_correlations(counts, *truth)),
        row(f"PCA-{AXES} of the adjacency", name, rank_correlations(vectors, *truth)),
        row("decoder: frequencies", name, scores=frequencies(fresh, graphs[: HELD_OUT // 2])),
        row("decoder: no edges", name) | {"edge_f1": 0.0, "exact_rate": 0.0},
    ]


def frequencies(fresh: GraphBatch, graphs: GraphBatch) -> Decoded:
    """The figures of a decoder that knows how frequent each op and each edge is at each place, and no more."""
    codes, found, valid = targets(fresh, pairs_of(fresh.width))
    ops = torch.nn.functional.one_hot(codes, len(fresh.ops) + 1).float().mean(0)
    share = (found.sum(0) / valid.sum(0).clamp_min(1)).clamp(1e-6, 1 - 1e-6)
    every = len(graphs)
    return judged(ops.clamp_min(1e-9).log().expand(every, -1, -1), share.logit().expand(every, -1), graphs)


def no_edges(space: CellSpace, seed: int) -> float:
    """Share of pairs of nodes that are no edge."""
    _, edges, valid = targets(space.sample_batch(FRESH, stream(seed, 4)), pairs_of(space.width))
    return round(1 - float(edges.sum() / valid.sum()), 3)


def curve_row(train: Training, nodes: int, dim: int, steps: int, seed: int) -> Row:
    """The MLP's decoder on cells of exactly so many nodes, trained on them without the WL term."""
    space = CellSpace(min_nodes=nodes, max_nodes=nodes)
    encoder, train_s = train(space, replace(NO_MLP, dim=dim, alpha=0.0, steps=steps))
    graphs = wl_order(space.sample_batch(HELD_OUT, stream(seed, 1)))
    blind = frequencies(wl_order(space.sample_batch(FRESH, stream(seed, 4))), graphs)
    found = decoded(encoder, graphs)
    click.echo((nodes, dim, steps, found), err=True)
    return {
        "nodes": nodes, "dim": dim, "steps": steps, **rounded(found), "frequencies_f1": round(blind.edge_f1, 3),
        "frequencies_bits": round(blind.bits, 1), "cell_bits": cell_bits(space, seed)["mean"], "train_s": train_s,
    }  # fmt: skip


def nasbench201_rows(train: Training, seed: int) -> list[Row]:
    """With and without the WL term."""
    return [nasbench201_row(train, replace(MLP, alpha=alpha), seed) for alpha in (MLP.alpha, 0.0)]


def nasbench201_row(train: Training, settings: EncoderSettings, seed: int) -> Row:
    """How many of all NAS-Bench-201 graphs, and of one graph of each structure, come back exactly."""
    space = NASBench201()
    encoder, train_s = train(space, settings)
    listings = space.all()
    graphs = space.batch(listings)
    first = {space.structure(listing): k for k, listing in reversed(list(enumerate(listings)))}
    different = wl.unique(wl.graph_hash(graphs))
    judged_on = {"graphs": different, "structures": np.array(sorted(first.values()))}
    exact = {name: decoded(encoder, graphs[rows]).exact_rate for name, rows in judged_on.items()}
    figures = report(encoder, space, seed)
    return {
        "form": settings.form, "alpha": settings.alpha, "steps": settings.steps,
        "random": round(figures.spearman_random, 3), "edited": round(figures.spearman_edited, 3),
        **{f"exact_of_{len(judged_on[name])}_{name}": round(share, 4) for name, share in exact.items()},
        "train_s": train_s, "dim": settings.dim, "waves": settings.waves,
    }  # fmt: skip


def cell_bits(space: CellSpace, seed: int, count: int = 64) -> Row:
    """-log2 of the probability that the sampler draws a cell in any order of its nodes: mean and deviation.

    A cell with symmetries costs up to log2 of their number more. No code of random cells can be shorter on average.
    """
    graphs = space.sample_batch(count, stream(seed, 5))
    sizes = math.log2(space.max_nodes - space.min_nodes + 1)
    bits = [sizes + order_free_bits(graphs, b, space) for b in range(count)]
    return {"mean": round(float(np.mean(bits)), 1), "std": round(float(np.std(bits)), 1)}


def order_free_bits(graphs: GraphBatch, b: int, space: CellSpace) -> float:
    """The same of one graph of known size: a sum over all orders, by sets of nodes that can be placed first."""
    size, rows = int(graphs.sizes[b]), [int(row) for row in graphs.adjacency[b]]
    chance = {1: 1.0}
    for j in range(1, size):
        more: dict[int, float] = {}
        for placed, p in chance.items():
            for v in range(1, size):
                if not placed >> v & 1 and not rows[v] & ~placed:
                    ways = min(space.max_in_degree, j) * math.comb(j, rows[v].bit_count()) * len(space.ops)
                    more[placed | 1 << v] = more.get(placed | 1 << v, 0.0) + p / ways
        chance = more
    return -math.log2(chance[(1 << size) - 1])


def edited_graphs(space: CellSpace, seed: int) -> dict[int, tuple[GraphBatch, GraphBatch]]:
    """Fresh graphs, and the same after each number of edits."""
    graphs = space.sample_batch(HELD_OUT // 2, stream(seed, 2))
    spaces = {edits: replace(space, min_edits=edits, max_edits=edits) for edits in EDITS}
    return {edits: (graphs, other.mutate_batch(graphs, stream(seed, 3))) for edits, other in spaces.items()}


def row(
    form: str, cells: str, correlations: tuple[float, float] | None = None, after: Mapping[int, float] | None = None,
    scores: Decoded | None = None,
) -> Row:  # fmt: skip
    """One line of the first table; what does not apply is None."""
    random, edited = correlations or (None, None)
    values = {"random": random, "edited": edited} | {f"after_{e}": after[e] if after else None for e in EDITS}
    values |= {name: None if value is None else round(value, 3) for name, value in values.items()}
    figures = rounded(scores) if scores else dict.fromkeys(Decoded._fields)
    return {"form": form, "cells": cells, **values, **figures, "train_s": None}


def rounded(scores: Decoded) -> Row:
    """The decoder's figures to three digits."""
    return {name: round(value, 3) for name, value in scores._asdict().items()}


def stream(seed: int, number: int) -> np.random.Generator:
    """One of the benchmark's own random streams; training has number 0 of the same seed."""
    return np.random.Generator(np.random.Philox(key=[seed, number]))


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


if __name__ == "__main__":
    main()
