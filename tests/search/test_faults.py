"""The fault script in short; single faults stand with the parts they are of."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_every_fault_ends_in_a_message_or_a_finished_search(tmp_path):
    script = [sys.executable, ROOT / "benchmarks" / "faults.py", "--quick", "--out", tmp_path / "faults.json"]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(script, cwd=tmp_path, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert len(rows) == 12
    assert [row["fault"] for row in rows if row["lost"] or row["repeated"] or row["same_best"] is False] == []
