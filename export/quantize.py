"""ONNX files in 8-bit integers, with the settings and exceptions that keep the accuracy."""

import io
import logging
import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quant_pre_process,
    quantize_static,
)

from gemnet.errors import ExportError

from .form import INPUT, OUTPUT
from .onnx import strip
from .parity import Array
from .verify import LIMITS, Limits, run, session

METHODS: dict[str, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "mean of minmax": (CalibrationMethod.MinMax, {"CalibMovingAverage": True}),
    "percentile 99.99": (CalibrationMethod.Percentile, {"CalibPercentile": 99.99}),
    "percentile 99.9": (CalibrationMethod.Percentile, {"CalibPercentile": 99.9}),
}  # entropy is not among them: with the quantiser's fixed 128 bins its ranges were those of minmax
KEEP = {"QDQKeepRemovableActivations": True}  # else a node in floats would read what no ReLU has cut off
BATCH = 16
LOOKED_AT = 32  # images that a node's sensitivity is measured on
WEIGHTED = ("Conv", "Gemm")


@dataclass(frozen=True)
class Setting:
    """How a network is quantised.

    Args:
        method: key of `METHODS`: how the range of a tensor is taken from its values.
        per_channel: a scale for each output channel of a weight, or one for all.
        reduce_range: weights in 7 bits, for processors whose 8-bit products overflow.
    """

    method: str = "minmax"
    per_channel: bool = True
    reduce_range: bool = False


@dataclass(frozen=True)
class Trial:
    """A quantised network that was tried.

    Args:
        setting: how.
        excluded: names of the nodes that stayed in floats.
        noise: squared error of the logits on the calibration images, divided by their variance; nan before it is tried.
        drop: accuracy lost on the real images; None when they were not looked at.
        agreement: share of them on which the model's class was chosen; likewise.
    """

    setting: Setting
    excluded: tuple[str, ...]
    noise: float = math.nan
    drop: float | None = None
    agreement: float | None = None


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Gives images [N, *] to ONNX Runtime's calibration, a batch at a time."""

    def __init__(self, images: Array) -> None:
        step = BATCH
        self.batches = iter([{INPUT: images[k : k + step]} for k in range(0, len(images), step)])

    def get_next(self) -> dict[str, Array] | None:
        """The next batch, None at the end."""
        return next(self.batches, None)


def quantize(
    proto: onnx.ModelProto, calibration: Array, judge: Callable[[Path], tuple[float, float]],
    limits: Limits = LIMITS["int8"], start: Trial | None = None,
) -> tuple[onnx.ModelProto, list[Trial]]:  # fmt: skip
    """The quantised model and all that was tried; the last one is it.

    The setting is taken whose logits are nearest on the calibration images. While it loses too much accuracy or
    changes too many answers, the nodes most sensitive to quantisation stay in floats: one, two, four and so on.

    Args:
        proto: a float32 model.
        calibration: images as the model takes them.
        judge: the accuracy that a file loses on real images, and the share of them on which it agrees.
        limits: for both.
        start: what held for this network before; nothing is searched when it holds again.

    Raises:
        ExportError: the limits cannot be held with half of the nodes in floats.
    """
    trials: list[Trial] = []

    def holds(setting: Setting, excluded: tuple[str, ...]) -> bool:
        noise = workshop.write(setting, excluded)
        drop, agreement = judge(workshop.file)
        trials.append(Trial(setting, excluded, noise, drop, agreement))
        return drop <= limits.drop and agreement >= limits.agreement

    with tempfile.TemporaryDirectory() as place, _quiet():
        workshop = _Workshop(Path(place), proto, calibration)
        if start is not None and holds(start.setting, start.excluded):
            return _cleaned(workshop.file), trials
        best, tried = workshop.choose()
        trials += tried
        nodes: list[str] = []
        for count in (0, *(2**k for k in range(12))):
            if count == 1:
                nodes = workshop.by_sensitivity()
            if count > len(nodes) / 2:
                break
            if holds(best, tuple(nodes[:count])):
                return _cleaned(workshop.file), trials
    raise ExportError(_why(trials[-1], len(nodes), limits))


def _why(last: Trial, nodes: int, limits: Limits) -> str:
    lost, same = 100 * (last.drop or 0), 100 * (last.agreement or 0)
    return (
        f"{OUTPUT!r} of model.int8.onnx: {lost:.1f} % accuracy lost and {same:.1f} % of the answers kept on real "
        f"images with {len(last.excluded)} of {nodes} nodes in floats; allowed are at most {100 * limits.drop:.1f} % "
        f"lost and at least {100 * limits.agreement:.1f} % kept; {limits.remedy}"
    )


