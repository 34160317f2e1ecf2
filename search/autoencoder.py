"""Training of encoder and decoder on a stream of fresh random graphs.

| symbol | meaning                                                                       |
|--------|-------------------------------------------------------------------------------|
| S_g    | WL similarity of two graphs (search/wl.py)                                    |
| S_e    | cosine of their embeddings                                                    |
| L      | -log p(G; g) / N + alpha * mean over pairs of (S_e - S_g)^2                   |

Every step draws fresh graphs; half of the batch are random graphs, whose pairs are all compared,
the other half the same graphs after 1 to 8 random edits, compared with their origin, so that near
graphs are told apart and not only far ones. Both kinds of pairs weigh the same.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from gemnet.errors import TrainingError

from . import wl
from .encoders import BasisNet, Decoder, LabelNet, build_encoder
from .graphs import ABSENT, GraphBatch, concat
from .learning import EncoderSettings
from .ordering import wl_order
from .sketch import basis, matrix, sketch
from .waves import Waved

MIN_SLOPE = 0.01  # a calibrated cosine still has to rise with S_g
STEPS_AT_ONCE = 16  # batches drawn together: small numpy calls cost their overhead only once
OnStep = Callable[[int, float], None]


class GraphSource(Protocol):
    """What training needs of a search space."""

    @property
    def vocabulary(self) -> tuple[str, ...]: ...
    @property
    def width(self) -> int: ...
    def sample_batch(self, n: int, rng: np.random.Generator) -> GraphBatch: ...
    def mutate_batch(self, graphs: GraphBatch, rng: np.random.Generator) -> GraphBatch: ...


class Autoencoder(nn.Module):
    """Encoder and decoder for graphs of up to `num_nodes` nodes over `num_ops` ops."""

    def __init__(self, settings: EncoderSettings, num_ops: int, num_nodes: int) -> None:
        super().__init__()
        s = settings
        self.settings = settings
        self.encoder = build_encoder(s, num_ops, num_nodes)
        self.decoder = Decoder(num_ops, num_nodes, s.dim, s.decoder_width)

    def forward(self, graphs: GraphBatch) -> Tensor:
        s = self.settings
        if s.form == "wl":
            places, weights = sketch(graphs, s.h, s.directed, s.buckets)
            return self.encoder(torch.from_numpy(places), torch.from_numpy(weights))  # type: ignore[no-any-return]
        return self.encoder(*tensors(graphs))  # type: ignore[no-any-return]

    def begin(self, graphs: GraphBatch, rng: np.random.Generator) -> None:
        """Takes the directions in which a label network, or a map of waves, is trained from graphs."""
        s = self.settings
        if isinstance(self.encoder, LabelNet):
            z = matrix(*sketch(graphs, s.h, s.directed, s.buckets), len(self.encoder.table))
            self.encoder = BasisNet(torch.from_numpy(basis(z, s.axes * s.dim, rng)), s.dim)
        elif isinstance(self.encoder, Waved):
            blocks = (graphs[start : start + s.block] for start in range(0, len(graphs), s.block))
            waves = self.encoder.waves
            waves.begin(torch.cat([waves.vectors(*tensors(block)) for block in blocks]))

    def finish(self) -> None:
        """Ends a label network's training."""
        if isinstance(self.encoder, BasisNet):
            self.encoder = self.encoder.folded()


def tensors(graphs: GraphBatch) -> tuple[Tensor, Tensor, Tensor]:
    """One-hot ops [B, N, ops], adjacency [B, N, N] and mask [B, N], float32."""
    codes = torch.from_numpy(graphs.codes)
    x = (codes[:, :, None] == torch.arange(len(graphs.ops), dtype=torch.uint8)).float()
    return x, torch.from_numpy(graphs.dense).float(), torch.from_numpy(graphs.present).float()


def reconstruction(model: Autoencoder, g: Tensor, graphs: GraphBatch) -> Tensor:
    """`log_loss` of a model's decoder."""
    op_logits, edge_logits = model.decoder(g)
    return log_loss(op_logits, edge_logits, *targets(graphs, model.decoder.pairs))


def log_loss(op_logits: Tensor, edge_logits: Tensor, codes: Tensor, edges: Tensor, valid: Tensor) -> Tensor:
    """-log p(G; g) / N, the mean over graphs: nats per node place, "absent" being one more op.

    Taken as one likelihood, the N(N-1)/2 edges weigh about N/2 times what their mean would.
    """
    edge_nats = nn.functional.binary_cross_entropy_with_logits(edge_logits, edges, valid.float(), reduction="sum")
    op_nats = nn.functional.cross_entropy(op_logits.flatten(0, 1), codes.flatten(), reduction="sum")
    return (edge_nats + op_nats) / codes.numel()


