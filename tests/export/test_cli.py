import json
import shutil

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import save_file

from gemnet.catalog import resolve
from gemnet.cli import main
from gemnet.cost import cost
from gemnet.errors import ConfigError
from gemnet.export import bundle as bundling
from gemnet.network import GemNet
from gemnet.train import seeded

SIZE = ["--macro", "proxy", "--macs", "1"]


def run(*args: object):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def chain_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("cell") / "cell.json"
    cell = {"schema": "gemnet.cell/1", "ops": ["input", "sepconv3x3", "sepconv3x3"], "edges": [[0, 1], [1, 2]]}
    file.write_text(json.dumps(cell))
    return file


@pytest.fixture(scope="module")
def weights(chain_file):
    cell, net, _ = resolve(chain_file, "proxy", 1_000_000)
    with seeded(3):
        model = GemNet(cell, net, num_classes=10, in_chans=1).eval()
    save_file(model.state_dict(), chain_file.with_name("w.safetensors"))
    return chain_file.with_name("w.safetensors"), model


@pytest.fixture(scope="module")
def exported(chain_file, weights):
    out = chain_file.with_name("out")
    result = run("export", chain_file, "--out", out, *SIZE, "--weights", weights[0], "--data", "fashion-mini",
                 "--samples", 50, "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    return out, json.loads(result.stdout)


def test_export_writes_the_weights_given_for_the_data_named(exported, weights, chain_file, data):
    out, report = exported
    images = torch.randn(3, 1, 28, 28)
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        want = weights[1](images)
    got = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    cell, net, _ = resolve(chain_file, "proxy", 1_000_000)
    assert report["cost"]["macs"] == cost(cell, net, 28, 1, 10).macs
    assert report["weights"].startswith("sha256 ")
    assert json.loads((out / "labels.json").read_text()) == list(data.classes)
    file = report["files"]["model.onnx"]
    assert (file["images"], file["agreement"]) == (50, 1.0)
    assert file["accuracy"] == file["model_accuracy"] == report["metrics"]["accuracy"]


def test_predict_gives_the_same_answers_with_the_folder_and_with_the_model(exported, weights, chain_file, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    named = ["--weights", weights[0], "--data", "fashion-mini", *SIZE]
    answers = [
        json.loads(run("predict", *model, tmp_path / "noise.png", "--json", "--top", 2).stdout)["top"]
        for model in ([exported[0]], [exported[0] / "model.onnx"], [chain_file, *named])
    ]
    assert answers[0] == answers[1]
    for a, b in zip(answers[0], answers[2]):
        assert (a["label"], a["index"]) == (b["label"], b["index"])
        assert a["logit"] == pytest.approx(b["logit"], abs=1e-4)


def test_predict_ends_with_1_when_an_image_cannot_be_read(exported, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    result = run("predict", exported[0], tmp_path / "text.png")
    assert result.exit_code == 1
    assert "text.png: no readable image" in result.stderr
    assert "is no valid" not in result.output
    assert "there is no file" in run("predict", tmp_path, tmp_path / "text.png").stderr


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (["gemnet_a_cifar", "--num-classes", 7], "gemnet_a_cifar are for 10 classes, but --num-classes asks for 7"),
        (["gemnet_b_cifar"], "there are no weights of gemnet_b_cifar; name some that fit by --weights FILE, or a"),
        (["chain"], "cell.json; name some that fit by --weights FILE"),
    ],
)
def test_predict_does_not_answer_with_random_weights(model, words, chain_file, tmp_path):
    Image.new("RGB", (30, 30)).save(tmp_path / "photo.png")
    named = [chain_file, *SIZE] if model == ["chain"] else model
    done = run("predict", *named, tmp_path / "photo.png")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert words in done.stderr and done.stderr.endswith("a folder of gemnet train, gemnet_a_cifar.cifar10\n")


def test_an_export_without_the_names_weights_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(bundling, "export_bundle", lambda source, *_: {"warnings": source.warnings})
    done = run("export", "gemnet_a_cifar", "--num-classes", 7, "--out", tmp_path / "out", "--json")
    words = "the weights of gemnet_a_cifar are for 10 classes, but --num-classes asks for 7; these are random, seed 0"
    assert (done.exit_code, done.stderr, json.loads(done.stdout)["warnings"]) == (0, f"Warning: {words}\n", [words])
    done = run("export", "gemnet_a_cifar", "--out", tmp_path / "out", "--json")
    assert (done.exit_code, done.stderr) == (0, "")


def test_bench_times_files_and_folders_in_one_run(exported, tmp_path):
    file = exported[0] / "model.onnx"
    result = run("bench", file, exported[0], "--runs", 5, "--layers", "--plot", tmp_path / "bars.html", "--json")
    rows = json.loads(result.stdout)["rows"]
    assert [row["model"] for row in rows] == [str(file), str(exported[0])]
    assert [row["runs"] for row in rows] == [5, 5]
    assert rows[0]["ratio"] == 1
    assert {"stem", "stages.0.0.nodes.1", "head"} <= set(rows[0]["layers"])
    assert "<html>" in (tmp_path / "bars.html").read_text()[:200]
    assert "p50 ms" in run("bench", file, "--runs", 5).stdout


def test_a_registered_name_is_never_a_folder_of_that_name(exported, tmp_path, monkeypatch):
    def named(name, *_, **__):
        raise ConfigError(f"the model {name} was asked for")

    monkeypatch.chdir(tmp_path)
    shutil.copytree(exported[0], "gemnet_b")
    Image.new("RGB", (30, 30)).save("photo.png")
    monkeypatch.setattr("gemnet.export.source.load_source", named)
    monkeypatch.setattr("gemnet.export.bench.load_source", named)
    assert "the model gemnet_b was asked for" in run("predict", "gemnet_b", "photo.png").stderr
    assert "the model gemnet_b was asked for" in run("bench", "gemnet_b").stderr
    assert run("predict", "./gemnet_b", "photo.png").exit_code == 0
    assert run("bench", "./gemnet_b", "--runs", 5).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bench", "gemnet_q"], "unknown model or cell 'gemnet_q'"),
        (["bench", "timm:mobilenetv2_10"], "did you mean 'mobilenetv2_100'"),
        (["bench", "absent.onnx"], "absent.onnx is no ONNX file, exported folder or trained folder"),
        (["bench", "."], ". is no ONNX file, exported folder or trained folder"),
        (["bench", "gemnet_a", "gemnet_b", "--weights", "w"], "weights are for one GEMNet by its name"),
        (["bench", "timm:resnet18", "--fuse"], "no GEMNet by its name to rewrite for speed"),
        (["export", ".", "--out", "out"], "is a folder without a model"),
        (["bench", "gemnet_a", "--backend", "tensorflow"], "'tensorflow' is not one of onnxruntime, torch"),
        (["export", "gemnet_a", "--out", "out", "--precision", "fp32,int4"], "'int4' is not one of fp32, fp16, int8"),
        (["export", "gemnet_a", "--out", "out", "--dynamic", "depth"], "'depth' is not one of batch, height, width"),
        (["export", "gemnet_a", "--out", "out", "--data", "fashion-midi"], "unknown data set 'fashion-midi'"),
        (["export", "gemnet_a", "--out", ""], "it is empty; name a file or a folder"),
        (["export", "gemnet_a", "--out", "out", "--dynamic", ""], "it names none of batch, height, width"),
        (["export", "gemnet_a", "--out", "out", "--max-drop", "nan"], "nan is no number"),
        (["export", "gemnet_a", "--out", "out", "--macs", "1e9"], "parameters is too large, allowed are 1,000 M"),
        (["predict", "gemnet_a", "absent.png"], "'absent.png' does not exist"),
    ],
)
def test_bad_input_is_named_with_exit_code_2(arguments, words, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_gate_ends_with_1_and_writes_nothing(chain_file, tmp_path, monkeypatch):
    rewrite = bundling.fold_batch_norm

    def damaged(model):
        folded = rewrite(model)
        with torch.no_grad():
            folded.head.fc.weight[0] += 0.1
        return folded

    monkeypatch.setattr(bundling, "fold_batch_norm", damaged)
    result = run("export", chain_file, "--out", tmp_path / "out", *SIZE, "--samples", 8)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: 'logits' of model.onnx at batch 1 differs from the model by")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
