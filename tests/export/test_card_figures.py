"""Figures of cards and where they come from."""

import json

import pytest

from gemnet.errors import CardError
from gemnet.export.card_figures import FORMS, Sources


@pytest.mark.parametrize(
    ("form", "value", "shown"),
    [("count", 1234567.0, "1,234,567"), ("percent", 0.12345, "12.35 %"), ("text", "a|b *c*\n<d>", r"a\|b \*c\* \<d\>"),
     ("error", {"top1": 0.5, "images": 100}, "5.00"), ("number", 0.0005, "0.0005"), ("minutes", 90, "1.5")],
)  # fmt: skip
def test_forms(form, value, shown):
    assert FORMS[form](value) == shown


def test_pointers_are_those_of_rfc_6901(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"a/b": {"m~n": [5, 6]}, "": 7}))
    sources = Sources(tmp_path)
    assert sources.value("a.json#/a~1b/m~0n/1") == 6
    assert sources.value("a.json#/") == 7
    for wrong in ("a.json#/x", "a.json#/a~1b/m~0n/2", "a.json#/a~1b/m~0n/k", "a.json#//1"):
        with pytest.raises(CardError, match="has no"):
            sources.value(wrong)


@pytest.mark.parametrize("source", ["/etc/a.json#/a", "../a.json#/a", "zoo/../a.json#/a", "a.txt#/a", "#/a"])
def test_sources_are_json_files_beside_the_card(source, tmp_path):
    with pytest.raises(CardError, match="is no source"):
        Sources(tmp_path).value(source)
