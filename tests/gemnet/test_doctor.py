"""Each finding of `gemnet doctor`, on packages, folders and variables that are wrong in one way.

Packages are stood in for by files of a test: a fake torch on PYTHONPATH is imported by the doctor's own process.
"""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from gemnet import doctor, doctor_hub, doctor_machine, doctor_package, doctor_stack, plugin
from gemnet.cli import main
from gemnet.doctor import BROKEN, NOTE, OK, Finding
from gemnet.plugin import Status

ROOT = Path(__file__).parents[2]
TORCH = {"version": "2.15.0", "cuda": "13.2", "threads": 1, "gpus": [], "heard": []}
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


@pytest.fixture
def installed(monkeypatch):
    """Sets the versions that packages are installed in; None for one that is not."""

    def set_versions(**versions: str | None) -> None:
        real = metadata.version

        def version(name: str) -> str:
            found = versions[name] if name in versions else real(name)
            if found is None:
                raise metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(metadata, "version", version)

    return set_versions


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


@pytest.mark.parametrize(
    ("variables", "threads", "state"),
    [({"OMP_NUM_THREADS": "2"}, 2, OK), ({"OMP_NUM_THREADS": "3"}, 1, NOTE), ({}, 8, NOTE), ({}, 1, OK),
     ({"OMP_NUM_THREADS": "2,4"}, 1, OK), ({"OMP_NUM_THREADS": " 4 , 2"}, 1, NOTE),
     ({"OMP_NUM_THREADS": "2,"}, 1, NOTE), ({"OMP_NUM_THREADS": "9" * 5000}, 1, NOTE),
     ({"OMP_NUM_THREADS": "many"}, 1, NOTE), ({"OMP_NUM_THREADS": "0"}, 1, NOTE), ({"OMP_NUM_THREADS": ""}, 1, NOTE)],
)  # fmt: skip
def test_threads_are_held_against_the_cores_that_may_be_used(monkeypatch, variables, threads, state):
    monkeypatch.setattr(doctor_machine, "usable_cores", lambda: 2)
    (finding,) = doctor_machine.check_threads(variables, {"torch": TORCH | {"threads": threads}})
    assert finding.state == state
    assert finding.fix == ("export OMP_NUM_THREADS=2" if state == NOTE else "")


@pytest.mark.parametrize(
    ("files", "own", "expected"),
    [
        ({"cpu.max": "150000 100000"}, "0::/", 2),
        ({"cpu.max": "50000 100000"}, "0::/", 1),
        ({"cpu.max": "max 100000"}, "0::/", 64),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 3),
        ({"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, "4:cpuacct,cpu:/a", 4),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu:/", 64),
        ({"cpu.max": "nonsense"}, "nonsense", 64),
        ({}, None, 64),
    ],
)
def test_control_groups_limit_the_cores(tmp_path, monkeypatch, files, own, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    if own is not None:
        (tmp_path / "own").write_text(own + "\n")
    assert doctor_machine.usable_cores(tmp_path, tmp_path / "own") == expected


@pytest.mark.parametrize(
    ("torch", "driver", "variables", "state", "words", "fix"),
    [
        (TORCH, False, {}, OK, "none", ""),
        (TORCH | {"gpus": ["H200"]}, True, {}, OK, "H200, CUDA 13.2", ""),
        (TORCH | {"cuda": None}, True, {}, NOTE, "CPU-only build", "pip install --force-reinstall torch torchvision"),
        (TORCH, True, {"CUDA_VISIBLE_DEVICES": ""}, NOTE, "hides it", "unset CUDA_VISIBLE_DEVICES"),
        (TORCH | {"heard": ["The NVIDIA driver on your system is too old"]}, True, {}, NOTE, "too old", "nvidia-smi"),
    ],
)
def test_a_gpu_that_is_not_used_is_named(tmp_path, monkeypatch, torch, driver, variables, state, words, fix):
    monkeypatch.setattr(doctor_machine, "DRIVER", ROOT if driver else tmp_path / "none")
    monkeypatch.setenv("PATH", "")
    (finding,) = doctor_machine.check_gpu(variables, {"torch": torch})
    assert finding.state == state
    assert words in finding.text and finding.fix.endswith(fix) and bool(finding.fix) == bool(fix)


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


def test_two_installations_are_named(installed):
    installed(gemnet="0.0.1")
    (finding,) = doctor_package.check_version({}, {})
    assert finding.state == BROKEN and "0.0.1 is installed" in finding.text
    installed(gemnet=None)
    assert doctor_package.check_version({}, {})[0].state == NOTE


def test_old_pythons_are_named(monkeypatch):
    assert doctor_machine.check_python({}, {})[0].state == OK
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    assert doctor_machine.check_python({}, {})[0].state == BROKEN


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
