"""README's tables, MODEL_CARD.md and docs/zoo.html are what the zoo and the cost model say."""

import importlib.util
import re
from pathlib import Path

import pytest

from gemnet.catalog import FAMILY
from gemnet.cost import cost
from gemnet.scale import MACROS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["README.md", "docs/training.md", "MODEL_CARD.md", "docs/zoo.html"])
def test_what_is_rendered_is_not_stale(name, tables):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert tables.FILES[name](text) == text, "make cards renders it"


@pytest.mark.parametrize(("name", "count"), [("README.md", 10), ("docs/training.md", 4)])
def test_a_page_has_its_tables(name, count, tables):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert len(tables.MARKED.findall(text)) == text.count("<!-- table:") == count


def test_a_changed_figure_makes_a_file_stale(tables):
    for name, pattern in (("README.md", r"\| (\d)\.(\d\d) \|"), ("MODEL_CARD.md", r"(\d)\.(\d\d)<!--"),
                          ("docs/zoo.html", r">(\d)\.(\d\d)</td>")):  # fmt: skip
        text = (ROOT / name).read_text(encoding="utf-8")
        figure = re.search(pattern, text)
        changed = text[: figure.start(1)] + str(9 - int(figure[1])) + text[figure.end(1) :]
        assert changed != text
        assert tables.FILES[name](changed) == text


def test_published_costs_are_those_of_the_networks(tables):
    rows = {row["model"]: row for row in tables.read("models")["rows"]}
    assert set(rows) == set(FAMILY), "benchmarks/models.py writes it"
    for name, variant in FAMILY.items():
        form, cell = MACROS[variant.macro], variant.load()
        price = cost(cell, variant.net(), form.img_size, 3, form.num_classes)
        assert {key: rows[name][key] for key in vars(price)} == vars(price)
        assert rows[name]["cell_key"] == cell.key


@pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md", "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
