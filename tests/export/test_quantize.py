import numpy as np
import onnx
import pytest

from gemnet.errors import ExportError
from gemnet.export import infer
from gemnet.export.quantize import METHODS, Setting, Trial, quantize, to_rows, with_floats
from gemnet.export.verify import Limits, run, session


@pytest.fixture(scope="module")
def calibration(samples, source):
    return infer.normalise(samples.calibration, vars(source.scaling))


def test_every_method_and_scale_is_tried_and_the_least_noisy_is_taken(bundle):
    tried, last = bundle.report["int8"][:-1], bundle.report["int8"][-1]
    assert [row["method"] for row in tried[:4]] == list(METHODS)
    assert {(row["per_channel"], row["reduce_range"]) for row in tried} == {
        (a, b) for a in (True, False) for b in (True, False)
    }
    assert last["noise"] == min(row["noise"] for row in tried)
    assert last["excluded"] == []
    assert last["drop"] <= 0.02


def test_the_most_damaged_nodes_stay_in_floats_until_the_limit_holds(bundle, calibration):
    asked = []

    def judge(path):
        asked.append({node.name for node in onnx.load(path).graph.node})
        return 0.5 / len(asked), 0.95

    proto, trials = quantize(bundle.proto, calibration, judge, Limits(0, 0.9, 0.15, ""))
    counts = [len(trial.excluded) for trial in trials if trial.drop is not None]
    assert counts == [0, 1, 2, 4]
    final = trials[-1]
    assert set(final.excluded) <= {node.name for node in proto.graph.node}
    assert final.noise < trials[-4].noise
    assert to_rows(trials)[-1]["excluded"] == list(final.excluded)
    by_output = {node.output[0]: node.op_type for node in proto.graph.node}
    for name in final.excluded:
        (kept,) = (node for node in proto.graph.node if node.name == name)
        assert not {by_output.get(entry) for entry in kept.input[1:]} & {"DequantizeLinear"}


def test_a_node_in_floats_reads_what_it_read_before(bundle, calibration, tmp_path):
    plain, small = (onnx.load(bundle.folder / name) for name in ("model.onnx", "model.int8.onnx"))
    half_way = small
    for node in plain.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            half_way = with_floats(half_way, plain, node.name)
    onnx.save(half_way, tmp_path / "floats.onnx")
    want = run(session(bundle.folder / "model.onnx"), calibration)
    errors = [np.abs(run(session(file), calibration) - want).mean()
              for file in (tmp_path / "floats.onnx", bundle.folder / "model.int8.onnx")]  # fmt: skip
    assert errors[0] < 0.8 * errors[1]  # sums and pools are still quantised


def test_a_limit_that_cannot_be_held_is_an_error(bundle, calibration):
    why = r"0\.0 % accuracy lost and 70\.0 % of the answers kept on real images with \d+ of \d+ nodes in floats"
    with pytest.raises(ExportError, match=why):
        quantize(bundle.proto, calibration, lambda path: (0.0, 0.7))


def test_a_setting_that_held_before_is_tried_first_and_searched_no_further(bundle, calibration):
    node = next(node.name for node in bundle.proto.graph.node if node.op_type == "Conv")
    start = Trial(Setting("minmax", False, True), (node,))
    _, trials = quantize(bundle.proto, calibration, lambda path: (0.0, 1.0), start=start)
    assert [(trial.setting, trial.excluded) for trial in trials] == [(start.setting, start.excluded)]
    assert trials[0].noise > 0


def test_the_quantised_file_uses_onnx_operators_alone_and_says_nothing_of_the_quantiser(bundle):
    proto = onnx.load(bundle.folder / "model.int8.onnx")
    assert {entry.domain for entry in proto.opset_import} == {""}
    assert not any(node.metadata_props or node.doc_string for node in proto.graph.node)


def test_noise_is_the_squared_error_relative_to_the_variance(bundle, calibration):
    plain = run(session(bundle.folder / "model.onnx"), calibration)
    small = run(session(bundle.folder / "model.int8.onnx"), calibration)
    want = ((small - plain) ** 2).mean() / np.var(plain, axis=0).mean()
    assert bundle.report["int8"][-1]["noise"] == pytest.approx(float(want), rel=1e-3)


def test_a_setting_is_plain():
    assert Setting() == Setting("minmax", True, False)
