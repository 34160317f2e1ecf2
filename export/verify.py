"""The gate: an ONNX file is read back and compared with the model it was written from."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from torch import Tensor

from gemnet.errors import ExportError

from .facts import AGAIN, Facts, changed_weight, read_facts
from .form import OUTPUT, Form
from .parity import Array, Case, accuracy, agreement, difference


@dataclass(frozen=True)
class Limits:
    """How far a file of a precision may be from its model.

    Args:
        relative: largest difference of a logit, divided by the largest logit.
        agreement: least share of real images on which both choose the same class.
        drop: largest loss of accuracy on labelled images; of agreement where there are no labels.
        remedy: what to try when it fails.
    """

    relative: float
    agreement: float
    drop: float
    remedy: str


LIMITS = {
    # fp32 rounding over a hundred layers stays below 1e-5
    "fp32": Limits(1e-4, 0.995, 0.0, f"{AGAIN}, with another --opset or without --fuse if one was given"),
    "fp16": Limits(2e-2, 0.98, 0.01, "leave fp16 out of --precision, or train with smaller activations"),
    # accuracy alone would let a file pass that answers a quarter of the images otherwise, as many rightly as wrongly
    "int8": Limits(math.inf, 0.9, 0.01, "give --data like that of the training, raise --max-drop, or leave int8 out"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Real:
    """Real images, as the file takes them, with the model's answer.

    Args:
        name: of the data set.
        case: the images and the model's logits.
        labels: of the images; none when they are not of the model's classes.
    """

    name: str
    case: Case
    labels: Array


@dataclass(frozen=True)
class Verification(Facts):
    """What was read from an ONNX file and how far its outputs are from the model's.

    Args:
        max_abs_diff: largest difference of an output, over all cases.
        max_rel_diff: the same, divided by the largest output.
        batches: the batch sizes tried.
        differences: of each case by its name, divided by the largest output.
        data: where the real images are from; empty without.
        images: number of them.
        agreement: share of them on which file and model choose the same class.
        accuracy, model_accuracy: shares of right answers; None where there are no labels.
    """

    max_abs_diff: float
    max_rel_diff: float
    batches: tuple[int, ...]
    differences: dict[str, float]
    data: str = ""
    images: int = 0
    agreement: float | None = None
    accuracy: float | None = None
    model_accuracy: float | None = None

    @property
    def drop(self) -> float | None:
        """Lost accuracy; without labels the share of changed answers, which it cannot exceed; None without images."""
        if self.accuracy is not None and self.model_accuracy is not None:
            return self.model_accuracy - self.accuracy
        return None if self.agreement is None else 1 - self.agreement


def verify(
    path: str | Path, form: Form, cases: Sequence[Case], limits: Limits = LIMITS["fp32"], real: Real | None = None,
    weights: Mapping[str, Tensor] | None = None, metadata: Mapping[str, str] | None = None,
) -> Verification:  # fmt: skip
    """What a file does, when that is what its model does.

    Args:
        path: the ONNX file.
        form: what it was asked to be.
        cases: the model's answers, one or more.
        limits: how far from them it may be.
        real: real images.
        weights: what was exported, by name, to tell which weight is wrong.
        metadata: what the file must say of itself.

    Raises:
        ExportError: what differs, by how much, where, and what to try.
    """
    path = Path(path)
    facts = read_facts(path, form, cases[0].logits.shape[1], metadata or {})
    runtime = session(path)
    found = {case.name: _compare(runtime, path, case, limits, weights or {}) for case in cases}
    worst = [max(values) for values in zip(*found.values())]
    measured = {} if real is None else _judge(runtime, path.name, real, limits)
    relative = {name: pair[1] for name, pair in found.items()}
    return Verification(**vars(facts), max_abs_diff=worst[0], max_rel_diff=worst[1], batches=form.batches,
                        differences=relative, **measured)  # fmt: skip


def session(path: str | Path, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ONNX Runtime CPU session with that many threads."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(runtime: onnxruntime.InferenceSession, images: Array) -> Array:
    """The logits of a session, at most 32 images at once."""
    feed = runtime.get_inputs()[0]
    step = 32 if isinstance(feed.shape[0], str) else int(feed.shape[0])
    parts = [runtime.run([OUTPUT], {feed.name: images[k : k + step]})[0] for k in range(0, len(images), step)]
    return np.concatenate(parts)


def _compare(
    runtime: onnxruntime.InferenceSession, path: Path, case: Case, limits: Limits, weights: Mapping[str, Tensor]
) -> tuple[float, float]:
    """Shapes first, then values."""
    try:
        got = run(runtime, case.images)
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base
        raise ExportError(f"{path.name} does not run at {case.name}: {error}; {limits.remedy}") from None
    if got.shape != case.logits.shape:
        shapes = f"{list(got.shape)}, the model's {list(case.logits.shape)}"
        raise ExportError(f"{OUTPUT!r} of {path.name} at {case.name} has shape {shapes}; {AGAIN}")
    absolute, relative = difference(got, case.logits)
    if not relative <= limits.relative:
        culprit = changed_weight(path, weights)
        raise ExportError(
            f"{OUTPUT!r} of {path.name} at {case.name} differs from the model by {absolute:.3g} ({relative:.2g} of the "
            f"largest output; allowed {limits.relative:g}){f', {culprit}' if culprit else ''}; {limits.remedy}"
        )
    return absolute, relative


def _judge(runtime: onnxruntime.InferenceSession, name: str, real: Real, limits: Limits) -> dict[str, Any]:
    """Agreement and accuracy on real images."""
    got, want = run(runtime, real.case.images), real.case.logits
    same, count = agreement(got, want), len(want)
    if same < limits.agreement:
        raise ExportError(
            f"{OUTPUT!r} of {name} chooses the model's class on {100 * same:.1f} % of {count} images of {real.name}, "
            f"at least {100 * limits.agreement:.1f} % is asked for; {limits.remedy}"
        )
    result: dict[str, Any] = {"data": real.name, "images": count, "agreement": same}
    lost, what = 1 - same, "answers changed"
    if len(real.labels):
        own, found = accuracy(want, real.labels), accuracy(got, real.labels)
        result |= {"accuracy": found, "model_accuracy": own}
        lost, what = own - found, "accuracy lost"
    if limits.drop > 0 and not lost <= limits.drop:
        raise ExportError(
            f"{OUTPUT!r} of {name}: {100 * lost:.1f} % {what} on {count} images of {real.name}, "
            f"allowed are {100 * limits.drop:.1f} %; {limits.remedy}"
        )
    return result
