"""The networks of the autoencoder: two encoders and the decoder.

| symbol | meaning                                                              | shape            |
|--------|----------------------------------------------------------------------|------------------|
| x      | op of each node, one-hot; absent nodes are 0                         | [B, N, ops]      |
| a      | adjacency: a[b, j, i] = 1 for edge i -> j                            | [B, N, N]        |
| mask   | 1 for the nodes a graph has                                          | [B, N]           |
| g      | embedding                                                            | [B, p]           |

The graph network does not depend on the order of the nodes; the MLP and the decoder see the order
of the batch.
"""

import warnings

import torch
from torch import Tensor, nn

from gemnet.errors import UnknownNameError

with warnings.catch_warnings():  # torch-geometric 2.8 scripts a class when imported, which torch has deprecated
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*")
    from torch_geometric.nn.dense import DenseGINConv, DenseGraphConv


class GraphLayer(nn.Module):
    """M(relu(W_0 x + W_1 sum of predecessors + W_2 sum of successors)) [B, N, out_chs], M one more layer per node.

    WL labels are sharp functions of neighbour counts; without M the read-out's rank correlation stays near .69.
    """

    def __init__(self, in_chs: int, out_chs: int) -> None:
        super().__init__()
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
    """MLP on the flattened upper triangle and the ops, [B, N(N-1)/2 + N ops] -> 256 -> 128 -> [B, dim]."""

    def __init__(self, num_ops: int, num_nodes: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("pairs", _pairs(num_nodes), persistent=False)
        self.pairs: Tensor
        size = num_nodes * (num_nodes - 1) // 2 + num_nodes * num_ops
        self.layers = nn.Sequential(
            nn.Linear(size, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, dim)
        )  # fmt: skip

    def forward(self, x: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        edges = a[:, self.pairs[1], self.pairs[0]]
        return self.layers(torch.cat([edges, x.flatten(1)], 1))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """MLP from an embedding to logits of every node's op, "absent" last, and of every edge i < j.

    Returns op logits [B, N, ops + 1] and edge logits [B, N(N-1)/2], pairs ordered as in `pairs`.
    """

    def __init__(self, num_ops: int, num_nodes: int, dim: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pairs", _pairs(num_nodes), persistent=False)
        self.pairs: Tensor
        self.trunk = nn.Sequential(nn.Linear(dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.ops = nn.Linear(width, num_nodes * (num_ops + 1))
        self.edges = nn.Linear(width, num_nodes * (num_nodes - 1) // 2)
        self.shape = (num_nodes, num_ops + 1)

    def forward(self, g: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.trunk(g)
        return self.ops(hidden).view(-1, *self.shape), self.edges(hidden)


def build_encoder(form: str, num_ops: int, num_nodes: int, dim: int, layers: tuple[int, int]) -> nn.Module:
    """The encoder of a form, `"graph"` (of `layers` = width, depth) or `"mlp"`; raises UnknownNameError for another."""
    if form == "graph":
        return GraphNet(num_ops, num_nodes, dim, *layers)
    if form == "mlp":
        return FlatNet(num_ops, num_nodes, dim)
    raise UnknownNameError("encoder form", form, ("graph", "mlp"))


def _pairs(num_nodes: int) -> Tensor:
    """All (i, j) with i < j [2, N(N-1)/2]."""
    return torch.triu_indices(num_nodes, num_nodes, offset=1)
