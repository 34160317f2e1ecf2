"""What was measured of an exported model, as JSON and as a page that needs no other file."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from gemnet.cell import Cell
from gemnet.draw import draw_cell
from gemnet.durable import write_atomic
from gemnet.machine import versions

SCHEMA = "gemnet.report/1"
LIBRARIES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")
STYLE = """
:root { color-scheme: light dark; --text: #1d2733; --back: #fff; --line: #d5dbe1; --stripe: #f4f6f8; --note: #5b6875; }
@media (prefers-color-scheme: dark) {
  :root { --text: #dfe5ea; --back: #14191e; --line: #3a444e; --stripe: #1d242b; --note: #9aa7b3; }
  svg text[fill="#333"] { fill: #dfe5ea; } svg circle[stroke="#333"] { stroke: #dfe5ea; }
}
body { font: 15px/1.45 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 62rem;
  margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; margin: .6rem 0; } th, td { padding: .2rem .7rem; text-align: right; }
th { border-bottom: 1px solid var(--note); } td:first-child, th:first-child { text-align: left; }
th, td + td { white-space: nowrap; } tr:nth-child(even) td { background: var(--stripe); }
.scroll { overflow-x: auto; } code { font-size: 90%; } .note { color: var(--note); }
.bar { display: inline-block; height: .7em; background: #3f7fbf; margin-right: .4em; }
"""
MACS = (
    "1 MAC is one multiply-add of a convolution or the classifier at batch 1; bias, norm, activation and pooling "
    "are not counted."
)
OTHERS = (
    "What other tools count for the same network with their default settings, by their own definitions of an operation."
)


def complete(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content with schema and versions."""
    return {"schema": SCHEMA, **content, "versions": versions(LIBRARIES)}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Writes a report as JSON, whole or not at all."""
    write_atomic(path, json.dumps(report, indent=1) + "\n")


def to_html(report: Mapping[str, Any]) -> str:
    """A report as a page that needs no other file and runs no script."""
    size = "x".join(map(str, report["image"]))
    sections = [
        f"<h1>{escape(report['model'])}</h1>",
        f'<p class="note">{size} pixels, {report["num_classes"]} classes</p>',
        f'<p class="note">weights: {escape(report["weights"])}, cell {report["cell_key"][:12]}</p>',
        "<h2>Cost</h2>", _cost(report),
        "<h2>Gate</h2>", _gate(report),
        *(("<h2>int8</h2>", _int8(report)) if report["int8"] else ()),
        "<h2>Latency</h2>", _latency(report),
        "<h2>Cell</h2>", _cell(report),
        "<h2>Stages</h2>", _stages(report),
        "<h2>Nodes</h2>", _parts(report),
        "<h2>Made with</h2>", _table(("", "version"), report["versions"].items()),
    ]  # fmt: skip
    title = f"{escape(report['model'])} as ONNX"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
    return f"<!doctype html>\n<html lang=en><head>{head}<style>{STYLE}</style></head><body>\n" + "\n".join(sections) + (
        "\n</body></html>\n"
    )


def _cost(report: Mapping[str, Any]) -> str:
    cost, count = report["cost"], report["counted"]
    rows = [
        ("parameters", f"{cost['params']:,}"),
        ("MACs, from the graph", f"{cost['macs']:,}"),
        ("MACs, summed over the layers", f"{count['layers_macs']:,}"),
        ("MACs, torch FlopCounterMode / 2", f"{count['flops'] // 2:,}"),
        ("FLOPs, 2 for a MAC", f"{count['flops']:,}"),
        ("activations (elements written by convolutions and classifier)", f"{cost['acts']:,}"),
        ("peak activations (elements alive at once)", f"{cost['peak_acts']:,}"),
    ]
    return _table(("", "one image"), rows) + f'<p class="note">{MACS}</p>' + _conventions(report["conventions"])


def _conventions(rows: Mapping[str, Mapping[str, int]]) -> str:
    """What other tools count, a column for each."""
    kinds = dict.fromkeys(kind for row in rows.values() for kind in row if kind != "total")
    table = [(kind, *(f"{row.get(kind, 0):,}" if kind in row else "" for row in rows.values()))
             for kind in (*kinds, "total")]  # fmt: skip
    return _table(("counted by", *rows), table) + f'<p class="note">{OTHERS}</p>'


def _gate(report: Mapping[str, Any]) -> str:
    files = report["files"]
    file = next(iter(files.values()))
    rows: list[tuple[object, ...]] = [
        ("size, MB", *(f"{f['size_mb']:.2f}" for f in files.values())),
        ("opset", *(f["opset"] for f in files.values())),
        ("IR version", *(f["ir_version"] for f in files.values())),
    ]
    rows += [(f"difference at {case}", *(f"{f['differences'][case]:.1e}" for f in files.values()))
             for case in file["differences"]]  # fmt: skip
    shares = {"same class": "agreement", "accuracy": "accuracy", "the model's accuracy": "model_accuracy"}
    rows += [(title, *(_percent(f[key]) for f in files.values())) for title, key in shares.items()
             if file[key] is not None]  # fmt: skip
    ends = ", ".join(f"<code>{escape(n)} {s}</code>" for n, s in {**file["inputs"], **file["outputs"]}.items())
    ops = ", ".join(f"{count} {name}" for name, count in sorted(file["op_types"].items()))
    return _table(("", *files), rows) + (
        f'<p class="note">Largest difference from the PyTorch model, of the largest logit; same class and accuracy '
        f"on {file['images']} images of {escape(file['data'])}.<br>{ends}<br>{ops}</p>"
    )


def _int8(report: Mapping[str, Any]) -> str:
    rows = [
        (t["method"], "channel" if t["per_channel"] else "tensor", 7 if t["reduce_range"] else 8, len(t["excluded"]),
         f"{t['noise']:.4f}", _percent(t["drop"]), _percent(t["agreement"]))
        for t in report["int8"]
    ]  # fmt: skip
    left_out = ", ".join(report["int8"][-1]["excluded"]) or "none"
    head = ("calibration", "scale per", "weight bits", "nodes in floats", "noise of logits", "lost", "same class")
    return _table(head, rows) + f'<p class="note">The last row is the file. Nodes in floats: {escape(left_out)}.</p>'


def _latency(report: Mapping[str, Any]) -> str:
    rows = [
        (name, f"{t['p50_ms']:.2f}", f"{t['p90_ms']:.2f}", f"{t['iqr_ms']:.2f}", f"{t['ratio']:.2f}",
         "" if t["peak_memory_mb"] is None else f"{t['peak_memory_mb']:.0f}")
        for name, t in report["latency"].items()
    ]  # fmt: skip
    machine = report["machine"]
    busy = " Other work went on at the same time: the figures are too high." if machine["busy"] else ""
    head = ("file", "p50 ms", "p90 ms", "IQR ms", "ratio", "peak MB")
    slower = "".join(f"<p><b>{escape(line)}</b></p>" for line in report["warnings"])
    return slower + _table(head, rows) + (
        f'<p class="note">Batch 1, one thread, runs taken in turn, on {escape(machine["processor"])}.{busy}</p>'
    )


def _cell(report: Mapping[str, Any]) -> str:
    cell = Cell.from_dict(report["cell"])
    times = dict.fromkeys(range(len(cell.ops)), 0.0)
    for part in report["parts"]:
        words = part["name"].split(".")
        if words[3:4] == ["nodes"]:
            times[int(words[4]) + 1] += part["ms"] or 0.0
    most = max(times.values()) or 1.0
    titles = {node: f"node {node}: {op}, {times[node]:.3f} ms in all" for node, op in enumerate(cell.ops)}
    picture = draw_cell(cell, titles, {node: value / most for node, value in times.items()})
    note = "The wider a rim, the more of the fp32 file's time its node takes over all cells."
    return f'<div class="scroll">{picture}</div><p class="note">{note}</p>'


def _stages(report: Mapping[str, Any]) -> str:
    totals: dict[str, list[float]] = {}
    for part in report["parts"]:
        words = part["name"].split(".")
        inside = words[0] == "stages" and len(words) > 2
        name = f"stage {words[1]}, cell {words[2]}" if inside else f"{part['name']} ({part['op']})"
        row = totals.setdefault(name, [0, 0, 0, 0.0])
        for k, key in enumerate(("macs", "params", "acts", "ms")):
            row[k] += part[key] or 0
    return _costs(totals.items())


def _parts(report: Mapping[str, Any]) -> str:
    return _costs(
        (f"{part['name']} {part['op']}", [part[key] or 0 for key in ("macs", "params", "acts", "ms")])
        for part in report["parts"]
    )


def _costs(rows: Iterable[tuple[str, Sequence[float]]]) -> str:
    rows = list(rows)
    whole = sum(values[3] for _, values in rows) or 1.0
    widest = max(values[3] for _, values in rows) or 1.0
    lines = [
        (name, f"{int(macs):,}", f"{int(params):,}", f"{int(acts):,}", f"{ms:.3f}",
         _Raw(f'<span class="bar" style="width:{80 * ms / widest:.0f}px"></span>{100 * ms / whole:.1f} %'))
        for name, (macs, params, acts, ms) in rows
    ]  # fmt: skip
    return _table(("", "MACs", "parameters", "activations", "ms", "of the time"), lines)


class _Raw(str):
    """Text that is HTML already."""


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    cells = "".join(f"<th>{escape(str(name))}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{v if isinstance(v, _Raw) else escape(str(v))}</td>" for v in row) + "</tr>\n"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{cells}</tr>\n{body}</table></div>'


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
