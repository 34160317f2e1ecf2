"""The tables of README and MODEL_CARD are what zoo/results and the cost model say."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "count"), [("README.md", 6), ("MODEL_CARD.md", 2)])
def test_tables_are_not_stale(name, count, tables):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert tables.render(text) == text
    assert len(tables.MARKED.findall(text)) == text.count("<!-- table:") == count


def test_a_changed_figure_makes_a_table_stale(tables):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    changed = re.sub(r"\| (\d+\.\d+) \| (\d+\.\d) \|", r"| \1 | 9\2 |", text, count=1)
    assert changed != text
    assert tables.render(changed) == text


@pytest.mark.parametrize("name", ["README.md", "MODEL_CARD.md", "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists(), target
