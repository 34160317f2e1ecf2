import dataclasses
import errno
import hashlib
import html.parser
import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from gemnet.cell import Cell
from gemnet.cost import cost
from gemnet.errors import DataError, UsageError
from gemnet.export import bundle as bundling
from gemnet.export import infer
from gemnet.export.bundle import FILES, Plan, export_bundle
from gemnet.export.form import Form
from gemnet.export.half import largest_value, to_half
from gemnet.export.layers import part_of
from gemnet.export.parity import parity_cases
from gemnet.export.quantize import quantize
from gemnet.export.report import to_html
from gemnet.export.samples import Samples, fit
from gemnet.export.source import load_source
from gemnet.export.verify import run, session
from gemnet.fuse import Plan as Rewrites

CONTENTS = {"config.json", "labels.json", "report.json", "report.html", "README.md", "infer.py", *FILES.values()}


def test_the_folder_holds_everything_and_nothing_else(bundle):
    assert {path.name for path in bundle.folder.iterdir()} == CONTENTS
    assert not any(path.name.startswith(".export") for path in bundle.folder.parents[1].iterdir())
    assert (bundle.folder / "infer.py").read_text() == Path(infer.__file__).read_text()


def test_every_file_describes_itself(bundle, source, data):
    for precision, name in FILES.items():
        said = {entry.key: entry.value for entry in onnx.load(bundle.folder / name).metadata_props}
        assert said["precision"] == precision
        assert json.loads(said["labels"]) == list(data.classes)
        assert json.loads(said["preprocessing"])["mean"] == list(source.scaling.mean)
        assert Cell.from_dict(json.loads(said["cell"])).key == said["cell_key"] == source.cell.key
        assert json.loads(said["metrics"]) == bundle.report["metrics"]
        assert (said["weights"], said["license"]) == ("fitted in a test", "apache-2.0")
        assert said["version"].startswith("gemnet ")


def test_config_and_report_name_the_files_by_their_sha256(bundle):
    config = json.loads((bundle.folder / "config.json").read_text())
    report = json.loads((bundle.folder / "report.json").read_text())
    for name in FILES.values():
        sha256 = hashlib.sha256((bundle.folder / name).read_bytes()).hexdigest()
        assert config["files"][name] == report["files"][name]["sha256"] == sha256
    assert report == json.loads(json.dumps(bundle.report))


def test_no_file_tells_where_it_was_made(bundle):
    places = [str(Path.home()).encode(), str(bundle.folder).encode(), str(Path.cwd()).encode(), b"site-packages"]
    for name in CONTENTS:
        content = (bundle.folder / name).read_bytes()
        assert not [place for place in places if len(place) > 5 and place in content], name


def test_int8_and_fp16_are_byte_equal_when_made_again(bundle, samples, source, plan):
    calibration = infer.normalise(samples.calibration, vars(source.scaling))
    plain = onnx.load(bundle.folder / "model.onnx")
    small, _ = quantize(plain, calibration, lambda path: (0.0, 1.0))
    for name, again in (("model.int8.onnx", small), ("model.fp16.onnx", to_half(plain, calibration[:8]))):
        kept = onnx.load(bundle.folder / name)
        for proto in (kept, again):
            del proto.metadata_props[:]
        assert again.SerializeToString(deterministic=True) == kept.SerializeToString(deterministic=True)


def test_smaller_files_keep_the_models_accuracy(bundle):
    files = bundle.report["files"]
    plain = files["model.onnx"]
    assert plain["agreement"] == 1
    assert plain["accuracy"] == plain["model_accuracy"] > 0.6
    assert plain["max_rel_diff"] < 1e-5 < files["model.fp16.onnx"]["max_rel_diff"] < 1e-2
    for name in ("model.fp16.onnx", "model.int8.onnx"):
        assert abs(files[name]["accuracy"] - plain["accuracy"]) <= 0.02
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(files["model.int8.onnx"]["op_types"])
    assert any("is larger than" in line for line in bundle.report["warnings"])  # so few weights, so many scales


def test_costs_are_counted_in_three_ways_that_agree(bundle, source):
    report = bundle.report
    macs = cost(source.cell, source.net, 28, 1, 10).macs
    assert report["cost"]["macs"] == report["counted"]["layers_macs"] == report["counted"]["flops"] // 2 == macs
    for key in ("macs", "params", "acts"):
        assert sum(part[key] for part in report["parts"]) == report["cost"][key]


