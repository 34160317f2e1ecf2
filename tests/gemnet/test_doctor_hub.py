"""What `gemnet doctor` says of the Hub's client: its variables and its cache."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gemnet import doctor_hub
from gemnet.doctor import BROKEN, NOTE, OK


@pytest.mark.parametrize(
    ("variables", "state", "words", "fix"),
    [
        ({}, OK, "none contradicts", ""),
        ({"HF_HOME": "/a", "HF_HUB_CACHE": "/a/hub"}, OK, "none contradicts", ""),
        ({"HF_HUB_CACHE": "/a", "HUGGINGFACE_HUB_CACHE": "/b"}, NOTE, "differ", "unset HUGGINGFACE_HUB_CACHE"),
        ({"HF_HOME": "/a", "HF_HUB_CACHE": "/b"}, NOTE, "downloads go to /b", "unset HF_HUB_CACHE"),
        ({"HF_ENDPOINT": "hub.example"}, BROKEN, "is no address", "unset HF_ENDPOINT"),
        ({"HF_TOKEN": "hf_secret x"}, BROKEN, "HF_TOKEN has white space", "unset HF_TOKEN"),
        ({"HF_TOKEN": '"hf_secret"'}, BROKEN, "HF_TOKEN has quotes", "unset HF_TOKEN"),
        ({"HF_ENDPOINT": "https://"}, BROKEN, "is no address", "unset HF_ENDPOINT"),
        ({"HF_ENDPOINT": "https://hub.example "}, BROKEN, "is no address", "unset HF_ENDPOINT"),
        ({"HF_ENDPOINT": "http://[::1"}, BROKEN, "is no address", "unset HF_ENDPOINT"),
        ({"HF_ENDPOINT": "http://localhost:8080/hub/"}, OK, "none contradicts", ""),
        ({"HF_HUB_CACHE": "/a/./b", "HUGGINGFACE_HUB_CACHE": "/a/b/"}, OK, "none contradicts", ""),
        ({"HF_HOME": ""}, NOTE, "HF_HOME is empty, which the client takes for the working folder", "unset HF_HOME"),
        ({"HF_HUB_OFFLINE": "1"}, NOTE, "HF_HUB_OFFLINE keeps", "unset HF_HUB_OFFLINE"),
        ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, OK, "none contradicts", ""),
        ({"TRANSFORMERS_OFFLINE": "yes"}, NOTE, "TRANSFORMERS_OFFLINE keeps", "unset TRANSFORMERS_OFFLINE"),
        ({"HF_HUB_ENABLE_HF_TRANSFER": "1"}, NOTE, "does nothing", "unset HF_HUB_ENABLE_HF_TRANSFER"),
    ],
)
def test_variables_that_contradict_are_named(variables, state, words, fix):
    (finding,) = doctor_hub.check_variables(variables, {})
    assert (finding.state, finding.fix) == (state, fix)
    assert words in finding.text and "secret" not in finding.text


@pytest.mark.parametrize(
    "variables",
    [{}, {"HF_HOME": "~/x"}, {"XDG_CACHE_HOME": "/c", "HF_HUB_OFFLINE": "on"},
     {"HUGGINGFACE_HUB_CACHE": "/d", "HF_HUB_OFFLINE": "", "TRANSFORMERS_OFFLINE": "1"},
     {"HF_HOME": "$HOME/y", "HF_HUB_CACHE": "~/z", "HF_HUB_OFFLINE": "no", "TRANSFORMERS_OFFLINE": "1"},
     {"HF_HOME": "/a/./b/"}, {"HF_HOME": ""}, {"HF_HUB_CACHE": ""}],
)  # fmt: skip
def test_variables_mean_what_the_client_takes_them_for(variables):
    code = "import huggingface_hub.constants as c; print(c.HF_HOME, c.HF_HUB_CACHE, c.HF_HUB_OFFLINE, sep=chr(10))"
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    run = [sys.executable, "-c", code]
    done = subprocess.run(run, env=clean | variables, capture_output=True, text=True, check=True)
    own_home, own_cache, offline = done.stdout.split("\n")[:3]
    assert (Path(own_home), Path(own_cache)) == (doctor_hub.home(variables), doctor_hub.cache(variables))
    assert offline == str(doctor_hub.is_offline(variables))


@pytest.mark.parametrize("home", ["/a/", "/a/./b/.", ""])
def test_a_folder_written_in_another_way_was_not_set_too_late(monkeypatch, home):
    hub = SimpleNamespace(constants=SimpleNamespace(
        HF_HOME=home, HF_HUB_CACHE=os.path.join(home, "hub"), HF_HUB_OFFLINE=False))  # fmt: skip
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert [f.state for f in doctor_hub.check_late({"HF_HOME": home}, {})] == [OK]


def test_variables_set_too_late_are_named(monkeypatch):
    hub = SimpleNamespace(constants=SimpleNamespace(
        HF_HOME="/a", HF_HUB_CACHE="/a/hub", HF_HUB_OFFLINE=False, ENDPOINT="https://a"))  # fmt: skip
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert [f.state for f in doctor_hub.check_late({"HF_HOME": "/a", "HF_ENDPOINT": "https://a/"}, {})] == [OK]
    late = doctor_hub.check_late({"HF_HOME": "/b", "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "https://b"}, {})
    assert [f.fix for f in late] == ["export HF_HOME=/b", "export HF_HUB_OFFLINE=1", "export HF_ENDPOINT=https://b"]
    assert all(f.state == BROKEN and "was set after huggingface_hub was imported" in f.text for f in late)
    monkeypatch.delitem(sys.modules, "huggingface_hub")
    assert doctor_hub.check_late({"HF_HOME": "/b"}, {})[0].state == OK


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    (finding,) = doctor_hub.check_cache({"HF_HOME": str(tmp_path / "file" / "hf")}, {})
    assert finding.state == BROKEN
    assert f"{tmp_path}/file/hf/hub cannot be written (Not a directory)" in finding.text
    variable, _, place = finding.fix.removeprefix("export ").partition("=")
    assert doctor_hub.check_cache({variable: place}, {})[0].state == OK


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", int)() == 0, reason="root may write anywhere")
def test_a_cache_of_somebody_else_is_named(tmp_path):
    tmp_path.chmod(0o500)
    (finding,) = doctor_hub.check_cache({"HF_HOME": str(tmp_path)}, {})
    tmp_path.chmod(0o700)
    assert "Permission denied" in finding.text


def test_a_cache_that_is_not_there_yet_is_well_and_stays_so(tmp_path):
    (finding,) = doctor_hub.check_cache({"HF_HOME": str(tmp_path / "a" / "b")}, {})
    assert finding.state == OK
    assert not list(tmp_path.iterdir())


def test_links_that_lead_nowhere_are_named_and_mended(tmp_path):
    repo = tmp_path / "hub" / "models--acme--gem net"
    snapshot = repo / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "blobs" / "whole").write_text("{}")
    (snapshot / "whole.json").symlink_to("../../blobs/whole")
    variables = {"HF_HOME": str(tmp_path)}
    assert doctor_hub.check_cache(variables, {})[0].state == OK
    (snapshot / "config.json").symlink_to("../../blobs/gone")
    (finding,) = doctor_hub.check_cache(variables, {})
    assert finding.state == BROKEN
    assert "1 links of models--acme--gem net lead nowhere (config.json)" in finding.text
    subprocess.run(finding.fix, shell=True, check=True)
    assert doctor_hub.check_cache(variables, {})[0].state == OK
