"""Cards of a release that is made of literal files: a report, a training, a cell."""

import copy
import json
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from huggingface_hub import ModelCard
from jinja2 import DictLoader
from markdown_it import MarkdownIt

from gemnet import zoo
from gemnet.catalog import FAMILY
from gemnet.cli import main
from gemnet.cost import cost
from gemnet.errors import CardError
from gemnet.export.card import check_card, environment, render, write_card
from gemnet.export.card_facts import Facts
from gemnet.export.card_figures import COMMENT, Sources, without_sources
from gemnet.public_data import PUBLIC, licence
from gemnet.recipe import load, override

VARIANT = FAMILY["gemnet_a_cifar"]
REPO, TAG = "acme/gemnet-a-cifar", "v1.2.3"


def report() -> dict:
    cell, net = VARIANT.load(), VARIANT.net()
    file = {"size_mb": 1.29, "data": "npz:/mine/cifar-10 v2.npz", "images": 512, "accuracy": 0.9023, "agreement": 1.0,
            "max_rel_diff": 4.9e-06, "inputs": {"images": ["batch", 3, 32, 32]}}  # fmt: skip
    return {
        "model": "gemnet_a_cifar", "cell": cell.to_dict(), "net": net.to_dict(), "image": [3, 32, 32],
        "num_classes": 10, "weights": "sha256 0", "metrics": {}, "cost": vars(cost(cell, net, 32, 3, 10)),
        "files": {"model.onnx": file, "model.int8.onnx": file | {"size_mb": 0.61, "accuracy": None}},
        "latency": {name: {"p50_ms": 1.723, "iqr_ms": 0.092} for name in ("model.onnx", "model.int8.onnx")},
        "machine": {"processor": "A <Fast> CPU | 9000", "cpus": 2, "load": 0.1, "busy": False},
        "versions": {"gemnet": "0.1.0", "onnxruntime": "1.31.1"},
    }  # fmt: skip


def training() -> dict:
    scores = {"top1": 0.9017, "top5": 0.9962, "images": 10000, "images_per_s": 900.0, "per_class": [0.9] * 9 + [None]}
    data = {
        "fingerprint": PUBLIC["cifar10"].fingerprints[0], "counts": {"train": 45000, "val": 5000, "test": 10000},
        "classes": [*"abcdefgh", "i*j", "k|l"], "img_size": [32, 32], "mean": [0.49, 0.48, 0.45], "std": [0.25] * 3,
    }  # fmt: skip
    model = {"name": "gemnet_a_cifar", "pretrained": False, "cells": [VARIANT.load().to_dict()],
             "net": VARIANT.net().to_dict()}  # fmt: skip
    return {
        "schema": "gemnet.train/1", "versions": {"torch": "2.15.0"},
        "asked": {"model": model, "recipe": {"epochs": 20, "lr": 0.1, "opt": "sgd", "mixup": 0.0}, "seed": 3,
                  "data": data, "processes": 1},
        "hardware": {"processor": "CPU", "cpus": 2, "torch_threads": 1, "gpus": []},
        "result": {"epoch": 19, "val_acc": 0.9042, "epochs_run": 20, "train_s": 7260.0, "images_per_s": 118.7,
                   "test": scores},
    }  # fmt: skip


@pytest.fixture(scope="module")
def files() -> dict[str, str]:
    return {"report.json": json.dumps(report()), "train.json": json.dumps(training())}


@pytest.fixture
def folder(files, tmp_path):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"")
    return tmp_path


def change(folder, file, *path, to):
    data = json.loads((folder / file).read_text())
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    (folder / file).write_text(json.dumps(data))


def test_a_card_says_what_the_files_say_and_nothing_else(folder):
    card = write_card(folder, REPO, TAG)
    text = card.read_text(encoding="utf-8")
    assert check_card(folder) == len(COMMENT.findall(text)) > 80
    shown = without_sources(text)
    for said in ("90.17 %", "99.62 %", "standard error 0.30 points", "309,738", "39,975,328", "119 images/s"):
        assert said in shown, said
    assert "acme/gemnet-a-cifar@v1.2.3" in shown
    assert "| `mixup`" not in shown


def test_a_card_is_the_same_each_time(folder):
    first = write_card(folder, REPO, TAG).read_bytes(), (folder / "cell.svg").read_bytes()
    assert (write_card(folder, REPO, TAG).read_bytes(), (folder / "cell.svg").read_bytes()) == first