def test_the_time_of_an_onnx_file_leads_back_to_the_cells_nodes(bundle, source):
    times = {part["name"]: part["ms"] for part in bundle.report["parts"]}
    nodes = [f"stages.{k}.0.nodes.{j}" for k in (0, 1) for j in range(4)]
    assert all(times[name] > 0 for name in [*nodes, "stem", "conv_head", "head", "stages.0.0", "stages.pool1"])
    assert list(times).index("stages.pool1") == list(times).index("stages.1.0") - 1
    assert "stages.pool0" not in times
    assert bundle.report["time_known"] > 0.8


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("stages.0.1.nodes.3.conv_dw/Conv", "stages.0.1.nodes.3"), ("stages.0.1/Add_2", "stages.0.1"),
        ("stages.2.0.project.conv.weight", "stages.2.0.project"), ("head.fc/Gemm", "head"), ("stem.bn.1/Relu", "stem"),
        ("stages.pool1/MaxPool", "stages.pool1"), ("stages.pool1.1/MaxPool", "stages.pool1"),
    ],
)  # fmt: skip
def test_names_lead_to_parts(name, part):
    assert part_of(name) == part


class Page(html.parser.HTMLParser):
    """The tags still open, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.links = "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br", "circle", "path"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("meta", "br", "circle", "path"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_page_stands_alone_and_shows_the_figures(bundle):
    text = (bundle.folder / "report.html").read_text()
    page = Page(text)
    assert page.open == [] and page.links == [] and "<script" not in text
    assert f"{bundle.report['cost']['macs']:,}" in page.text
    assert text.count("<circle") >= 5
    for name in FILES.values():
        assert name in page.text


def test_names_cannot_break_the_page(bundle):
    evil = bundle.report | {"model": "<script>alert(1)</script>", "weights": "<b>"}
    text = to_html(evil)
    assert "<script" not in text
    assert "<b>" not in re.sub(r"<b>model\.", "", text)
    assert Page(text).open == []


def test_bytes_go_in_where_asked(source, samples, tmp_path):
    form = Form(source.image, dynamic=("batch", "height", "width"), as_bytes=True, least_side=source.least_side)
    report = export_bundle(source, tmp_path, Plan(form, ("fp32", "fp16")), samples)
    assert report["files"]["model.onnx"]["inputs"] == {"images": ["batch", "height", "width", 1]}
    ops = report["files"]["model.onnx"]["op_types"]
    assert (ops["Transpose"], ops["Cast"], ops["Sub"]) == (1, 1, 1) and "Gather" not in ops
    other = dataclasses.replace(source, unused="the weights of tiny are for 9 classes")
    words = "the weights of tiny are for 9 classes; these are fitted in a test"
    assert export_bundle(other, tmp_path, Plan(form), samples)["warnings"] == [words]
    assert words in (tmp_path / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["model.onnx"], "an older export's files are gone"
    model = infer.Model(tmp_path)
    assert model.input.type == "tensor(uint8)"
    want = parity_cases(source.model, dataclasses.replace(form, as_bytes=False))[0].logits.shape[1]
    assert model.logits(samples.images[:20]).shape == (20, want)
    with_floats = run(session(tmp_path / "model.onnx"), samples.images[:20])
    np.testing.assert_array_equal(model.logits(samples.images[:20]), with_floats)


@pytest.mark.parametrize("files", [
    {"config.json": '{"architecture": "gemnet"}', "model.safetensors": "weights"}, {"README.md": "# Mine"},
    {"config.json": "no JSON"}, {"config.json": "[]"},
], ids=str)  # fmt: skip
def test_files_that_no_export_wrote_are_never_replaced(files, source, samples, plan, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    said: list[str] = []
    with pytest.raises(UsageError, match=r"is not of an export and would be replaced; choose another folder by --out"):
        export_bundle(source, tmp_path, plan, samples, said.append)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files and not said


def test_folders_that_cannot_be_written_are_named(source, samples, plan, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UsageError, match="cannot write to"):
        export_bundle(source, tmp_path / "taken" / "out", plan, samples)


def test_a_full_disk_is_named_and_leaves_nothing(source, samples, plan, tmp_path, monkeypatch):
    def save(proto, path):
        path.write_bytes(b"the first half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bundling, "save", save)
    with pytest.raises(UsageError, match=r"cannot write to .*out: No space left on device"):
        export_bundle(source, tmp_path / "out", plan, samples)
    assert list(tmp_path.iterdir()) == []


def test_the_largest_value_is_that_of_the_model(bundle, samples, source):
    images = infer.normalise(samples.images[:4], vars(source.scaling))
    name, largest = largest_value(bundle.proto, images)
    known = {output for node in bundle.proto.graph.node for output in node.output}
    assert name in known | {weight.name for weight in bundle.proto.graph.initializer}
    assert largest >= np.abs(run(session(bundle.folder / "model.onnx"), images)).max()


def test_samples_fit_any_size_and_number_of_channels(data):
    grey = data.val.images[:3]
    assert fit(grey, (1, 28, 28)) is not None and np.array_equal(fit(grey, (1, 28, 28)), grey)
    wide = fit(grey, (3, 20, 40))
    assert wide.shape == (3, 20, 40, 3)
    assert np.array_equal(wide[..., 0], wide[..., 2])
    assert fit(np.repeat(grey, 3, 3), (1, 28, 28)).tolist() == grey.tolist()
    with pytest.raises(DataError, match="no images"):
        fit(grey[:0], (1, 28, 28))
    taken = Samples.of(data, (1, 28, 28), 10, 10, 20)
    assert len(set(taken.labels.tolist())) > 3 and taken.calibration.shape[0] == 20
    assert len(Samples.of(data, (1, 28, 28), 7, 10, 20).labels) == 0


def test_random_weights_have_values_of_ordinary_size():
    source = load_source("gemnet_a_cifar", macs=20_000_000)
    assert source.weights == "random, seed 0"
    assert source.labels == tuple("0123456789")
    logits = parity_cases(source.model, Form(source.image))[1].logits
    assert 1e-3 < np.abs(logits).max() < 100
    assert load_source("gemnet_a_cifar", macs=20_000_000, size=24).image == (3, 24, 24)


def test_imagenet_models_have_imagenets_labels():
    source = load_source("gemnet_a")
    assert len(source.labels) == 1000
    assert "tabby" in source.labels[281]
    assert (source.resize, source.least_side) == (256, 31)


def test_a_fused_model_passes_the_gate_and_its_time_leads_back_too(source, samples, tmp_path):
    form = Form(source.image, dynamic=("batch", "height", "width"), least_side=source.least_side)
    report = export_bundle(source, tmp_path, Plan(form, rewrites=Rewrites(merge_pointwise=True)), samples)
    assert report["files"]["model.onnx"]["max_rel_diff"] < 1e-5
    stored = json.loads((tmp_path / "config.json").read_text())["fuse"]
    said = {entry.key: entry.value for entry in onnx.load(tmp_path / "model.onnx").metadata_props}
    assert Rewrites.from_dict(stored) == Rewrites(merge_pointwise=True)
    assert stored == report["fuse"] == json.loads(said["fuse"])
    times = {part["name"]: part["ms"] for part in report["parts"]}
    assert sum(times[f"stages.{k}.0.nodes.{j}"] > 0 for k in (0, 1) for j in range(4)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("axes", [("batch",), ("batch", "height", "width")], ids="+".join)
@pytest.mark.parametrize("opset", [18, 19, 20, 21])
def test_every_opset_and_precision_passes_the_gate(opset, axes, source, samples, tmp_path):
    form = Form(source.image, opset, axes, least_side=source.least_side)
    report = export_bundle(source, tmp_path, Plan(form, tuple(FILES), 0.02), samples)
    for name, file in report["files"].items():
        assert (file["opset"], len(file["differences"])) == (opset, 3 if axes == ("batch",) else 7), name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gemnet_a_cifar", "gemnet_b_cifar", "gemnet_a", "gemnet_b"])
def test_registered_models_pass_the_gate(name, tmp_path):
    source = load_source(name)
    samples = Samples.packaged(source.image, 16, 16)
    report = export_bundle(source, tmp_path, Plan(Form(source.image)), samples)
    assert report["files"]["model.onnx"]["agreement"] == 1