def targets(graphs: GraphBatch, pairs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Op classes [B, N], edges of the pairs [B, P] and whether both of a pair's nodes exist [B, P]."""
    codes = torch.from_numpy(np.where(graphs.codes == ABSENT, len(graphs.ops), graphs.codes).astype(np.int64))
    edges = torch.from_numpy(graphs.dense)[:, pairs[1], pairs[0]].float()
    return codes, edges, torch.from_numpy(graphs.present)[:, pairs[1]]


def similarity_loss(g: Tensor, random: Tensor, edited: Tensor, calibrate: bool = True) -> Tensor:
    """Mean of (S_e - S_g)^2: half over pairs of the first half of g, half over (G, edited G).

    Calibrated, it is (a S_e + b - S_g)^2 over the variance of S_g of either half, a and b being the
    least-squares fit of the batch. What only ranks pairs is then free in scale: an uncalibrated
    cosine has to fall from 1 to .4 within a few edits, and 64 numbers can do so only like noise.

    Args:
        g: embeddings of n graphs, then of their edits [2 n, p].
        random: S_g of all pairs of the graphs [n, n].
        edited: S_g of each graph and its edit [n].
        calibrate: whether a and b are fitted, or 1 and 0.
    """
    n = len(g) // 2
    i, j = torch.triu_indices(n, n, offset=1)
    unit = nn.functional.normalize(g, dim=1)
    got = torch.cat([(unit[:n] @ unit[:n].T)[i, j], (unit[:n] * unit[n:]).sum(1)])
    want = torch.cat([random[i, j], edited])
    weight = torch.cat([torch.full((len(i),), 0.5 / len(i)), torch.full((n,), 0.5 / n)])
    if not calibrate:
        return (weight * (got - want).square()).sum()
    spread = torch.cat([random[i, j].var().expand(len(i)), edited.var().expand(n)]).clamp_min(1e-8)
    weight = weight / spread
    share = weight / weight.sum()
    x, y = got - (share * got).sum(), want - (share * want).sum()
    slope = ((weight * x * y).sum() / (weight * x * x).sum().clamp_min(1e-12)).clamp_min(MIN_SLOPE)
    return (weight * (slope * x - y).square()).sum()


def pair_similarities(graphs: GraphBatch, settings: EncoderSettings) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """z of the first half of a batch and of the second, whose inner products are S_g."""
    z = wl.scaled(wl.features(graphs, settings.h, settings.directed), settings.similarity)
    half = len(graphs) // 2
    return z[:half], z[half:]


def train_autoencoder(
    space: GraphSource, settings: EncoderSettings, seed: int, on_step: OnStep | None = None,
    budget_s: float | None = None,
) -> Autoencoder:  # fmt: skip
    """An autoencoder trained for `settings.steps` steps, the same for the same seed.

    Args:
        space: where graphs come from.
        settings: see EncoderSettings.
        seed: of the weights and the graphs.
        on_step: called after each step with its number, from 1, and its loss.
        budget_s: for comparisons at equal time: the cosine decay follows the clock and ends here.

    Raises:
        TrainingError: the loss became infinite or not a number.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Autoencoder(settings, len(space.vocabulary), space.width)
    model.begin(space.sample_batch(settings.warm_start, rng), rng)
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.lr)
    stream = _stream(space, settings, rng)
    start = time.perf_counter()
    for step in range(settings.steps):
        done = step / settings.steps if budget_s is None else (time.perf_counter() - start) / budget_s
        if done >= 1:
            break
        optimiser.param_groups[0]["lr"] = settings.lr * (1 + math.cos(math.pi * done)) / 2
        graphs, random, edited = next(stream)
        g = model(graphs)
        loss = reconstruction(model, g, graphs)
        loss = loss + settings.alpha * similarity_loss(g, random, edited, settings.calibrate)
        if not math.isfinite(loss.item()):
            raise TrainingError(f"the encoder's loss became {loss.item()} at step {step + 1}; lower encoder.lr")
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if on_step is not None:
            on_step(step + 1, loss.item())
    model.finish()
    return model.eval()


def _stream(
    space: GraphSource, settings: EncoderSettings, rng: np.random.Generator
) -> Iterator[tuple[GraphBatch, Tensor, Tensor]]:
    """Fresh batches for ever: graphs and their edits, S_g of the graphs' pairs, S_g of each with its edit."""
    n = settings.batch_size // 2
    while True:
        graphs = draw(space, n * STEPS_AT_ONCE, rng)
        z, near = pair_similarities(graphs, settings)
        edited = torch.from_numpy(np.asarray(z.multiply(near).sum(1)).reshape(-1)).float()
        for start in range(0, len(graphs) // 2, n):
            rows = np.arange(start, start + n)
            random = torch.from_numpy((z[rows] @ z[rows].T).toarray()).float()
            yield graphs[np.concatenate([rows, rows + len(graphs) // 2])], random, edited[rows]


def draw(space: GraphSource, n: int, rng: np.random.Generator) -> GraphBatch:
    """n fresh random graphs followed by the same n after random edits, nodes in WL order [2 n]."""
    graphs = space.sample_batch(n, rng)
    return wl_order(concat([graphs, space.mutate_batch(graphs, rng)]))
