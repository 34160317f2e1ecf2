"""What the guide to deployment shows does what it says."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "deploy.md"


@pytest.mark.slow
def test_the_guides_python_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(code, GUIDE.name, "exec"), names)
    report = names["report"]
    assert isinstance(report, dict)
    assert set(report["files"]) == {"model.onnx", "model.fp16.onnx"}
    assert {path.name for path in tmp_path.glob("out/*.onnx")} == set(report["files"])


def test_the_guide_names_every_option_of_export():
    from gemnet.export.cli import export

    text = GUIDE.read_text(encoding="utf-8")
    names = {name for option in export.params for name in option.opts if name.startswith("--")}
    assert {name for name in names if f"`{name}" not in text} - {"--json", "--out"} == set()
