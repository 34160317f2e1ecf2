"""A folder with all that a deployed model needs, written only when every file in it passed the gate."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from gemnet.cost import cost
from gemnet.durable import scratch
from gemnet.errors import ConfigError, ExportError, FileError, UsageError
from gemnet.fold import fold_batch_norm
from gemnet.fuse import Plan as Rewrites
from gemnet.fuse import fuse
from gemnet.reading import read_json

from . import infer
from .conventions import by_convention
from .form import Form
from .half import to_half
from .latency import machine, measure, peak_memory_mb
from .layers import Part, count_flops, parts
from .onnx import save, trace
from .parity import Case, accuracy, agreement, answer, parity_cases
from .pixels import Pixels
from .profiling import Profile, profile
from .quantize import Trial, quantize, to_rows
from .report import complete, to_html, write_report
from .samples import Samples
from .source import Source
from .verify import LIMITS, Limits, Real, Verification, run, session, verify

FILES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
SCHEMA, CONFIG = "gemnet.bundle/1", "config.json"
OWN = (CONFIG, "README.md", "infer.py", "labels.json", "report.html", "report.json", *FILES.values())
SLOWER = 1.02  # times the fp32 file's latency from which a smaller file is called slower


@dataclass(frozen=True)
class Plan:
    """What is exported.

    Args:
        form: of every file.
        precisions: keys of `FILES`; `fp32` is always written.
        max_drop: accuracy that an int8 file may lose.
        start: an int8 setting to try before others are searched, such as an earlier export's.
        rewrites: of the network for speed; None folds its batch norms and leaves the rest.

    Raises:
        ConfigError: a precision that does not exist.
    """

    form: Form
    precisions: tuple[str, ...] = ("fp32",)
    max_drop: float = LIMITS["int8"].drop
    start: Trial | None = None
    rewrites: Rewrites | None = None

    def __post_init__(self) -> None:
        for name in self.precisions:
            if name not in FILES:
                raise ConfigError(f"unknown precision {name!r}; allowed are {', '.join(FILES)}")

    @property
    def rewritten(self) -> dict[str, Any] | None:
        """The rewrites as a JSON object; None for none."""
        return None if self.rewrites is None else self.rewrites.to_dict()

    def limits(self, precision: str) -> Limits:
        """How far a file may be from the model; who lets int8 lose more lets it change as many answers."""
        known = LIMITS[precision]
        if precision != "int8":
            return known
        return replace(known, drop=self.max_drop, agreement=min(known.agreement, 1 - self.max_drop))


def export_bundle(
    source: Source, out: Path, plan: Plan, samples: Samples, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Writes the folder and returns its report.

    Args:
        source: the model.
        out: the folder; it stays as it is unless everything passed.
        plan: what to write.
        samples: real images.
        say: told what is being done.

    Raises:
        ExportError: a file does not do what the model does.
        UsageError: the folder cannot be written to, or holds files of these names that no export wrote.
    """
    _check_room(out)
    with _scratch(out) as draft:
        work = _Work(source, plan, samples, draft, say)
        work.export()
        report = work.report()
        _describe(source, plan, draft, report)
        out.mkdir(parents=True, exist_ok=True)
        for name in FILES.values():  # an older export may have had more
            if not (draft / name).exists():
                (out / name).unlink(missing_ok=True)
        for file in sorted(draft.iterdir(), key=lambda file: file.name != CONFIG):  # it marks the folder as ours
            os.replace(file, out / file.name)
    return report


