"""The zoo's index: as rows, as a command, as a page in a browser."""

import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from gemnet import zoo
from gemnet.catalog import FAMILY
from gemnet.cli import main
from gemnet.cost import cost
from gemnet.listing import list_models, table, timing
from gemnet.listing_page import to_html

NAME = "gemnet_a_cifar.test"
RESULT = {"data": "cifar10", "split": "test", "images": 10000, "top1": 0.9017, "top5": 0.9962}


def load_browser():
    path = Path(__file__).parents[1] / "search" / "browser.py"
    spec = importlib.util.spec_from_file_location("browser", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


browser = load_browser()


@pytest.fixture
def weights(tmp_path, monkeypatch, nobodys_zoo):
    """A zoo that has weights of gemnet_a_cifar, trained as the network of gemnet_b_cifar."""
    for kind in ("cells", "results"):
        shutil.copytree(zoo.path(kind), tmp_path / kind)
    form = FAMILY["gemnet_b_cifar"]
    entry = {
        "file": "weights/test.safetensors", "sha256": hashlib.sha256(b"").hexdigest(), "result": RESULT,
        "model_args": {"cell": form.load().to_dict(), "net": form.net().to_dict()},
    }  # fmt: skip
    both = {NAME: entry, "gemnet_a_cifar.bare": {**entry, "result": None}}
    listed = {"schema": "gemnet.pretrained/1", "weights": both}
    (tmp_path / "pretrained.json").write_text(json.dumps(listed))
    monkeypatch.setattr(zoo, "PACKAGE", tmp_path)


def test_every_network_is_listed_with_its_latency():
    rows = {entry.model: entry for entry in list_models()}
    assert set(rows) == set(FAMILY)
    times = {row["model"]: row["p50_ms"] for row in timing()["rows"]}
    assert {model: entry.latency_ms for model, entry in rows.items()} == times


def test_weights_of_no_network_are_named_with_their_list(weights, tmp_path):
    listed = json.loads((tmp_path / "pretrained.json").read_text())
    listed["weights"][NAME]["model_args"]["cell"]["ops"][1] = "conv9x9"
    (tmp_path / "pretrained.json").write_text(json.dumps(listed))
    result = CliRunner().invoke(main, ["list"])
    assert result.exit_code == 2
    for words in (NAME, str(tmp_path / "pretrained.json"), "unknown op 'conv9x9'"):
        assert words in result.stderr


def test_weights_are_listed_as_what_they_were_trained_as(weights):
    rows = {entry.name: entry for entry in list_models()}
    assert set(rows) == {"gemnet_a", "gemnet_b", NAME, "gemnet_a_cifar.bare", "gemnet_b_cifar"}
    entry, trained_as = rows[NAME], rows["gemnet_b_cifar"]
    assert (entry.macs, entry.params, entry.cell_key) == (trained_as.macs, trained_as.params, trained_as.cell_key)
    assert entry.latency_ms is None, "the time of another network was taken for it"
    assert (entry.result.top1, entry.result.data) == (0.9017, "cifar10")
    assert entry.weights == "package: weights/test.safetensors"
    assert rows["gemnet_a_cifar.bare"].result is None
    assert rows["gemnet_a"].weights == ""


@pytest.mark.parametrize(
    ("cfg", "kept"),
    [({}, True), ({"input_size": [3, 32, 32]}, True), ({"input_size": [1, 28, 28]}, False),
     ({"input_size": [3, 64, 64]}, False), ({"num_classes": 11}, False)],
)  # fmt: skip
def test_a_cost_is_of_the_weights_own_images(weights, tmp_path, cfg, kept):
    form = FAMILY["gemnet_a_cifar"]
    cell, net = form.load(), form.net()
    listed = json.loads((tmp_path / "pretrained.json").read_text())
    own = {"cell": cell.to_dict(), "net": net.to_dict()}
    listed["weights"][NAME].update(cfg=cfg, model_args=own)
    (tmp_path / "pretrained.json").write_text(json.dumps(listed))
    (entry,) = (entry for entry in list_models() if entry.name == NAME)
    chans, _, size = cfg.get("input_size", [3, 32, 32])
    price = cost(cell, net, size, chans, cfg.get("num_classes", 10))
    assert (entry.macs, entry.params, entry.img_size) == (price.macs, price.params, size)
    assert (entry.latency_ms is not None) == kept


def test_the_command_shows_names_costs_and_scores(weights):
    text = CliRunner().invoke(main, ["list"]).stdout
    (line,) = (line for line in text.splitlines() if line.startswith(NAME))
    for word in ("32 px", "2.42", "299.8", "cifar10", "90.17", "package: weights/test.safetensors"):
        assert word in line
    rows = json.loads(CliRunner().invoke(main, ["list", "--json"]).stdout)["models"]
    assert {row["name"]: row["result"] for row in rows}[NAME] == RESULT


def test_info_shows_the_weights_of_a_name(weights):
    text = CliRunner().invoke(main, ["info", "gemnet_a_cifar"]).stdout
    assert f"weights {NAME}: top-1 90.17 % on cifar10, test split; package: weights/test.safetensors" in text
    assert "weights gemnet_a_cifar.bare: not scored" in text
    assert "no weights; " in CliRunner().invoke(main, ["info", "gemnet_b"]).stdout
    scaled = json.loads(CliRunner().invoke(main, ["info", "gemnet_a_cifar", "--macs", "20", "--json"]).stdout)
    assert scaled["weights"] == []


def test_rows_are_as_long_as_their_heading(weights):
    assert len({len(row) for row in table(list_models())}) == 1


def test_a_page_is_written(tmp_path):
    done = CliRunner().invoke(main, ["list", "--html", str(tmp_path / "zoo.html")])
    assert done.exit_code == 0
    assert (tmp_path / "zoo.html").read_text(encoding="utf-8") == to_html(list_models())


def test_a_page_escapes_what_it_shows(weights, tmp_path):
    listed = json.loads((tmp_path / "pretrained.json").read_text())
    listed["weights"][NAME]["result"]["data"] = '<img src=x onerror="alert(1)">'
    (tmp_path / "pretrained.json").write_text(json.dumps(listed))
    assert "<img" not in to_html(list_models())


def test_a_page_shows_the_name_of_a_file_and_its_place_as_a_title(weights):
    assert 'title="package: weights/test.safetensors">test.safetensors</td>' in to_html(list_models())


@pytest.mark.skipif(browser.MISSING is not None, reason=browser.MISSING or "")
def test_the_page_in_a_browser(weights, tmp_path):
    listed = json.loads((tmp_path / "pretrained.json").read_text())
    listed["weights"][NAME]["file"] = "weights/gemnet_a_cifar.cifar10-0123abcd.safetensors"
    (tmp_path / "pretrained.json").write_text(json.dumps(listed))
    page = tmp_path / "zoo.html"
    page.write_text(to_html(list_models()), encoding="utf-8")
    rows = "[...document.querySelectorAll('#models tbody tr')]"
    names = f"return {rows}.filter(row => !row.hidden).map(row => row.cells[0].innerText)"
    search = "const s = document.querySelector('#search'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
    with browser.Browser() as window:
        window.open(page)
        assert window.run("const t = document.querySelector('.scroll'); return t.scrollWidth <= t.clientWidth")
        assert sorted(window.run(names)) == sorted(entry.name for entry in list_models())
        heads = window.run("return [...document.querySelectorAll('th')].map(h => h.innerText)")
        for heading, first, last in (("latency (ms)", "gemnet_a", "gemnet_b"), ("top-1 (%)", NAME, NAME)):
            click = f"document.querySelectorAll('th button')[{heads.index(heading)}].click()"
            window.run(click)
            assert window.run(names)[0] == first
            window.run(click)
            assert window.run(names)[0] == last, "what has no value must stand last in both directions"
        assert window.run("return document.querySelectorAll('[aria-sort]').length") == 1
        window.run(search, "CIFAR10 test")
        assert window.run(names) == [NAME]
        window.run(search, "no such model")
        assert window.run(names) == []
        assert window.run("return document.querySelector('#count').innerText") == "0 of 5 models"
        assert window.run("return document.querySelectorAll('.cell svg circle').length") > 16
        assert window.run("return document.documentElement.scrollWidth <= window.innerWidth")
        assert (window.console(), window.requests()) == ([], [])
