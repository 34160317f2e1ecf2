import json
import shlex
import sys

import pytest


@pytest.mark.parametrize("argument", ["best of 8 random", "it's", "a*", "--set=epochs=5", ""])
def test_the_command_that_is_kept_can_be_given_to_a_shell(argument, load_script, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/else/script.py", "--net", argument, str(tmp_path / "data.npz")])
    load_script("result").write_result("name", 0, [{"a": 1}], tmp_path / "result.json")
    kept = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert shlex.split(kept["command"]) == ["python", "benchmarks/script.py", "--net", argument, "data.npz"]
    assert kept["rows"] == [{"a": 1}]
