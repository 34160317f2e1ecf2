"""The plugin's files are tried in folders that a fresh interpreter takes for its site-packages."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gemnet import plugin
from gemnet.cli import main
from gemnet.errors import UsageError

ROOT = Path(__file__).parents[2]


def start(site: Path, code: str, *paths: Path, says: str = "") -> str:
    """What a program prints that starts with `site` as a folder of packages; Python's messages must hold `says`."""
    begin = f"import site, sys; sys.path[:0] = {[str(path) for path in paths]!r}; site.addsitedir({str(site)!r})\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", begin + code], capture_output=True, text=True, check=False, cwd=site
    )
    assert done.returncode == 0, done.stderr
    assert says in done.stderr if says else done.stderr == ""
    return done.stdout.strip()


@pytest.fixture
def stand_ins(tmp_path):
    """A folder with a light `timm`, and our real hook in a `gemnet` whose entry points only say that they ran."""
    folder = tmp_path / "stand-ins"
    (folder / "gemnet").mkdir(parents=True)
    (folder / "timm.py").write_text("models = []\n")
    (folder / "gemnet" / "registration.py").write_text((ROOT / "gemnet" / "registration.py").read_text())
    (folder / "gemnet" / "__init__.py").write_text("from .registration import register\nregister()\n")
    (folder / "gemnet" / "gemnet.py").write_text("import timm\ntimm.models.append('gemnet_a')\n")
    return folder


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site").mkdir()
    return tmp_path / "site"


def test_timm_knows_the_models_without_gemnet_imported(site):
    assert plugin.enable(site).state == "enabled"
    assert start(site, "import timm; print(timm.is_model('gemnet_a'))", ROOT) == "True"


def test_nothing_is_loaded_before_timm_is(site, stand_ins):
    plugin.enable(site)
    assert start(site, "print({'gemnet', 'timm'} & set(sys.modules))", stand_ins) == "set()"
    assert start(site, "import timm; print(timm.models)", stand_ins) == "['gemnet_a']"


def test_disabling_leaves_nothing_behind(site, stand_ins):
    plugin.enable(site)
    assert plugin.disable(site).state == "disabled"
    assert [path for path in site.rglob("*") if path.is_file()] == []
    assert start(site, "import timm; print(timm.models)", stand_ins) == "[]"
    assert plugin.disable(site).state == "disabled"


@pytest.mark.parametrize("broken", ["", "1 / 0\n"])
def test_timm_is_importable_when_gemnet_was_uninstalled_or_is_broken(broken, site, tmp_path):
    plugin.enable(site)
    (tmp_path / "timm.py").write_text("models = []\n")
    code = "import timm; print(timm.models)"
    if broken:
        (tmp_path / "gemnet.py").write_text(broken)
    else:  # importing it then raises ModuleNotFoundError, as when it is not there
        code = f"sys.modules['gemnet'] = None; {code}"
    assert start(site, code, tmp_path) == "[]"


def test_a_damaged_module_is_named_and_keeps_neither_python_nor_timm_from_working(site, stand_ins):
    plugin.enable(site)
    (site / "_gemnet_autoload.py").write_text("this is no Python\n")
    assert start(site, "import timm; print(timm.models)", stand_ins, says="gemnet-autoload.pth") == "[]"
    assert plugin.status(site).state == "incomplete"


def test_the_hook_is_armed_once_and_steps_aside(site, stand_ins):
    plugin.enable(site)
    code = (
        "import _gemnet_autoload as m; m.arm(); m.arm()\n"
        "count = lambda: sum(type(f).__name__ in ('Finder', '_TimmFinder') for f in sys.meta_path)\n"
        "before = count(); import timm; print(before, count(), type(timm.__loader__).__name__)"
    )
    assert start(site, code, stand_ins) == "1 0 SourceFileLoader"


def test_each_file_names_the_same_module():
    """Python 3.15 reads the .start file and leaves the .pth file alone."""
    assert plugin.FILES["gemnet-autoload.start"].strip() == "_gemnet_autoload:arm"
    assert plugin.FILES["gemnet-autoload.pth"] == "import _gemnet_autoload\n"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot write to .*absent"):
        plugin.enable(tmp_path / "absent")


def test_the_command_line_switches_it(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin, "site_folder", lambda: tmp_path)
    states = [CliRunner().invoke(main, ["plugin", verb]).stdout for verb in ("status", "enable", "status", "disable")]
    assert [state.split(" in ")[0] for state in states] == ["disabled", "enabled", "enabled", "disabled"]


@pytest.mark.slow
def test_a_real_environment_autoloads_until_it_is_told_not_to_or_gemnet_is_uninstalled(tmp_path):
    """A fresh environment over this one's packages; each program says only `import timm`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    site = next((tmp_path / "lib").glob("python*/site-packages"))
    packages = [path for path in sys.path if path.endswith("-packages")]
    (site / "packages.pth").write_text("\n".join([*packages, str(ROOT)]) + "\n")

    def run(*arguments: str) -> str:
        command = [tmp_path / "bin" / "python", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    code = "import timm; print(timm.is_model('gemnet_a'))"
    assert run("-m", "gemnet.cli", "plugin", "enable") == f"enabled in {site}"
    assert run("-c", code) == "True"
    assert run("-m", "gemnet.cli", "plugin", "disable") == f"disabled in {site}"
    assert run("-c", code) == "False"
    run("-m", "gemnet.cli", "plugin", "enable")
    (site / "packages.pth").write_text("\n".join(packages) + "\n")  # what `pip uninstall gemnet` comes to
    assert run("-c", code) == "False"
