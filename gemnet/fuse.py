"""A GemNet rewritten for inference: other operations, the same outputs.

    fused = gemnet.fuse.fuse(model)         # an ordinary module in eval mode
    fused = fuse(model, Plan.from_dict(json.load(file)))

Batch norms are always folded and identities and dead branches dropped. What else is done is a `Plan`, plain
JSON that can be stored and replayed: which rewrites pay depends on the runtime. The defaults are those that did
on ONNX Runtime (`benchmarks/fuse.py`, figures in `zoo/results/fuse.json`); `gemnet.export.plan.choose_plan`
measures anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx

from . import settings
from .errors import ConfigError, UsageError
from .fold import fold_batch_norm
from .network import GemNet
from .rewrites import drop_identities, drop_zeros, merge_siblings, share_sums, split_concat

SCHEMA = "gemnet.plan/1"


@dataclass(frozen=True)
class Plan:
    """Which rewrites are made.

    Args:
        share_sums: what several sums have in common is added up once.
        split_concat: a 1x1 convolution of concatenated maps becomes a sum of 1x1 convolutions of each, so that
            nothing is copied.
        merge_pointwise: 1x1 convolutions of the same map become one, whose output is split.
        merge_depthwise: the same for depthwise ones; the map is repeated in front.
    """

    share_sums: bool = True
    split_concat: bool = True
    merge_pointwise: bool = False
    merge_depthwise: bool = False

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The plan a JSON object gives; raises ConfigError or UnknownNameError."""
        if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
            raise ConfigError(f"a plan is a JSON object of schema {SCHEMA!r}, got {data!r:.60}")
        return settings.from_dict(cls, {name: data[name] for name in data if name != "schema"}, "plan")

    def to_dict(self) -> dict[str, Any]:
        """A JSON object from which `from_dict` gives an equal plan."""
        return {"schema": SCHEMA, **settings.to_dict(self)}


def fuse(model: GemNet, plan: Plan | None = None) -> fx.GraphModule:
    """A copy of the model for inference: [N, in_chans, H, W] to [N, num_classes], equal but for rounding.

    Args:
        model: in any mode; it is not changed.
        plan: what to rewrite; the same plan gives the same module.

    Raises:
        UsageError: not a GemNet, such as a wrapper that gives features.
    """
    if not isinstance(model, GemNet):
        raise UsageError(f"only a GemNet can be fused, got a {type(model).__name__}; fuse it before wrapping it")
    plan = plan or Plan()
    fused = fx.symbolic_trace(fold_batch_norm(model))
    drop_identities(fused)
    if plan.split_concat:
        split_concat(fused)
    drop_zeros(fused)
    if plan.share_sums:
        share_sums(fused)
    if plan.merge_pointwise:
        merge_siblings(fused, depthwise=False)
    if plan.merge_depthwise:
        merge_siblings(fused, depthwise=True)
    fused.graph.eliminate_dead_code()
    fused.delete_all_unused_submodules()
    fused.graph.lint()
    fused.recompile()
    return fused.eval()