class _Workshop:
    """A folder in which a model is quantised again and again, always to `file`."""

    def __init__(self, folder: Path, proto: onnx.ModelProto, calibration: Array) -> None:
        plain, self.ready, self.file = folder / "plain.onnx", folder / "ready.onnx", folder / "int8.onnx"
        onnx.save(proto, plain)
        quant_pre_process(plain, self.ready, skip_symbolic_shape=True)
        self.calibration, self.want = calibration, run(session(plain), calibration)

    def choose(self) -> tuple[Setting, list[Trial]]:
        """The best setting, and all that were tried: first the methods, then the widths of the scales."""
        trials = [self._try(Setting(method)) for method in METHODS]
        method = min(trials, key=lambda trial: trial.noise).setting.method
        widths = ((True, True), (False, False), (False, True))
        trials += [self._try(Setting(method, per_channel, reduce)) for per_channel, reduce in widths]
        return min(trials, key=lambda trial: trial.noise).setting, trials

    def write(self, setting: Setting, excluded: tuple[str, ...] = ()) -> float:
        """The noise of the logits after quantising with a setting and nodes left in floats."""
        method, options = METHODS[setting.method]
        quantize_static(
            self.ready, self.file, _Reader(self.calibration), per_channel=setting.per_channel,
            reduce_range=setting.reduce_range, calibrate_method=method, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, nodes_to_exclude=list(excluded), extra_options=KEEP | options,
        )  # fmt: skip
        got = run(session(self.file), self.calibration)
        return float(((got - self.want) ** 2).mean() / max(float(self.want.var(axis=0).mean()), 1e-12))

    def _try(self, setting: Setting) -> Trial:
        return Trial(setting, (), self.write(setting))

    def by_sensitivity(self) -> list[str]:
        """Names of the nodes with weights, in the order of the noise left when one of them alone is in floats."""
        plain, small = onnx.load(self.ready), onnx.load(self.file)
        few, want = self.calibration[:LOOKED_AT], self.want[:LOOKED_AT]
        left = {}
        for node in plain.graph.node:
            if node.op_type in WEIGHTED:
                tried = self.file.with_name("tried.onnx")
                onnx.save(with_floats(small, plain, node.name), tried)
                left[node.name] = float(((run(session(tried), few) - want) ** 2).mean())
        return sorted(left, key=lambda name: (left[name], name))


def with_floats(small: onnx.ModelProto, plain: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The quantised model in which one node reads what it reads in the plain model."""
    proto = onnx.ModelProto()
    proto.CopyFrom(small)
    made_by = {output: node for node in proto.graph.node for output in node.output}
    (node,) = (node for node in proto.graph.node if node.name == name)
    (own,) = (node for node in plain.graph.node if node.name == name)
    weights = {item.name: item for item in plain.graph.initializer}
    for k, wanted in enumerate(own.input):
        restore = made_by.get(node.input[k])
        if restore is None or restore.op_type != "DequantizeLinear":
            continue
        round_ = made_by.get(restore.input[0])
        if round_ is not None:
            node.input[k] = round_.input[0]
        elif wanted in weights:
            node.input[k] = f"{wanted} in floats"
            weight = proto.graph.initializer.add()
            weight.CopyFrom(weights[wanted])
            weight.name = node.input[k]
    return proto


def _cleaned(file: Path) -> onnx.ModelProto:
    """The file without what the quantiser adds to it: its own notes and a domain that no node uses."""
    proto = onnx.load(file)
    strip(proto)
    used = {node.domain for node in proto.graph.node}
    imports = [entry for entry in proto.opset_import if entry.domain in ("", "ai.onnx") or entry.domain in used]
    del proto.opset_import[:]
    proto.opset_import.extend(imports)
    return proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the quantiser's prints and advice away from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            yield
    finally:
        logging.disable(before)


def to_rows(trials: list[Trial]) -> list[dict[str, Any]]:
    """What was tried, as JSON objects."""
    return [{**vars(trial.setting), "excluded": list(trial.excluded), "noise": trial.noise, "drop": trial.drop,
             "agreement": trial.agreement} for trial in trials]  # fmt: skip