class _Work:
    """One export, a file at a time; `files` holds what the gate found."""

    def __init__(
        self, source: Source, plan: Plan, samples: Samples, draft: Path, say: Callable[[str], None]
    ) -> None:
        self.source, self.plan, self.draft, self.say = source, plan, draft, say
        self.files: dict[str, Verification] = {}
        self.trials: list[dict[str, Any]] = []
        form, scaling = plan.form, source.scaling
        say("asking the model")
        images = answer(source.model, samples.images, scaling)
        self.real = Real(samples.name, Case("real images", self.shaped(samples.images), images), samples.labels)
        self.calibration = self.shaped(samples.calibration)
        self.cases = parity_cases(source.model, form, scaling)
        known = {"data": samples.name, "images": len(images), "accuracy": accuracy(images, samples.labels)}
        self.metrics = known if len(samples.labels) else {}

    def shaped(self, images: Any) -> Any:
        """Bytes [N, H, W, C] as the file takes them."""
        scaling = self.source.scaling
        if self.plan.form.as_bytes:
            return images
        return infer.normalise(images, {"mean": scaling.mean, "std": scaling.std})

    def export(self) -> None:
        """Writes and checks a file for each precision."""
        self.say("tracing")
        model, rewrites = self.source.model, self.plan.rewrites
        module: nn.Module = fold_batch_norm(model) if rewrites is None else fuse(model, rewrites)
        if self.plan.form.as_bytes:
            module = Pixels(module, self.source.scaling.mean, self.source.scaling.std)
        proto = trace(module, self.plan.form)
        self.keep("fp32", proto, weights=module.state_dict())
        if "fp16" in self.plan.precisions:
            self.keep("fp16", to_half(proto, self.real.case.images[:8]))
        if "int8" in self.plan.precisions:
            self.say("quantising")
            small, trials = quantize(proto, self.calibration, self.judge, self.plan.limits("int8"), self.plan.start)
            self.trials = to_rows(trials)
            self.keep("int8", small)

    def keep(self, precision: str, proto: onnx.ModelProto, **known: Any) -> None:
        """Writes a file with its description and lets it through the gate."""
        self.say(f"checking {FILES[precision]}")
        metadata = self.source.metadata(self.plan.form.as_bytes, self.metrics)
        metadata |= {"precision": precision, "fuse": json.dumps(self.plan.rewritten)}
        del proto.metadata_props[:]
        onnx.helper.set_model_props(proto, metadata)
        path = self.draft / FILES[precision]
        save(proto, path)
        self.files[FILES[precision]] = verify(
            path, self.plan.form, self.cases, self.plan.limits(precision), self.real, metadata=metadata, **known
        )

    def judge(self, path: Path) -> tuple[float, float]:
        """The accuracy a file loses on the real images, and the share of them on which it chooses the model's class.

        Without labels the share of changed answers stands for the accuracy.
        """
        got, want, labels = run(session(path), self.real.case.images), self.real.case.logits, self.real.labels
        if not np.isfinite(got).all():
            return 1.0, 0.0
        same = agreement(got, want)
        return (accuracy(want, labels) - accuracy(got, labels) if len(labels) else 1 - same), same

    def report(self) -> dict[str, Any]:
        """All that is known of the files and the model."""
        self.say("measuring")
        source, image = self.source, self.source.image
        price = cost(source.cell, source.net, image[1:], image[0], source.model.num_classes)
        one = np.zeros((1, *self.plan.form.layout), np.uint8 if self.plan.form.as_bytes else np.float32)
        rows = parts(source.model, image)
        times = profile(self.draft / FILES["fp32"], one)
        latency = self._latency(one)
        counted = {"layers_macs": sum(row.macs for row in rows), "flops": count_flops(source.model, image)}
        if not counted["layers_macs"] == counted["flops"] // 2 == price.macs:
            raise ExportError(f"MACs counted in three ways differ: {price.macs} from the graph, {counted}")
        return complete({
            "model": source.name, "cell_key": source.cell.key, "cell": source.cell.to_dict(),
            "net": source.net.to_dict(), "image": list(image), "num_classes": source.model.num_classes,
            "weights": source.weights, "metrics": self.metrics, "cost": vars(price), "counted": counted,
            "conventions": by_convention(source.model, image), "fuse": self.plan.rewritten,
            "files": {name: vars(found) | {"drop": found.drop} for name, found in self.files.items()},
            "int8": self.trials, "latency": latency, "machine": machine(), "parts": _timed(rows, times),
            "time_known": times.known, "warnings": [*source.warnings, *self._warnings(latency)],
        })  # fmt: skip

    def _latency(self, one: Any) -> dict[str, Any]:
        sessions = {name: session(self.draft / name) for name in self.files}
        runs = {name: lambda loaded=loaded: run(loaded, one) for name, loaded in sessions.items()}
        return {
            name: vars(found) | {"peak_memory_mb": peak_memory_mb(self.draft / name, one.shape)}
            for name, found in measure(runs, runs=30, limit_s=10).items()
        }

    def _warnings(self, latency: dict[str, Any]) -> list[str]:
        plain = FILES["fp32"]
        slower = [f"{name} is slower than {plain} on this machine: {found['ratio']:.2f} times its latency"
                  for name, found in latency.items() if found["ratio"] > SLOWER]  # fmt: skip
        size = self.files[plain].size_mb
        return slower + [f"{name} is larger than {plain}: {found.size_mb:.2f} MB, not {size:.2f} MB"
                         for name, found in self.files.items() if found.size_mb > size]  # fmt: skip