def test_every_section_is_there(folder):
    text = write_card(folder, REPO).read_text(encoding="utf-8")
    titles = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert titles == [
        "How to use it", "The cell", "What it costs", "Training", "Evaluation", "Limits and bias",
        "What is not reproduced from the paper", "Licence", "Citation",
    ]  # fmt: skip
    assert "arXiv:2007.04452" in text and "@software{gemnet" in text
    assert "acme/gemnet-a-cifar@" not in text


def test_the_hub_client_reads_its_front_matter(folder):
    data = ModelCard.load(write_card(folder, REPO, TAG), ignore_metadata_errors=False).data
    (result,) = data.eval_results
    assert (result.metric_value, result.dataset_type, result.dataset_split) == (0.9017, "uoft-cs/cifar10", "test")
    assert (data.license, data.library_name, data.pipeline_tag) == ("other", "timm", "image-classification")
    assert data.license_name and data.model_name == "gemnet-a-cifar"
    assert "CIFAR-10 has no formal licence" in (folder / "README.md").read_text(encoding="utf-8")


def test_its_tables_and_picture_are_such(folder):
    text = write_card(folder, REPO, TAG).read_text(encoding="utf-8").split("---\n", 2)[2]
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    widths, rows = [], []
    for token in tokens:
        if token.type == "tr_open":
            rows.append(0)
        rows[-1:] = [rows[-1] + (token.type in ("td_open", "th_open"))] if rows else []
        if token.type == "table_close":
            widths.append(set(rows))
            rows = []
    assert len(widths) == 7 and all(len(width) == 1 for width in widths)
    assert text.count("\n| ") == sum(token.type == "tr_open" for token in tokens), "a line of a table is outside of it"
    picture = ElementTree.parse(folder / "cell.svg")
    assert len(picture.findall(".//{*}circle")) >= len(VARIANT.load().ops)


def test_its_examples_are_python(folder):
    text = write_card(folder, REPO, TAG).read_text(encoding="utf-8")
    codes = text.split("```python\n")[1:]
    assert len(codes) == 3
    for code in codes:
        compile(code.split("```")[0], "card", "exec")


@pytest.mark.parametrize(
    ("said", "instead", "words"),
    [
        ("90.17 %<!--", "93.17 %<!--", "says '93.17 %' where train.json#/result/test/top1 says '90.17 %'"),
        ("90.17 %<!--", "190.17 %<!--", "where train.json"),
        ("90.17 %<!--", "-90.17 %<!--", "where train.json"),
        ("90.17 %<!-- percent: train.json#/result/test/top1 -->", "90.17 %", "a number without a source"),
        ("90.17 %<!-- percent: train.json#/result/test/top1 -->", "`93 %`", "a number without a source"),
        ("train.json#/result/test/top1", "train.json#/result/test/top3", "has no /result/test/top3"),
        ("train.json#/result/test/top1", "train.json#/result/val_acc", "says '90.42 %'"),
        ("train.json#/result/test/top1", "../train.json#/result/test/top1", "is no source"),
        ("percent: train.json#/result/test/top1", "share: train.json#/result/test/top1", "unknown form 'share'"),
        ("## Limits and bias", "It beats 9 others.\n\n## Limits and bias", "a number without a source"),
        ("value: 0.9017", "value: 0.95", "says model-index/0/results/0/metrics/0/value: 0.95, the files say 0.9017; "),
        ("value: 0.9017", "values: 0.9017", "is no model card"),
        ("- gemnet\n", "", "says tags/3: 'neural-architecture-search', the files say 'gemnet'; "),
        ("license: other", "license: mit", "says license: 'mit'"),
        ("datasets:", "datasetz:", "says datasets: None"),
        ("license: other", "license: [other", "is no model card"),
        ("model-index:", "model-index: 3", "is no model card"),
        ("  results:", "  result:", "is no model card"),
        ("---\n", "", "says datasets: None"),
        ("name: gemnet-a-cifar", "name: best", "from the files it is"),
        ("| parameters | 309,738<!-- count: report.json#/cost/params -->", "| parameters |", "from the files it is"),
        ("figures are not the paper's", "figures beat the paper's by ten points", "from the files it is"),
        ("checked before", "checked and nothing else before", "from the files it is"),
        ("model = gemnet.from_pretrained(", "model = gemnet.load_anything(", "from the files it is"),
        ('"hf-hub:', '"hub:', "from the files it is"),
    ],
)
def test_a_card_that_was_changed_is_found_out(folder, said, instead, words):
    card = write_card(folder, REPO, TAG)
    text = card.read_text(encoding="utf-8")
    assert said in text
    card.write_text(text.replace(said, instead, 1), encoding="utf-8")
    with pytest.raises(CardError) as error:
        check_card(folder)
    assert words in str(error.value)


