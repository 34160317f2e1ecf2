"""What `gemnet doctor` says of this package: folders, plugin, weights, installations."""

import json

import pytest
from click.testing import CliRunner

from gemnet import doctor_package, plugin
from gemnet.cli import main
from gemnet.doctor import BROKEN, NOTE, OK
from gemnet.plugin import Status


def test_a_home_of_nobody_is_named(monkeypatch):
    variables = {"GEMNET_ZOO": "~nobody-is-called-so/x"}
    (finding,) = doctor_package.check_folders(variables, {})
    assert (finding.state, finding.fix) == (BROKEN, "unset GEMNET_ZOO")
    assert "there is no home of ~nobody-is-called-so" in finding.text
    monkeypatch.setenv("GEMNET_ZOO", variables["GEMNET_ZOO"])
    done = CliRunner().invoke(main, ["list", "--json"])
    assert done.exit_code == 0, done.output


def test_folders_that_variables_name_must_be_writable(tmp_path):
    assert doctor_package.check_folders({"GEMNET_ZOO": str(tmp_path)}, {})[0].state == OK
    (tmp_path / "file").write_text("")
    (finding,) = doctor_package.check_folders({"GEMNET_DATA": str(tmp_path / "file")}, {})
    assert (finding.state, finding.fix) == (BROKEN, "unset GEMNET_DATA")


@pytest.mark.parametrize(("state", "expected", "fix"), [
    ("enabled", OK, ""), ("disabled", OK, ""), ("incomplete", BROKEN, "gemnet plugin enable"),
])  # fmt: skip
def test_a_plugin_with_missing_files_is_named(monkeypatch, state, expected, fix):
    monkeypatch.setattr(plugin, "status", lambda: Status(state, "/site"))
    (finding,) = doctor_package.check_plugin({}, {})
    assert (finding.state, finding.fix) == (expected, fix)


def test_damaged_weights_are_named(monkeypatch, tmp_path):
    (tmp_path / "pretrained.json").write_text(json.dumps({"schema": "gemnet.pretrained/1", "weights": {
        "a.b": {"file": "weights/a.safetensors", "sha256": "0", "model_args": {"cell": {}, "net": {}}}}}))  # fmt: skip
    monkeypatch.setattr("gemnet.zoo.PACKAGE", tmp_path)
    (finding,) = doctor_package.check_weights({}, {})
    assert finding.state == BROKEN and "a.safetensors" in finding.text and "pip install" in finding.fix


def test_damaged_weights_of_the_users_zoo_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GEMNET_ZOO", str(tmp_path))
    listed = tmp_path / "pretrained.json"
    listed.write_text(json.dumps({"schema": "gemnet.pretrained/1", "weights": {
        "a.b": {"file": "weights/a.safetensors", "sha256": "0", "model_args": {"cell": {}, "net": {}}}}}))  # fmt: skip
    (finding,) = doctor_package.check_weights({}, {})
    assert (finding.state, finding.fix) == (BROKEN, "gemnet promote-weights DIR a.b --force")
    listed.write_text("{")
    (finding,) = doctor_package.check_weights({}, {})
    assert (finding.state, finding.fix) == (BROKEN, f"mv {listed} {listed}.bad")


def test_two_installations_are_named(installed):
    installed(gemnet="0.0.1")
    (finding,) = doctor_package.check_version({}, {})
    assert finding.state == BROKEN and "0.0.1 is installed" in finding.text
    installed(gemnet=None)
    assert doctor_package.check_version({}, {})[0].state == NOTE
