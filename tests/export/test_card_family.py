"""The card of the family, made from the zoo."""

import json
import shutil

import pytest

from gemnet import zoo
from gemnet.errors import CardError
from gemnet.export.card import family_card, measured
from gemnet.export.card_figures import Sources, check_figures, without_sources


def test_the_study_of_a_cell_is_found_among_the_results():
    origin = json.loads(zoo.path("cells", "gemnet_a.json").read_text())["provenance"]
    assert measured(origin).startswith("zoo/results/search_")
    assert measured(origin | {"metrics": {"val_acc": 0.1, "macs": 1.0}}) == ""


def test_the_familys_card_has_a_source_for_every_figure():
    text = family_card()
    assert check_figures(text, Sources()) > 30
    with pytest.raises(CardError, match="without a source"):
        check_figures(text + "\n77 %", Sources())


def test_the_familys_card_shows_weights_when_there_are_some(tmp_path, monkeypatch):
    for kind in ("cells", "results"):
        shutil.copytree(zoo.path(kind), tmp_path / kind)
    result = {"data": "cifar10", "split": "test", "images": 10000, "top1": 0.9017, "top5": 0.9962}
    weights = {"a.cifar10": {"result": result}, "a.own": {"result": {**result, "data": "my"}}, "a.bare": {}}
    (tmp_path / "pretrained.json").write_text(json.dumps({"weights": weights}))
    monkeypatch.setattr(zoo, "PACKAGE", tmp_path)
    lines = without_sources(family_card()).splitlines()
    assert "| `a.cifar10` | CIFAR-10 | 90.17 % | 99.62 % | 10,000 images of the test split |" in lines
    assert "| `a.own` | `my` | 90.17 % | 99.62 % | 10,000 images of the test split |" in lines
    assert "| `a.bare` | not recorded | | | |" in lines
    assert not any("no trained weights" in line for line in lines)
