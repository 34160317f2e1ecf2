"""Waves: vectors that tell nodes of different neighbourhoods apart before anything is trained.

| symbol | meaning                                                                             | shape       |
|--------|-------------------------------------------------------------------------------------|-------------|
| u(v)   | v's op, one-hot, and how many of its neighbours have each op: v's label of round 1  | [B, N, k]   |
| f, c   | frequencies and phases, spread evenly over [-pi, pi)^k and [0, 2 pi)                | [k, D], [D] |
| r(G)   | sum over nodes v of cos(u(v) f + c)                                                 | [B, D]      |

The mean over all frequencies and phases of 2 cos(u f + c) cos(w f + c) is 1 for equal vectors of whole
numbers and 0 for others, so 2 / D <r(G), r(H)> estimates the WL kernel's k_1(G, H) (after Rahimi and Recht,
"Random features for large-scale kernel machines", 2007). Sobol's points, spread more evenly than random
ones, nearly halve how many it takes. Rounds 0 and 1 alone rank pairs of 30-node cells as all four rounds do to
Spearman's .999, cells and their edits to .96: nearly every label of round 2 is one graph's alone.
"""

import math

import torch
from torch import Tensor, nn


class Waves(nn.Module):
    """Rounds 0 and 1 of labels as vectors whose cosine is S_g's share of them, mapped to [B, dim].

    The map starts from the principal axes of graphs' vectors (`begin`) and is trained along them.

    Args:
        num_ops: ops of the vocabulary.
        count: D.
        dim: p.
        directed: whether predecessors and successors are counted apart.
    """

    def __init__(self, num_ops: int, count: int, dim: int, directed: bool) -> None:
        super().__init__()
        size = (3 if directed else 2) * num_ops
        spread = torch.quasirandom.SobolEngine(size + 1, scramble=True, seed=0).draw(count)  # type: ignore[no-untyped-call]
        self.register_buffer("frequencies", math.pi * (2 * spread[:, :size].T - 1))
        self.register_buffer("phases", 2 * math.pi * spread[:, size])
        self.register_buffer("axes", torch.eye(num_ops + count))
        self.frequencies: Tensor
        self.phases: Tensor
        self.axes: Tensor
        self.mixing = nn.Parameter(torch.eye(num_ops + count, dim))
        self.bias = nn.Parameter(torch.zeros(dim))
        self.directed = directed

    def forward(self, x: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        return self.vectors(x, a, mask) @ self.axes @ self.mixing + self.bias

    @torch.no_grad()
    def vectors(self, x: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        """Op counts and r, each of length 1 [B, num_ops + D]."""
        above = a.transpose(1, 2)
        around = [a @ x, above @ x] if self.directed else [(a + above) @ x]
        waves = (torch.cat([x, *around], 2) @ self.frequencies).add_(self.phases).cos_()
        parts = x.sum(1), (mask[:, None] @ waves)[:, 0]
        return torch.cat([nn.functional.normalize(part, dim=1) for part in parts], 1)

    @torch.no_grad()
    def begin(self, vectors: Tensor) -> None:
        """Takes the principal axes of vectors, those of most weight first."""
        self.axes.copy_(torch.linalg.eigh((vectors.T @ vectors).double())[1].flip(1))


class Waved(nn.Module):
    """g = waves + share * net: a network that starts from WL similarity and learns what the waves leave out.

    Args:
        waves: see Waves.
        net: a network of the same arguments; its last linear layer is set to 0.
        share: what the net's output is multiplied by, which slows its training down.
    """

    def __init__(self, waves: Waves, net: nn.Module, share: float) -> None:
        super().__init__()
        self.waves, self.net, self.share = waves, net, share
        *_, last = (layer for layer in net.modules() if isinstance(layer, nn.Linear))
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor, a: Tensor, mask: Tensor) -> Tensor:
        return self.waves(x, a, mask) + self.share * self.net(x, a, mask)  # type: ignore[no-any-return]