@pytest.mark.parametrize("end", ["\n", "Better."])
def test_nothing_may_follow_a_card(folder, end):
    card = write_card(folder, REPO, TAG)
    card.write_text(card.read_text(encoding="utf-8") + end, encoding="utf-8")
    with pytest.raises(CardError, match="gemnet publish --dry-run writes a release with its card anew"):
        check_card(folder)


def test_a_card_that_names_no_release_is_refused(folder):
    card = write_card(folder, REPO, TAG)
    card.write_text(card.read_text(encoding="utf-8").replace("hf-hub:", "hub:"), encoding="utf-8")
    with pytest.raises(CardError, match="never says which release it is of"):
        check_card(folder)


@pytest.mark.parametrize(
    ("file", "path", "value"),
    [
        ("train.json", ("asked", "data"), {}), ("train.json", ("asked", "data"), None),
        ("train.json", ("asked", "recipe"), []), ("train.json", ("asked", "model", "name"), 3),
        ("train.json", ("hardware",), 1), ("train.json", ("result",), []), ("train.json", ("result", "test"), 7),
        ("train.json", ("asked", "data", "mean"), "x"), ("report.json", ("files",), []),
        ("report.json", ("files",), {}), ("report.json", ("files", "model.onnx"), {}), ("report.json", ("image",), 3),
        ("report.json", ("versions",), None), ("report.json", ("machine",), []),
    ],
)  # fmt: skip
def test_junk_in_a_file_is_one_clear_error(folder, file, path, value):
    write_card(folder, REPO, TAG)
    change(folder, file, *path, to=value)
    for action in (lambda: write_card(folder, REPO, TAG), lambda: check_card(folder)):
        with pytest.raises(CardError) as error:
            action()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "title"),
    [("cells/cell2.json", "cell2"), ("v1.2.json", "v1.2"), ("2nd cell.json", "2nd cell"), ("a_b.cifar10", r"a\_b")],
)
def test_a_models_name_may_have_digits(folder, name, title):
    change(folder, "train.json", "asked", "model", "name", to=name)
    text = write_card(folder, REPO, TAG).read_text(encoding="utf-8")
    assert f"\n# {title}<!-- name: train.json#/asked/model/name -->\n" in text
    check_card(folder)


def test_the_command_to_finetune_is_one_that_train_takes(folder):
    text = write_card(folder, REPO, TAG).read_text(encoding="utf-8")
    assert "--data folder:my-images --recipe finetune --set img_size=32 --out tuned" in text
    assert override(load("finetune"), ["img_size=32"]).img_size == 32


def test_images_without_labels_have_no_accuracy(folder):
    shown = without_sources(write_card(folder, REPO, TAG).read_text(encoding="utf-8"))
    assert "Accuracy and agreement are of 512 images of the validation split of cifar-10 v2;" in shown
    for name in ("model.onnx", "model.int8.onnx"):
        change(folder, "report.json", "files", name, "accuracy", to=None)
    shown = without_sources(write_card(folder, REPO, TAG).read_text(encoding="utf-8"))
    assert "Agreement is of 512 images of cifar-10 v2;" in shown


def test_one_is_no_plural(folder):
    shown = without_sources(write_card(folder, REPO, TAG).read_text(encoding="utf-8"))
    assert "20 epochs took" in shown and "\n1 thread and PyTorch" in shown
    change(folder, "train.json", "result", "epochs_run", to=1)
    assert "\n1 epoch took" in without_sources(write_card(folder, REPO, TAG).read_text(encoding="utf-8"))


def test_a_source_that_was_changed_is_found_out(folder):
    write_card(folder, REPO, TAG)
    change(folder, "report.json", "cost", "params", to=309_739)
    with pytest.raises(CardError, match=r"309,738.*says '309,739'"):
        check_card(folder)