def _timed(rows: list[Part], times: Profile) -> list[dict[str, Any]]:
    """The parts with their time; what has no weights, such as a cell's sums, stands before its cell's nodes."""
    names = [row.name for row in rows]
    rows = list(rows)
    for name in times.parts:
        if name not in names:
            place = next((k for k, row in enumerate(rows) if row.name.startswith(f"{name}.")), len(rows))
            rows.insert(place, Part(name, "sums and concatenations" if place < len(rows) else "no weights", 0, 0, 0))
    return [{**vars(row), "ms": times.parts.get(row.name, 0.0)} for row in rows]


def _describe(source: Source, plan: Plan, draft: Path, report: dict[str, Any]) -> None:
    """Writes everything beside the ONNX files."""
    config = {
        "schema": SCHEMA, "model": source.name, "arch": {"cell": report["cell"], "net": report["net"]},
        "num_classes": report["num_classes"], "preprocessing": source.preprocessing(plan.form.as_bytes),
        "dynamic": list(plan.form.dynamic), "weights": source.weights, "fuse": plan.rewritten,
        "files": {name: found["sha256"] for name, found in report["files"].items()},
    }  # fmt: skip
    for name, content in ((CONFIG, config), ("labels.json", source.labels)):
        (draft / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_report(draft / "report.json", report)
    (draft / "report.html").write_text(to_html(report), encoding="utf-8")
    shutil.copyfile(infer.__file__, draft / "infer.py")
    (draft / "README.md").write_text(_readme(source, report), encoding="utf-8")


def _readme(source: Source, report: dict[str, Any]) -> str:
    size = "x".join(map(str, source.image[1:]))
    files = "\n".join(f"- `{name}`: {file['size_mb']:.2f} MB, opset {file['opset']}"
                      for name, file in report["files"].items())  # fmt: skip
    return f"""# {source.name} as ONNX

{files}

Images of {size} pixels, {len(source.labels)} classes, weights: {source.weights}. `report.html` says what was measured
and how the files were compared with the model, `config.json` and `labels.json` what the files say of themselves.

    pip install onnxruntime numpy pillow
    python infer.py photo.jpg --top 5
    python infer.py photos/ --json --model model.onnx
    python infer.py --serve 8000        # curl --data-binary @photo.jpg localhost:8000/predict?top=5
"""


def _check_room(out: Path) -> None:
    """Refuses a folder whose files an export would replace, unless they are an older export's."""
    taken = [name for name in OWN if os.path.lexists(out / name)]
    if taken and not _is_bundle(out):
        raise UsageError(f"{out / taken[0]} is not of an export and would be replaced; choose another folder by --out")


def _is_bundle(folder: Path) -> bool:
    try:
        return read_json(folder / CONFIG).get("schema") == SCHEMA
    except FileError:
        return False


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder on the same disk as `out`, which need not exist; it is gone afterwards."""
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    try:
        with scratch(place, "export") as folder:
            yield Path(folder)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror or error}") from None
