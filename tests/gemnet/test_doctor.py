"""Each finding of `gemnet doctor`, on packages, folders and variables that are wrong in one way.

Packages are stood in for by files of a test: a fake torch on PYTHONPATH is imported by the doctor's own process.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from gemnet import doctor, doctor_stack
from gemnet.cli import main
from gemnet.doctor import BROKEN, NOTE, OK, Finding

ROOT = Path(__file__).parents[2]
FAKE_TORCH = """
__version__ = "2.15.0+cpu"
class version: cuda = None
class cuda:
    is_available = staticmethod(lambda: False)
get_num_threads = lambda: 7
"""
FAKE_TIMM = "__version__ = '1.0.31'\ndef list_models(pattern): return ['gemnet_a']\n"


def one(findings: list[Finding], about: str) -> Finding:
    (found,) = (finding for finding in findings if finding.about == about)
    return found


@pytest.fixture
def packages(tmp_path):
    """Writes fake packages and returns variables with which Python imports them."""

    def write(**sources: str) -> dict[str, str]:
        for name, text in sources.items():
            (tmp_path / f"{name}.py").write_text(text)
        return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "PATH": os.environ["PATH"]}

    return write


def test_a_whole_stack_is_well(packages):
    stack = doctor_stack.import_stack(packages(torch=FAKE_TORCH, torchvision="__version__ = '0.30'", timm=FAKE_TIMM))
    assert stack["torch"]["threads"] == 7
    findings = doctor_stack.check_stack({}, stack)
    assert [(f.about, f.state) for f in findings] == [(n, OK) for n in ("torch", "torchvision", "timm", "models")]
    assert "error" not in stack


def test_a_cpu_only_torch_beside_another_torchvision_is_no_pair(packages, installed):
    installed(torchvision="0.30.0")
    broken = "raise RuntimeError('operator torchvision::nms does not exist')"
    stack = doctor_stack.import_stack(packages(torch=FAKE_TORCH, torchvision=broken, timm=FAKE_TIMM))
    finding = one(doctor_stack.check_stack({}, stack), "torchvision")
    assert finding.state == BROKEN
    assert "0.30.0 and torch 2.15.0+cpu, which is a CPU-only build, are no pair" in finding.text
    assert "operator torchvision::nms does not exist" in finding.text
    assert re.search(r"pip install --force-reinstall 'torch>=[\d.]+' 'torchvision>=[\d.]+'$", finding.fix)


@pytest.mark.parametrize(
    ("broken", "version", "about", "words"),
    [
        ({"torch": "raise OSError('libcudart.so: not found')"}, "2.15.0", "torch", "libcudart.so: not found"),
        ({"torch": "import os; os.kill(os.getpid(), 4)"}, "2.15.0", "torch", "killed by signal 4"),
        ({"torch": "import os; os._exit(3)"}, "2.15.0", "torch", "exit code 3"),
        ({"torch": "raise ModuleNotFoundError"}, None, "torch", "not installed"),
        ({"torchvision": "raise ModuleNotFoundError"}, None, "torchvision", "not installed"),
        ({"timm": "raise ImportError('no timm.x')"}, "1.0.31", "timm", "no timm.x"),
        ({"timm": "__version__ = '0.9.16'\ndef list_models(_): return ['gemnet']"}, "0.9.16", "timm", "is needed"),
        ({"torch": FAKE_TORCH.replace("2.15.0", "2.9.1")}, "2.9.1", "torch", "is needed"),
        ({"timm": FAKE_TIMM.replace("['gemnet_a']", "[]")}, "1.0.31", "models", "timm does not know them"),
    ],
)
def test_a_broken_stack_is_named(packages, installed, broken, version, about, words):
    installed(**{about: version})
    sources = {"torch": FAKE_TORCH, "torchvision": "__version__ = '0.30'", "timm": FAKE_TIMM, **broken}
    findings = doctor_stack.check_stack({}, doctor_stack.import_stack(packages(**sources)))
    finding = one(findings, about)
    assert finding.state == BROKEN
    assert words in finding.text
    assert finding.fix.startswith(f"{sys.executable} -m pip install ")


def test_requirements_are_those_of_the_project(installed):
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [f"{name}>={floor}" for name, floor in doctor_stack.requirements()] == listed


@pytest.mark.parametrize(
    ("name", "version", "words", "fix"),
    [("onnx", None, "not installed", "-m pip install 'onnx>="),
     ("onnx", "1.2.3", "1.2.3, but onnx>=", "--upgrade 'onnx>="), ("click", None, "not installed", "'click>=")],
)  # fmt: skip
def test_a_missing_or_old_package_is_named(monkeypatch, installed, name, version, words, fix):
    monkeypatch.setattr(doctor_stack, "NATIVE", ())
    installed(**{name: version})
    finding = one(doctor_stack.check_requirements({}, {}), name)
    assert finding.state == BROKEN
    assert words in finding.text and fix in finding.fix


def test_a_package_that_cannot_be_imported_is_named(monkeypatch, packages):
    monkeypatch.setattr(doctor_stack, "NATIVE", ("onnx",))
    variables = packages(onnx="raise ImportError('libprotobuf is missing')")
    finding = one(doctor_stack.check_requirements(variables, {}), "onnx")
    assert finding.state == BROKEN and "libprotobuf is missing" in finding.text


def test_a_missing_extra_is_no_fault(monkeypatch, installed):
    monkeypatch.setattr(doctor_stack, "NATIVE", ())
    installed(ray=None)
    finding = one(doctor_stack.check_requirements({}, {}), "ray")
    assert finding.state == NOTE and "[ray]" in finding.fix


@pytest.mark.parametrize(("version", "floor", "expected"), [
    ("2.15.0+cu132", "2.11", False), ("2.9.1", "2.11", True), ("1.0.31", "1.0.25", False), ("2.11.0", "2.11", False),
    ("3", "", False), ("1.0", "1.0.1", True),
])  # fmt: skip
def test_versions_are_compared_as_numbers(version, floor, expected):
    assert doctor_stack.older(version, floor) is expected


def test_files_of_the_working_folder_are_not_imported(packages, tmp_path, monkeypatch):
    variables = packages(torch=FAKE_TORCH, torchvision="__version__ = '0.30'", timm=FAKE_TIMM)
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "json.py").write_text("raise SystemExit('a file of the working folder was imported')")
    monkeypatch.chdir(tmp_path / "cwd")
    assert "error" not in doctor_stack.import_stack(variables)


def test_what_only_this_process_finds_is_found_last(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("")
    (tmp_path / "json.py").write_text("raise SystemExit('it hides a package')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert doctor_stack.run("import json, only_here, gemnet", {"PATH": os.environ["PATH"]}) == ("", [])


def test_a_check_that_fails_leaves_the_others(monkeypatch):
    def fail(*_: object) -> list[Finding]:
        raise OSError("disk on fire")

    monkeypatch.setattr(doctor_stack, "import_stack", fail)
    monkeypatch.setattr(doctor, "checks", lambda: {"one": fail, "two": lambda *_: [Finding("two", OK, "fine")]})
    first, second = doctor.examine({})
    assert (first.state, second) == (BROKEN, Finding("two", OK, "fine"))
    assert "disk on fire" in first.text


def test_the_command_runs_where_nothing_can_be_imported(packages):
    names = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "numpy", "scipy", "huggingface_hub", "safetensors")
    variables = packages(**dict.fromkeys(names, "raise ImportError('broken on purpose')"))
    run = [sys.executable, "-m", "gemnet.cli", "doctor"]
    done = subprocess.run([*run, "--json"], env=variables, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    said = json.loads(done.stdout)
    broken = {finding["about"] for finding in said["findings"] if finding["state"] == BROKEN}
    assert said["ok"] is False
    assert {"torch", "onnx", "onnxruntime", "numpy", "huggingface-hub", "safetensors"} <= broken
    assert not any("this check itself failed" in finding["text"] for finding in said["findings"])
    assert all(finding["fix"] for finding in said["findings"] if finding["state"] != OK)


@pytest.mark.parametrize(("state", "code"), [(OK, 0), (NOTE, 0), (BROKEN, 1)])
def test_the_exit_code_says_whether_something_is_broken(monkeypatch, state, code):
    monkeypatch.setattr(doctor, "examine", lambda: [Finding("thing", state, "text", "" if state == OK else "mend it")])
    done = CliRunner().invoke(main, ["doctor"])
    assert done.exit_code == code
    assert ("mend it" in done.stdout) == (state != OK)