@pytest.mark.parametrize(
    ("file", "path", "value", "words"),
    [
        ("report.json", ("cost", "macs"), "many", "cannot be shown as count"),
        ("report.json", ("cost", "macs"), True, "cannot be shown as count"),
        ("report.json", ("cost", "macs"), float("nan"), "cannot be shown as count"),
        ("report.json", ("cost",), {}, "has no /cost/params"),
        ("report.json", ("net", "head_chs"), 9, "different networks"),
        ("train.json", ("result",), None, "not over"),
        ("train.json", ("asked",), {}, "not what gemnet export and train write"),
        ("train.json", ("result", "test", "top1"), None, "cannot be shown as percent"),
    ],
)
def test_a_figure_without_a_source_ends_the_card(folder, file, path, value, words):
    change(folder, file, *path, to=value)
    with pytest.raises(CardError) as error:
        write_card(folder, REPO, TAG)
    assert words in str(error.value)
    assert not (folder / "README.md").exists()


@pytest.mark.parametrize("name", ["report.json", "train.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CardError, match=name):
        write_card(folder, REPO, TAG)
    (folder / name).write_text("no json")
    with pytest.raises(CardError, match=f"{name} is no JSON file"):
        write_card(folder, REPO, TAG)


def test_what_a_check_misses_is_named_with_a_remedy(folder):
    remedy = "; gemnet publish --dry-run writes a release with its card anew"
    for name, words in (("README.md", "there is no card"), ("train.json", "cannot read")):
        write_card(folder, REPO, TAG)
        (folder / name).unlink()
        done = CliRunner().invoke(main, ["card", str(folder), "--check"])
        assert done.exit_code == 1 and done.stderr.count("\n") == 1
        assert done.stderr.startswith(f"Error: {words} {folder / name}") and done.stderr.endswith(f"{remedy}\n")


def test_two_long_lines_are_shown_where_they_differ(folder):
    card = write_card(folder, REPO, TAG)
    text = card.read_text(encoding="utf-8")
    line = max((line for line in text.partition("# gemnet")[2].splitlines() if "<!--" not in line), key=len)
    assert len(line) > 90
    card.write_text(text.replace(line, line[:-3] + "XYZ"), encoding="utf-8")
    with pytest.raises(CardError, match=r"is '\.\.\..*XYZ', from the files it is '\.\.\.") as error:
        check_card(folder)
    assert line[-10:] in str(error.value)


def test_a_template_cannot_show_a_number_by_itself(monkeypatch):
    words = environment().overlay(loader=DictLoader({"a.jinja": "{{ 'words' }} {{ count }}"}))
    monkeypatch.setattr("gemnet.export.card.environment", lambda: words)
    with pytest.raises(CardError, match="shows 3 without a source"):
        render("a.jinja", Sources(), count=3)
    with pytest.raises(CardError, match="without a source"):
        render("a.jinja", Sources())
    assert render("a.jinja", Sources(), count="three") == "words three"


def test_data_without_a_formal_licence_makes_the_weights_licence_other(folder):
    for fingerprint, expected in ((PUBLIC["cifar10"].fingerprints[0], "other"), ("unknown", "other"),
                                  (PUBLIC["fashion-mini"].fingerprints[0], "apache-2.0")):  # fmt: skip
        change(folder, "train.json", "asked", "data", "fingerprint", to=fingerprint)
        terms = licence(Facts.read(folder, Sources(folder)).data)
        assert (terms.id, bool(terms.name)) == (expected, expected == "other")
        data = ModelCard.load(write_card(folder, REPO, TAG)).data
        assert (data.license, data.get("license_name")) == (terms.id, terms.name or None)


def test_a_card_says_the_same_of_either_form_of_a_data_set(folder):
    known = ModelCard.load(write_card(folder, REPO, TAG))
    change(folder, "train.json", "asked", "data", "fingerprint", to="of other arrays")
    change(folder, "train.json", "result", "data_set", to="cifar10")
    named = ModelCard.load(write_card(folder, REPO, TAG))
    assert named.data.to_dict() == known.data.to_dict()
    assert named.data.datasets == ["uoft-cs/cifar10"] and "CIFAR-10 has no formal licence" in named.text
    assert named.text == known.text.replace(PUBLIC["cifar10"].fingerprints[0], "of other arrays")


def test_classes_are_named_as_the_config_names_them(folder):
    assert "classes/0 -->" in write_card(folder, REPO, TAG).read_text(encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"label_names": PUBLIC["cifar10"].classes}))
    assert "| airplane<!-- text: config.json#/label_names/0 -->" in write_card(folder, REPO, TAG).read_text("utf-8")
    check_card(folder)


