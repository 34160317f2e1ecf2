import subprocess
import sys

import pytest

NAMES = ["gemnet", "gemnet_a", "gemnet_a_cifar", "gemnet_b", "gemnet_b_cifar"]


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "imports",
    [
        "import gemnet, timm", "import timm, gemnet", "import gemnet.network, timm", "import timm.layers, gemnet, timm",
        "import importlib.util, gemnet; importlib.util.find_spec('timm'); import timm",
    ],
)  # fmt: skip
def test_models_are_registered_in_any_order_of_import(imports):
    assert run(f"{imports}; print(timm.list_models('gemnet*'))") == str(NAMES)


def test_import_loads_nothing_heavy():
    heavy = "{'torch', 'timm', 'numpy', 'onnx', 'rich', 'click', 'importlib.abc'}"
    assert run(f"import sys, gemnet; print(sorted({heavy} & set(sys.modules)))") == "[]"


@pytest.mark.parametrize("module", ["gemnet.cli", "gemnet.search.cli"])
def test_help_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(sorted({{'torch', 'timm', 'numpy', 'onnx', 'rich'}} & set(sys.modules)))"
    assert run(code) == "[]"


def test_timm_is_left_as_its_own_loader_made_it():
    code = (
        "import sys, gemnet; before = list(sys.meta_path); import timm;"
        "print(len(before) - len(sys.meta_path), type(timm.__loader__).__name__, type(timm.__spec__.loader).__name__)"
    )
    assert run(code) == "1 SourceFileLoader SourceFileLoader"


def test_a_failing_registration_warns_and_leaves_timm_usable():
    code = (
        "import sys, warnings, gemnet; sys.modules['gemnet.gemnet'] = None\n"
        "with warnings.catch_warnings(record=True) as seen:\n"
        "    warnings.simplefilter('always')\n"
        "    import timm\n"
        "print([str(w.message)[:44] for w in seen if w.category is RuntimeWarning], bool(timm.list_models('resnet18')))"
    )
    assert run(code) == "['the GEMNet models could not be registered wi'] True"


def test_importing_twice_arms_one_finder():
    code = (
        "import sys, gemnet; from gemnet.registration import register; register(); register();"
        "print(sum(type(f).__name__ == '_TimmFinder' for f in sys.meta_path))"
    )
    assert run(code) == "1"
