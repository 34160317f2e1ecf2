"""GemNet: an image network made of one cell, stacked (its parts are in `gemnet.blocks`)."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from timm.layers import ClassifierHead, ConvNormAct, calculate_drop_path_rates
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from .blocks import GemStage, create_pool
from .cell import Cell
from .config import NetConfig, resolve_cells
from .errors import ConfigError

OUTPUT_STRIDES = (1, 2, 4, 8, 16, 32)


class GemNet(nn.Module):
    """Image classifier built from cells.

    Args:
        cells: one cell for all stages, or one per stage.
        net: depths, widths, strides, merge.
        num_classes: size of the classifier; 0 leaves it out.
        in_chans: channels of the images.
        global_pool: timm pooling name (`avg`, `max`, ..., `""` for none).
        output_stride: reduction of the last features at most; stages beyond it keep their resolution and
            widen their windows instead, so that the same weights compute the same at more positions.
        drop_rate: dropout in front of the classifier.
        drop_path_rate: stochastic depth at the last cell, rising linearly from 0 at the first.
        act_layer, norm_layer, device, dtype: as in timm.

    Raises:
        GemnetError: cells and net do not fit (see `gemnet.config.resolve_cells`), or an output stride that is none.
    """

    __jit_unused_properties__ = ("_model_args",)

    def __init__(
        self, cells: Cell | Sequence[Cell], net: NetConfig, num_classes: int = 1000, in_chans: int = 3,
        global_pool: str = "avg", output_stride: int = 32, drop_rate: float = 0.0, drop_path_rate: float = 0.0,
        act_layer: Any = nn.ReLU, norm_layer: Any = nn.BatchNorm2d, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._arguments: dict[str, Any] = {}
        if output_stride not in OUTPUT_STRIDES or output_stride < net.stem_stride:
            allowed = ", ".join(str(stride) for stride in OUTPUT_STRIDES if stride >= net.stem_stride)
            raise ConfigError(f"output_stride must be one of {allowed}, got {output_stride!r}")
        factory = {"device": device, "dtype": dtype}
        layers = {"act_layer": act_layer, "norm_layer": norm_layer, **factory}
        self.cells, self.net = resolve_cells(cells, net), net
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.stem = ConvNormAct(in_chans, net.stem_chs, 3, stride=net.stem_stride, **layers)
        reduction, dilation, chs = net.stem_stride, 1, net.stem_chs
        info: list[dict[str, Any]] = [{"num_chs": chs, "reduction": reduction, "module": "stem"}]
        depths = [stage.depth for stage in net.stages]
        rates: Any = calculate_drop_path_rates(drop_path_rate, depths, stagewise=True)
        parts: dict[str, nn.Module] = {}
        for k, (cell, stage) in enumerate(zip(self.cells, net.stages)):
            dense = stage.stride > 1 and reduction * stage.stride > output_stride
            parts[f"pool{k}"] = create_pool(stage.stride, dense, dilation)
            dilation *= stage.stride if dense else 1
            parts[str(k)] = GemStage(cell, stage, chs, net, rates[k], dilation, **layers)
            reduction *= 1 if dense else stage.stride
            chs = stage.out_chs
            info.append({"num_chs": chs, "reduction": reduction, "module": f"stages.{k}"})
        self.stages, self.feature_info = nn.Sequential(OrderedDict(parts)), info
        self.conv_head: nn.Module = ConvNormAct(chs, net.head_chs, 1, **layers)
        self.num_features = net.head_chs
        self.head = ClassifierHead(net.head_chs, num_classes, pool_type=global_pool, drop_rate=drop_rate, **factory)
        self.head_hidden_size = self._count_pooled()
        self.init_weights()

    def init_weights(self) -> None:
        """Draws all weights: He normal over the fan-out per group for convolutions, N(0, 0.01) for the classifier.

        On the meta device nothing is drawn; call it again behind `to_empty`.
        """
        if self.stem.conv.weight.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2.0 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]

    @property
    def _model_args(self) -> dict[str, Any]:
        """What timm's savers write so that the model can be rebuilt: cell and network themselves, never a name."""
        cells = [cell.to_dict() for cell in (self.cells if len(set(self.cells)) > 1 else self.cells[:1])]
        return {**self._arguments, "cell": cells if len(cells) > 1 else cells[0], "net": self.net.to_dict()}

    @_model_args.setter
    def _model_args(self, arguments: dict[str, Any]) -> None:
        self._arguments = dict(arguments)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Patterns that put parameters into layer groups, by stage or (fine) by cell."""
        return {"stem": r"^stem", "blocks": r"^stages\.(\d+)" if coarse else r"^stages\.(\d+)\.(\d+)"}

    def no_weight_decay(self) -> set[str]:
        """Names of parameters of two or more dimensions that weight decay must leave alone: none."""
        return set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Switches recomputation of cells in the backward pass on or off."""
        for stage in self.stages[1::2]:
            assert isinstance(stage, GemStage)
            stage.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """The last linear layer."""
        classifier: nn.Module = self.head.fc
        return classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts a new classifier of `num_classes` outputs in place, with another pooling if one is named."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)
        weight = self.stem.conv.weight
        self.head.to(weight.device, weight.dtype)  # a head without a classifier does not know its own
        self.head_hidden_size = self._count_pooled()

    def forward_intermediates(
        self, x: Tensor, indices: int | list[int] | None = None, norm: bool = False,
        stop_early: bool = False, output_fmt: str = "NCHW", intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:  # fmt: skip
        """Features behind the stem and each stage, as timm's method of this name gives them.

        Args:
            x: images [N, in_chans, H, W].
            indices: which of the features; the last n for a number, all for None.
            norm: accepted for timm's sake; there is no final norm to apply.
            stop_early: whether to leave out the stages behind the last one asked for.
            output_fmt: only `NCHW`.
            intermediates_only: whether to return the features alone.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt}")
        take, last = feature_take_indices(len(self.stages) // 2 + 1, indices)  # each stage has a pool in front
        intermediates = []
        x = self.stem(x)
        if 0 in take:
            intermediates.append(x)
        for k, layer in enumerate(self.stages, start=1):
            if not stop_early or k <= 2 * last:
                x = layer(x)
                if k % 2 == 0 and k // 2 in take:
                    intermediates.append(x)
        if intermediates_only:
            return intermediates
        if not stop_early or 2 * last == len(self.stages):
            x = self.conv_head(x)
        return x, intermediates

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drops the layers that the features of `indices` do not need; returns the kept indices.

        The head fits the last stage only, so it goes with that stage even where `prune_head` is False.
        """
        take, last = feature_take_indices(len(self.stages) // 2 + 1, indices)
        if 2 * last < len(self.stages) or prune_head:
            self.stages = self.stages[: 2 * last]
            self.conv_head = nn.Identity()
            self.num_features = self.feature_info[last]["num_chs"]
            self.head = ClassifierHead(self.num_features, 0, pool_type="", drop_rate=self.drop_rate)
            self.head.train(self.training)
            self.num_classes, self.head_hidden_size = 0, self.num_features
        return list(take)

    def forward_features(self, x: Tensor) -> Tensor:
        """Features in front of the pooling: [N, num_features, H / 32, W / 32] at stride 32."""
        x = self.stem(x)
        for layer in self.stages:  # one by one, so that what a pool read is freed
            x = layer(x)
        return self.conv_head(x)  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits [N, num_classes] of features, or what the classifier would read."""
        return self.head(x, pre_logits=pre_logits)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, in_chans, H, W]."""
        return self.forward_head(self.forward_features(x))

    def _count_pooled(self) -> int:
        """Channels that the classifier reads; some poolings concatenate two."""
        return int(self.num_features * self.head.global_pool.feat_mult())
