import json
import subprocess
import sys

import click
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from gemnet.catalog import FAMILY, resolve
from gemnet.cli import main
from gemnet.cli_options import UserPath
from gemnet.cost import cost
from gemnet.search.cli import main as search


def run(*args: str):
    return CliRunner().invoke(main, list(args))


def test_list_names_every_model_with_its_cost():
    result = run("list", "--json")
    rows = {row["model"]: row for row in json.loads(result.stdout)["models"]}
    assert set(rows) == set(FAMILY)
    cell, net, _ = resolve("gemnet_a")
    assert rows["gemnet_a"]["macs"] == cost(cell, net).macs
    assert all(name in run("list").stdout for name in FAMILY)


def test_info_shows_cell_stages_and_cost():
    result = json.loads(run("info", "gemnet_b_cifar", "--json").stdout)
    cell, net, macro = resolve("gemnet_b_cifar")
    assert (result["macro"], result["cell"], result["net"]) == (macro, cell.to_dict(), net.to_dict())
    text = run("info", "gemnet_b_cifar").stdout
    assert f"MACs {result['macs'] / 1e6:.1f} M" in text
    assert f"{len(cell.ops) - 1} {cell.ops[-1]} <-" in text


def test_a_cell_file_is_scaled_as_asked(tmp_path, chain):
    file = tmp_path / "cell.json"
    file.write_text(json.dumps(chain.to_dict()))
    result = json.loads(run("info", str(file), "--macro", "small", "--macs", "20", "--json").stdout)
    assert 18e6 < result["macs"] <= 20e6


@pytest.fixture
def bad(tmp_path, chain):
    """Files of cells that are none, by what is wrong with them."""
    good = chain.to_dict()
    cells = {
        "cycle": {**good, "edges": [[0, 1], [1, 2], [2, 1]]},
        "op": {**good, "ops": ["input", "sepconv3x3", "sepconv7x7"]},
        "missing": {**good, "edges": [[0, 1], [1, 9]]},
        "large": {**good, "ops": ["input"] + ["conv1x1"] * 199, "edges": [[j, j + 1] for j in range(199)]},
        "unread": {**good, "edges": [[0, 1]]},
    }
    for name, cell in cells.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(cell))
    (tmp_path / "text.json").write_text("no json")
    (tmp_path / "weights.safetensors").write_bytes(b"\x80\x02pickled")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cycle.json"], "closes the cycle 1 -> 2 -> 1"),
        (["op.json"], "unknown op 'sepconv7x7' (did you mean 'sepconv"),
        (["missing.json"], "edge [1, 9] names a missing node"),
        (["large.json"], "2 to 64 nodes, got 200"),
        (["unread.json"], "input does not reach"),
        (["text.json"], "is no JSON file"),
        (["absent.json"], "cannot read cell file"),
        (["gemnet_q"], "unknown model or cell 'gemnet_q'"),
        (["gemnet_a_cifar", "--weights", "weights.safetensors"], "is no safetensors file"),
        (["gemnet_a_cifar", "--weights", "other.safetensors"], "another model's weights: the model has no 'a'"),
        (["gemnet_a_cifar", "--weights", "absent"], "cannot read weights"),
        (["gemnet_a", "--macs", "0.5"], "cannot be made as small as 0.5 M MACs"),
        (["gemnet_a", "--image-size", "16"], "too small"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(bad, monkeypatch, arguments, words):
    monkeypatch.chdir(bad)
    result = run("export", *arguments, "--out", "out")
    assert result.exit_code == 2
    assert words in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert not (bad / "out").exists()


def test_only_opsets_the_exporter_writes_are_taken(tmp_path):
    result = run("export", "gemnet_a_cifar", "--opset", "17", "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "17 is not in the range 18<=x<=23" in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("macs", ["nan", "inf", "0.0000001", "-1"])
def test_a_number_of_macs_that_is_none_is_refused(macs):
    result = run("info", "gemnet_a", "--macs", macs)
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_info_says_where_the_cell_comes_from():
    assert "found by nasgem on npz:cifar10.npz, seed 0, rank 1: val_acc" in run("info", "gemnet_a").stdout


@pytest.mark.parametrize("module", ["gemnet.cli", "gemnet.search.cli"])
def test_help_is_quick(module, within):
    call = [sys.executable, "-m", module, "--help"]
    assert within(0.3, lambda: subprocess.run(call, check=True, capture_output=True))


def paths_of(command: click.Command):
    yield from (p.type for p in command.params if isinstance(p.type, click.Path))
    for name in getattr(command, "commands", command.list_commands(None) if hasattr(command, "list_commands") else ()):
        yield from paths_of(command.get_command(click.Context(command), name))


@pytest.mark.parametrize("group", [main, search])
def test_every_path_that_is_asked_for_is_a_users(group):
    found = list(paths_of(group))
    assert len(found) > 5
    assert all(isinstance(kind, UserPath) for kind in found)


def test_a_tilde_is_the_home_folder_where_no_shell_expands_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run("list", "--html=~/zoo.html").exit_code == 0
    assert (tmp_path / "zoo.html").is_file()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("call", [("list", "--html", ""), ("train", "gemnet_a", "--out=", "--data=a", "--recipe=b")])
def test_an_empty_path_is_refused(call):
    result = run(*call)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "it is empty; name a file or a folder" in result.stderr
