import json

import pytest

from gemnet import zoo
from gemnet.catalog import FAMILY, cell_notes, find_cell, resolve
from gemnet.cell import Cell
from gemnet.cost import cost
from gemnet.errors import CellError, UnknownNameError


@pytest.fixture
def user_zoo(tmp_path, monkeypatch, chain):
    monkeypatch.setenv("GEMNET_ZOO", str(tmp_path))
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "mine.json").write_text(json.dumps(chain.to_dict() | {"provenance": {"seed": 3}}))
    return tmp_path


def test_a_cell_is_found_by_name_path_and_object(user_zoo, chain):
    path = user_zoo / "cells" / "mine.json"
    assert find_cell("mine") == find_cell(path) == find_cell(str(path)) == find_cell(chain.to_dict()) == chain
    assert find_cell(chain) is chain


def test_the_users_zoo_comes_before_the_packages(user_zoo, chain):
    packaged = find_cell("gemnet_a")
    (user_zoo / "cells" / "gemnet_a.json").write_text(json.dumps(chain.to_dict()))
    assert find_cell("gemnet_a") == chain != packaged
    assert FAMILY["gemnet_a"].load() == resolve("gemnet_a")[0] == packaged  # a registered name stays what it is
    assert {"mine", "gemnet_a", "gemnet_b"} <= set(zoo.names("cells"))


@pytest.mark.parametrize("name", ["", "../cells/gemnet_a", "..", "cells/gemnet_a"])
def test_a_name_is_no_path(name):
    assert zoo.find("cells", name) is None


def test_notes_are_what_a_file_says_beyond_the_graph(user_zoo):
    assert cell_notes("mine") == {"provenance": {"seed": 3}}
    assert cell_notes({"schema": "x", "provisional": True}) == {"provisional": True}


@pytest.mark.parametrize("name", ["gemnet_a", "gemnet_b"])
def test_packaged_cells_are_in_normal_form_and_say_where_they_come_from(name):
    cell, notes = Cell.load(zoo.path("cells", f"{name}.json")), cell_notes(zoo.path("cells", f"{name}.json"))
    assert cell.normal_form() == cell
    provenance = notes["provenance"]
    assert {"settings", "seed", "versions", "metrics", "score", "study_id"} <= set(provenance)
    assert provenance["settings"]["data"]["name"] == "npz:cifar10.npz"
    assert 0 < provenance["metrics"]["val_acc"] < 1


def test_registered_names_resolve_to_their_macro():
    for name, variant in FAMILY.items():
        cell, net, macro = resolve(name)
        assert (cell, net, macro) == (find_cell(variant.cell), variant.net(), variant.macro)
    assert resolve("gemnet_a", "small")[1] == FAMILY["gemnet_a_cifar"].net()


def test_unknown_names_list_models_and_cells():
    words = r"model or cell 'gemnet_aa' \(did you mean 'gemnet_a'\?\).*gemnet_b_cifar"
    with pytest.raises(UnknownNameError, match=words):
        resolve("gemnet_aa")
    with pytest.raises(CellError, match=r"cannot read cell file nothing\.json"):
        resolve("nothing.json")


def test_names_with_a_tag_are_among_the_known():
    with pytest.raises(UnknownNameError, match=r"known: .*gemnet_a_cifar\.cifar10, "):
        resolve("gemnet_a.cifar10")


def test_an_empty_name_and_one_of_the_hub_have_a_remedy():
    for find in (find_cell, resolve):
        with pytest.raises(CellError, match="the name is empty; gemnet list shows"):
            find("")
        with pytest.raises(CellError, match="a model on the Hub; gemnet fetch acme/net@v1 --to DIR, then name DIR"):
            find("hf-hub:acme/net@v1")


@pytest.mark.parametrize("reference", [3, None, b"gemnet_a", {"gemnet_a"}, "a\0.json"])
def test_what_names_no_cell_is_refused(reference):
    with pytest.raises(CellError, match="a cell is named by"):
        find_cell(reference)


def test_macs_are_counted_at_the_image_size_asked_for(chain):
    price = {}
    for size in (32, 64):
        _, net, _ = resolve(chain.to_dict(), "small", 20_000_000, img_size=size, in_chans=1, num_classes=3)
        price[size] = cost(chain, net, size, 1, 3).macs
    assert all(16e6 < macs <= 20e6 for macs in price.values())
    assert resolve("gemnet_a", img_size=64)[1] == FAMILY["gemnet_a"].net()
