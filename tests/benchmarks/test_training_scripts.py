"""The scripts that train run from beginning to end on images made up here, and go on where they were."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


def call(script, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments), "--quick", "--json"],
        cwd=cwd, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=600, check=False,
    )  # fmt: skip


def run(script, *arguments, cwd):
    result = call(script, *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1]), result.stderr


def test_throughput(tmp_path):
    result, _ = run("throughput.py", "--device", "cpu", "--out", "out.json", cwd=tmp_path)
    (row,) = result["rows"]
    assert row["macs"] <= 12_000_000
    assert row["images_per_s"] > 0
    assert [pair["images"] for pair in result["loop"]] == ["memory", "files"]
    for pair in result["loop"]:
        assert pair["ratio"] == pytest.approx(pair["images_per_s"] / pair["loop_images_per_s"], rel=0.05)
    forms = [(row["threads"], row["precision"]) for row in result["cpu"]]
    assert forms == [(1, "no"), (1, "bf16"), (2, "no"), (2, "bf16")]
    assert json.loads((tmp_path / "out.json").read_text()) == result


def test_controls_are_trained_once(tmp_path):
    arguments = ("train_controls.py", "--work", "work", "--out", "out.json", "--device", "cpu")
    half = call(*arguments, "--part", "1/2", cwd=tmp_path)
    assert half.returncode == 0, half.stderr
    assert "1 of 2 trainings are done" in half.stderr
    assert not (tmp_path / "out.json").exists()
    first, _ = run(*arguments, "--part", "2/2", cwd=tmp_path)
    assert [row["net"] for row in first["rows"]] == ["chain", "mobilenetv2 blocks"]
    assert [row["net"] for row in first["summary"]] == ["chain", "mobilenetv2 blocks"]
    assert all(row["macs"] <= 4_500_000 and 0 < row["test_acc"] < 1 for row in first["rows"])
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("work/*/train.json")}
    again, _ = run(*arguments, cwd=tmp_path)
    assert again["rows"] == first["rows"]
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    (tmp_path / "out.json").unlink()
    other = call(*arguments, "--set", "lr=0.05", cwd=tmp_path)
    assert other.returncode == 1
    assert "chain-0 holds another training: recipe.lr was" in other.stderr
    assert not (tmp_path / "out.json").exists()


def save_cells(path, seed=0):
    rng = np.random.default_rng(seed)
    files, boxes = [], []
    for _ in range(12):
        x, y = rng.integers(10, 100, 2)
        picture = np.full((120, 160, 3), 200, np.uint8)
        picture[y : y + 20, x : x + 30] = (200, 30, 60)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG")
        files.append(buffer.getvalue())
        boxes.append((x, y, x + 30, y + 20))
    np.savez(
        path, jpeg=np.frombuffer(b"".join(files), np.uint8), classes=np.array(["cell"]),
        off=np.cumsum([0, *map(len, files)]), split=np.array(["train"] * 8 + ["val", "test", "test", "test"]),
        box_image=np.arange(12), box_xyxy=np.array(boxes), box_label=np.zeros(12, np.uint8),
    )  # fmt: skip


def test_detection(tmp_path):
    save_cells(tmp_path / "cells.npz")
    result, _ = run("detection.py", "--data", "cells.npz", "--work", "work", "--out", "out.json", cwd=tmp_path)
    found = {(row["detector"], row["backbone"]): row for row in result["rows"]}
    assert len(found) == 4
    for (_, backbone), row in found.items():
        assert 0 <= row["ap"] <= row["ap50"] <= 1
        assert row["macs"] > row["backbone_macs"]
        reference = found[row["detector"], "mobilenetv2_050"]
        assert backbone == "mobilenetv2_050" or 0.9 < row["backbone_macs"] / reference["backbone_macs"] <= 1
    save_cells(tmp_path / "others.npz", seed=1)
    other = call("detection.py", "--data", "others.npz", "--work", "work", "--out", "other.json", cwd=tmp_path)
    assert other.returncode == 1
    assert "was measured with other settings: data_sha256 was" in other.stderr
    assert not (tmp_path / "other.json").exists()