def test_a_validation_accuracy_is_not_called_a_test(folder):
    change(folder, "train.json", "result", "test", to=None)
    card = ModelCard.load(write_card(folder, REPO, TAG))
    assert card.data.eval_results[0].dataset_split == "validation"
    assert card.data.eval_results[0].metric_value == 0.9042
    assert "There is no test split" in card.text
    check_card(folder)


def test_streamed_images_are_cropped_in_the_example_too(folder):
    assert "bleed" not in write_card(folder, REPO).read_text(encoding="utf-8")
    change(folder, "train.json", "asked", "recipe", to={"img_size": 224, "crop_pct": 0.875})
    assert "Image.Resampling.BICUBIC, bleed=0.0625)" in write_card(folder, REPO).read_text(encoding="utf-8")


def test_a_finetuned_model_says_that_it_is_one(folder):
    words = "began with weights that were trained before"
    assert words not in write_card(folder, REPO).read_text(encoding="utf-8")
    change(folder, "train.json", "asked", "model", "pretrained", to=True)
    assert words in write_card(folder, REPO).read_text(encoding="utf-8")


def test_the_cells_origin_is_its_own_or_the_zoos(folder):
    found = json.loads(zoo.path("cells", "gemnet_a.json").read_text())
    text = write_card(folder, REPO, TAG).read_text(encoding="utf-8")
    assert f"sha256:{found['provenance']['study_id'][:12]}" in text
    assert "zoo/cells/gemnet_a.json#/provenance/seed" in text
    own = copy.deepcopy(found)
    own["provenance"]["seed"] = 77
    (folder / "cell.json").write_text(json.dumps(own))
    assert "seed 77<!-- number: cell.json#/provenance/seed -->" in write_card(folder, REPO, TAG).read_text("utf-8")
    other = {"ops": ["input", "conv1x1"], "edges": [[0, 1]]}
    (folder / "cell.json").unlink()
    change(folder, "report.json", "cell", to={**found, **other})
    change(folder, "train.json", "asked", "model", "cells", to=[{**found, **other}])
    text = write_card(folder, REPO, TAG).read_text(encoding="utf-8")
    assert "not recorded how this cell was found" in text and "found by a search" not in text


def test_the_command_writes_and_checks(folder, tmp_path):
    run = CliRunner().invoke
    done = run(main, ["card", str(folder), "--repo", REPO, "--tag", TAG, "--out", str(tmp_path / "other.md")])
    assert done.exit_code == 0 and not (folder / "README.md").exists()
    done = run(main, ["card", str(folder), "--repo", REPO, "--tag", TAG, "--json"])
    assert json.loads(done.stdout)["figures"] == check_card(folder)
    assert (tmp_path / "other.md").read_bytes() == (folder / "README.md").read_bytes()
    assert run(main, ["card", str(folder), "--check"]).exit_code == 0
    (folder / "README.md").write_text((folder / "README.md").read_text("utf-8") + "\n9 of 10 like it\n", "utf-8")
    done = run(main, ["card", str(folder), "--check"])
    assert done.exit_code == 1
    assert done.stderr.startswith("Error: a number without a source in the card: '9 of 10 like it'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "say by --repo ORG/NAME"), (["--repo", "mine"], "a repository is named ORG/NAME"),
        (["--repo", 'a/b") # <!-- x'], "a repository is named ORG/NAME"),
        (["--repo", REPO, "--tag", 'v1"'], "a tag is a version such as v1.0.0"),
    ],
)  # fmt: skip
def test_the_command_refuses_names_that_the_hub_has_not(folder, options, words):
    done = CliRunner().invoke(main, ["card", str(folder), *options])
    assert done.exit_code == 2 and words in done.stderr
    assert not (folder / "README.md").exists()


def test_a_releases_card_is_not_written_over(folder, tmp_path):
    (folder / "manifest.json").write_text("{}")
    command = ["card", str(folder), "--repo", REPO, "--tag", TAG]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 2 and f"gemnet publish MODEL --repo {REPO} --tag {TAG} --dry-run" in done.stderr
    assert not (folder / "README.md").exists()
    assert CliRunner().invoke(main, [*command, "--out", str(tmp_path / "card.md")]).exit_code == 0
    write_card(folder, REPO, TAG)
    assert CliRunner().invoke(main, ["card", str(folder), "--check"]).exit_code == 0


def test_the_command_line_stays_light():
    code = "import sys, gemnet.export.card_cli; sys.exit(any(m in sys.modules for m in ('torch', 'huggingface_hub')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
