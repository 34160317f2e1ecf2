"""The networks of the autoencoder: three encoders and the decoder.

| symbol | meaning                                                              | shape            |
|--------|----------------------------------------------------------------------|------------------|
| x      | op of each node, one-hot; absent nodes are 0                         | [B, N, ops]      |
| a      | adjacency: a[b, j, i] = 1 for edge i -> j                            | [B, N, N]        |
| mask   | 1 for the nodes a graph has                                          | [B, N]           |
| p, w   | places and weights of WL labels (search/sketch.py)                   | [B, (h + 1) N]   |
| g      | embedding                                                            | [B, p]           |

The label network and the graph network do not depend on the order of the nodes; the MLP and the
decoder see the order of the batch, which is that of `wl_order`. Trained from noise, neither the graph
network nor the MLP comes near S_g; both start from waves (search/waves.py) and add to them.
"""

import warnings

import torch
from torch import Tensor, nn

from .learning import EncoderSettings
from .sketch import table_size
from .waves import Waved, Waves

START_BIAS = 0.5  # of a label network: half of what all its graphs have in common
NET_SHARE = {"graph": 0.1, "mlp": 1.0}  # the graph network's read-out is standardised, ten times the MLP's layers


class LabelNet(nn.Module):
    """g = b + sum over nodes and rounds of w W[p], W and b trained: fixed message passing, a learned read-out.

    WL's relabelling tells apart what trained layers of any affordable width blur, and is much faster.
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(size, dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, places: Tensor, weights: Tensor) -> Tensor:
        return self.bias + nn.functional.embedding_bag(places, self.table, per_sample_weights=weights, mode="sum")


class BasisNet(nn.Module):
    """A label network while it is trained: W = basis M [size, dim], only M and b trained.

    Trained freely, the many rows of rare labels drown what the common ones say in their own noise.

    Args:
        basis: fixed directions [size, k]; the first `dim` are where M starts from.
        dim: p.
    """

    def __init__(self, basis: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("basis", basis)
        self.basis: Tensor
        self.mixing = nn.Parameter(torch.eye(basis.shape[1], dim))
        self.bias = nn.Parameter(torch.eye(1, dim)[0] * START_BIAS)

    def forward(self, places: Tensor, weights: Tensor) -> Tensor:
        bag = nn.functional.embedding_bag(places, self.basis, per_sample_weights=weights, mode="sum")
        return bag @ self.mixing + self.bias

    def folded(self) -> LabelNet:
        """The same map as one table."""
        table = (self.basis @ self.mixing).detach()
        made = LabelNet(*table.shape)
        made.table.data, made.bias.data = table, self.bias.detach().clone()
        return made


class GraphLayer(nn.Module):
    """M(relu(W_0 x + W_1 sum of predecessors + W_2 sum of successors)) [B, N, out_chs], M one more layer per node.

    WL labels are sharp functions of neighbour counts; without M the read-out's rank correlation stays near .69.
    """

    def __init__(self, in_chs: int, out_chs: int) -> None:
        super().__init__()
        with warnings.catch_warnings():  # torch-geometric 2.8 scripts a class when imported, which torch has deprecated
            warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
            from torch_geometric.nn.dense import DenseGINConv, DenseGraphConv  # 2 s and 160 MB: only where needed
        self.backward_conv = DenseGraphConv(in_chs, out_chs)
        self.forward_conv = DenseGINConv(nn.Linear(in_chs, out_chs, bias=False))
        self.mix = nn.Linear(out_chs, out_chs)

    def forward(self, x: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        below = self.backward_conv(x, a, mask)
        above = self.forward_conv(x, a.transpose(1, 2), mask, add_loop=False)
        return torch.relu(self.mix(torch.relu(below + above))) * mask[:, :, None]


class GraphNet(nn.Module):
    """Bidirectional graph network; masked sum and max of every layer's nodes, mapped to [B, dim].

    A read-out per layer mirrors S_g, the mean of one cosine per round of labels.
    """

    def __init__(self, num_ops: int, num_nodes: int, dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GraphLayer(num_ops if k == 0 else width, width) for k in range(depth))
        size = 2 * (num_ops + depth * width)
        self.readout = nn.Sequential(nn.BatchNorm1d(size, affine=False), nn.Linear(size, dim))
        self.scale = 1 / num_nodes

    def forward(self, x: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        parts = [x.sum(1) * self.scale, x.amax(1)]
        for layer in self.layers:
            x = layer(x, a, mask)
            parts += [x.sum(1) * self.scale, x.amax(1)]  # relu's outputs are >= 0, so absent nodes' 0 is neutral
        return self.readout(torch.cat(parts, 1))  # type: ignore[no-any-return]


class FlatNet(nn.Module):
    """MLP on the flattened upper triangle and the ops, [B, N(N-1)/2 + N ops] -> 256 -> 256 -> [B, dim]."""

    def __init__(self, num_ops: int, num_nodes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("pairs", pairs_of(num_nodes), persistent=False)
        self.pairs: Tensor
        size = num_nodes * (num_nodes - 1) // 2 + num_nodes * num_ops
        self.layers = nn.Sequential(
            nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, dim)
        )  # fmt: skip

    def forward(self, x: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        edges = a[:, self.pairs[1], self.pairs[0]]
        return self.layers(torch.cat([edges, x.flatten(1)], 1))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """MLP from a standardised embedding to logits of every node's op, "absent" last, and of every edge i < j.

    Returns op logits [B, N, ops + 1] and edge logits [B, N(N-1)/2], pairs ordered as in `pairs`.
    """

    def __init__(self, num_ops: int, num_nodes: int, dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pairs", pairs_of(num_nodes), persistent=False)
        self.pairs: Tensor
        standard = nn.BatchNorm1d(dim, affine=False)  # without it the small numbers of a label network are hardly read
        self.trunk = nn.Sequential(standard, nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.ops = nn.Linear(width, num_nodes * (num_ops + 1))
        self.edges = nn.Linear(width, num_nodes * (num_nodes - 1) // 2)
        self.shape = (num_nodes, num_ops + 1)

    def forward(self, g: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(g)
        return self.ops(hidden).view(-1, *self.shape), self.edges(hidden)


def build_encoder(settings: EncoderSettings, num_ops: int, num_nodes: int) -> nn.Module:
    """The encoder of the settings' form."""
    s = settings
    if s.form == "wl":
        return LabelNet(table_size(num_ops, s.h, s.buckets), s.dim)
    net: nn.Module
    if s.form == "graph":
        net = GraphNet(num_ops, num_nodes, s.dim, s.width, s.depth)
    else:
        net = FlatNet(num_ops, num_nodes, s.dim)
    return Waved(Waves(num_ops, s.waves, s.dim, s.directed), net, NET_SHARE[s.form]) if s.waves else net


def pairs_of(num_nodes: int) -> Tensor:
    """All (i, j) with i < j [2, N(N-1)/2]."""
    return torch.triu_indices(num_nodes, num_nodes, offset=1)
