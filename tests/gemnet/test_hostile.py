"""What a release from elsewhere may try, through `gemnet.from_pretrained`: refused in a line, with flat memory.

All of it is loaded by one fresh process, so that what torch itself needs is there before anything is measured.
"""

import hashlib
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save, save_file

from gemnet.config import NetConfig, Stage
from gemnet.saving import save_folder

CELL = {"schema": "gemnet.cell/1", "ops": ["input", "sepconv3x3"], "edges": [[0, 1]]}
NET = NetConfig(8, (Stage(1, 8, 16, 2),), 16)
PYTHON_MB, PROCESS_MB = 64, 128  # a config may have 2 MB; its lists are larger than its text

CHILD = """
import json, resource, sys, tracemalloc
import gemnet
from gemnet.errors import GemnetError
gemnet.from_pretrained(sys.argv[1])
for folder in sys.argv[2:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        gemnet.from_pretrained(folder)
        told = ["loaded", ""]
    except GemnetError as error:
        told = [type(error).__name__, str(error)]
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    print(json.dumps([folder, *told, peak, grown]), flush=True)
"""


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


def set_config(**changes):
    """Changes fields of config.json, given by their paths with a double underscore for a dot."""

    def change(folder):
        config = json.loads((folder / "config.json").read_text())
        for path, value in changes.items():
            *parents, last = path.split("__")
            target = config
            for parent in parents:
                target = target[parent]
            target[last] = value
        (folder / "config.json").write_text(json.dumps(config, separators=(",", ":")))

    return change


def replace_text(old, new):
    def change(folder):
        text = (folder / "config.json").read_text()
        assert old in text
        (folder / "config.json").write_text(text.replace(old, new))

    return change


def set_text(name, text):
    return lambda folder: (folder / name).write_text(text)


def put(content):
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def put_bomb(save_it):
    return lambda folder: save_it(Bomb(folder / "executed"), folder / "model.safetensors")


def header(entries, data=b"", declared=None):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if declared is None else declared) + text + data


def entry(start, end, shape=(4,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def set_tensors(change):
    """Changes the tensors of the file and writes it again."""

    def rewrite(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return rewrite


def poison(value):
    def change(tensors):
        tensors["stem.conv.weight"][0, 0, 0, 0] = value

    return set_tensors(change)


def grow(size):
    def change(folder):
        with open(folder / "config.json", "r+b") as file:
            file.truncate(size)

    return change


def exchange(name, make):
    """Puts something else in the place of a file, after the manifest was written."""

    def change(folder):
        (folder / name).unlink()
        make(folder / name)

    change.after = True
    return change


def set_manifest(**entries):
    """Adds entries to the manifest; those of other files stay right."""

    def change(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"].update(entries)
        (folder / "manifest.json").write_text(json.dumps(manifest))

    change.after = True
    return change


def after(change):
    change.after = True
    return change


ZERO = {"sha256": "0" * 64, "size": 0}
HUGE = {"stem_chs": 8192, "head_chs": 8192, "stages": [{"depth": 16, "node_chs": 8192, "out_chs": 8192}]}
BARE = {"cell": CELL, "net": NET.to_dict()}
CASES = {
    # the config
    "a cell of 10^6 nodes": (set_config(model_args__cell__ops=[0] * 10**6), "a cell has 2 to 64 nodes, got 1000000"),
    "a cell of 10^6 names": (set_config(model_args__cell__ops=["conv1x1"] * 10**6), "at most 2097152 are allowed"),
    "a cell of 10^5 edges": (set_config(model_args__cell__edges=[[0, 1]] * 10**5), "has no 100000 edges"),
    "edges that are no numbers": (set_config(model_args__cell__edges=[["a", {}]]), "list of .* pairs"),
    "an op that is code": (set_config(model_args__cell__ops=["input", "__import__('os')"]), "unknown op"),
    "a cell by path": (set_config(model_args__cell="/etc/passwd"), "must be a JSON object, got '/etc/passwd'"),
    "10^9 classes": (set_config(num_classes=10**9, model_args__num_classes=10**9, label_names=None), "0 to 100000"),
    "10^9 classes in the cfg": (set_config(model_args=BARE, num_classes=10**9, label_names=None), "0 to 100000"),
    "classes that contradict": (
        set_config(num_classes=4, label_names=list("abcd")), "contradicts itself: num_classes is 3 and 4",
    ),
    "labels that contradict": (set_config(label_names=["a"] * 10**5), "must be 3 names, got"),
    "10^9 channels": (set_config(model_args__in_chans=10**9), "contradicts itself: in_chans"),
    "images of 10^9 pixels": (set_config(pretrained_cfg__input_size=[1, 10**9, 1]), "must be 1 to 8192 each"),
    "a depth of 10^9": (set_config(model_args__net__stages=[{"depth": 10**9, "node_chs": 1, "out_chs": 1}]), "1 to 64"),
    "10^6 stages": (set_config(model_args__net__stages=[{"depth": 1, "node_chs": 1, "out_chs": 1}] * 10**4), "1 to 8"),
    "a width of 1e400": (replace_text('"head_chs": 16', '"head_chs": 1e400'), "expected a finite number"),
    "a crop of 10^400": (set_config(pretrained_cfg__crop_pct=10**400), "crop_pct: expected a finite number"),
    "a depth of 10^4000": (
        set_config(model_args__net__stages=[{"depth": 10**4000, "node_chs": 1, "out_chs": 1}]), "depth: expected a fin"
    ),
    "4 GB of parameters": (set_config(model_args__net=HUGE), r"may have 1e\+09 parameters"),
    "a checkpoint to load": (set_config(model_args__checkpoint_path="/tmp/x.pth"), "unknown field of model_args"),
    "a file to load": (set_config(pretrained_cfg__file="/tmp/x.pth", pretrained_cfg__state_dict={"a": 1}), "loaded"),
    "another architecture": (set_config(architecture="resnet50"), "of the architecture 'resnet50', not 'gemnet'"),
    "no architecture": (set_config(architecture=["gemnet"] * 1000), "of the architecture"),
    "a std of zero": (set_config(pretrained_cfg__std=[0.0]), "1 numbers above 0"),
    "an activation that is a list": (set_config(model_args__act_layer=[1]), "act_layer: expected str"),
    "arguments that are a list": (set_config(model_args=[]), "expected a JSON object"),
    "a field of 10^6 letters": (set_config(**{"model_args__" + "x" * 10**6: 1}), "unknown field of model_args 'xxx"),
    "500 MB of config": (grow(500_000_000), "has 500000000 bytes, at most 2097152 are allowed"),
    "deep nesting": (set_text("config.json", '{"a":' * 250_000 + "1" + "}" * 250_000), "nested too deeply"),
    "690 000 lists": (set_text("config.json", '{"a":[' + "[]," * 690_000 + "0]}"), "of the architecture None"),
    "a number of 10^6 digits": (set_text("config.json", '{"a":' + "9" * 10**6 + "}"), "is no JSON file"),
    "bytes that are no text": (lambda folder: (folder / "config.json").write_bytes(b"\xff" * 99), "is no JSON file"),
    # the weights
    "a pickle": (put_bomb(lambda bomb, path: path.write_bytes(pickle.dumps(bomb))), "does not begin with a header"),
    "a torch file": (put_bomb(torch.save), "does not begin with a header"),
    "a header of 10 GB": (put(header({}, declared=10 * 2**30)), "its header would have 10737418240 bytes"),
    "a header longer than the file": (put(header({}, declared=50_000)), "is no safetensors file"),
    "a header of 2^64": (put(b"\xff" * 8 + b"{" + bytes(100)), "its header would have 18446744073709551615 bytes"),
    "nothing": (put(b""), "does not begin with a header"),
    "eight bytes": (put(bytes(8)), "does not begin with a header"),
    "offsets outside": (put(header({"a": entry(0, 10**6)}, bytes(16))), "is no safetensors file"),
    "offsets that overlap": (put(header({"a": entry(0, 16), "b": entry(8, 24)}, bytes(24))), "is no safetensors file"),
    "offsets that are huge": (put(header({"a": entry(0, 2**63, (2**61,))}, bytes(16))), "is no safetensors file"),
    "offsets that run backwards": (put(header({"a": entry(16, 0)}, bytes(16))), "is no safetensors file"),
    "a hole": (put(header({"a": entry(0, 16)}, bytes(32))), "is no safetensors file"),
    "a shape that overflows": (put(header({"a": entry(0, 16, (2**32, 2**32))}, bytes(16))), "is no safetensors"),
    "10^4 tensors": (put(header({f"t{k}": entry(0, 0, (0,)) for k in range(10**4)})), "bytes, at most [0-9]+ are"),
    "a header that is code": (put(struct.pack("<Q", 8) + b"{import}"), "is no safetensors file"),
    "too many bytes": (put(header({}, bytes(10**6))), "bytes, at most [0-9]+ are allowed"),
    "other names": (set_tensors(lambda t: t.update(evil=t.pop("head.fc.bias"))), "has no 'evil'"),
    "a tensor too few": (set_tensors(lambda t: t.pop("head.fc.bias")), "the file has no 'head.fc.bias'"),
    "a wrong shape": (set_tensors(lambda t: t.update({"head.fc.bias": torch.zeros(4)})), r"is \[4\] in the file"),
    "a wrong type": (set_tensors(lambda t: t.update({"head.fc.bias": torch.zeros(3).long()})), "is torch.int64, not"),
    "no number": (poison(float("nan")), "'stem.conv.weight' has values that are infinite or not a number"),
    "infinity": (poison(float("-inf")), "'stem.conv.weight' has values that are infinite"),
    # the manifest
    "a name that leaves the folder": (set_manifest(**{"../../x": ZERO}), "'../../x' is no name for a file"),
    "an absolute name": (set_manifest(**{"/etc/passwd": ZERO}), "'/etc/passwd' is no name for a file"),
    "a name that reads backwards": (set_manifest(**{"\u202egnp.exe": ZERO}), r"'\\u202egnp\.exe' is no name"),
    "a name with look-alikes": (set_manifest(**{"c\u043enfig.json": ZERO}), "is no name for a file"),
    "two names in one": (set_manifest(**{"CONFIG.json": ZERO}), "lists 'CONFIG.json' besides 'config.json'"),
    "10^4 names": (set_manifest(**{f"f{k}": ZERO for k in range(10**4)}), "at most 1000 files|bytes, at most 1048576"),
    "a manifest nested deeply": (after(set_text("manifest.json", "[" * 10**6)), "nested too deeply"),
    "a manifest of 500 MB": (
        after(lambda folder: os.truncate(folder / "manifest.json", 500_000_000)), "500000000 bytes, at most 1048576",
    ),
    "a manifest without the weights": (
        after(set_text("manifest.json", '{"schema": "gemnet.manifest/1", "files": {}}')), "does not list 'config.json'",
    ),
    # what is no file
    "a link out of the folder": (
        exchange("model.safetensors", lambda path: path.symlink_to("/etc/passwd")), "is a link to /etc/passwd",
    ),
    "a link that keeps the content": (
        exchange("config.json", lambda path: path.symlink_to(path.parents[1] / "good" / "config.json")), "is a link to",
    ),
    "a manifest that is a link": (exchange("manifest.json", lambda path: path.symlink_to("/dev/zero")), "is a link to"),
    "a pipe": (exchange("model.safetensors", os.mkfifo), "is no ordinary file"),
    "a manifest that is a pipe": (exchange("manifest.json", os.mkfifo), "is no ordinary file"),
    "a device": (exchange("config.json", lambda path: path.symlink_to("/dev/zero")), "is a link to /dev/zero"),
    "a folder": (exchange("config.json", Path.mkdir), "is no ordinary file"),
}  # fmt: skip


def rewrite_manifest(folder) -> None:
    """A manifest that fits the files, as somebody who wants them loaded would write it."""
    files = {}
    for name in ("config.json", "model.safetensors"):
        size = (folder / name).stat().st_size
        digest = hashlib.sha256((folder / name).read_bytes()).hexdigest() if size < 10**8 else "0" * 64
        files[name] = {"sha256": digest, "size": size}
    (folder / "manifest.json").write_text(json.dumps({"schema": "gemnet.manifest/1", "files": files}))


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """By case: the error's name, its message, the peak of Python's memory and the growth of the process in MB."""
    home = tmp_path_factory.mktemp("hostile")
    model = timm.create_model("gemnet", cell=CELL, net=NET.to_dict(), num_classes=3, in_chans=1)
    cfg = {"mean": (0.3,), "std": (0.2,), "input_size": (1, 28, 28)}
    good = save_folder(model, home / "good", label_names=list("abc"), pretrained_cfg=cfg)
    places = {}
    for number, (name, (change, _)) in enumerate(CASES.items()):
        places[name] = folder = home / str(number)
        folder.mkdir()
        for file in good.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        change(folder)
        if not hasattr(change, "after"):
            rewrite_manifest(folder)
    command = [sys.executable, "-c", CHILD, str(good), *map(str, places.values())]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    rows = {row[0]: row[1:] for row in map(json.loads, done.stdout.splitlines())}
    return {name: [*rows[str(folder)], folder] for name, folder in places.items()}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_before_any_harm(case, told):
    error, message, python_mb, process_mb, folder = told[case]
    words = CASES[case][1]
    assert re.search(words, message or error), (error, message)
    assert python_mb < PYTHON_MB
    assert process_mb < PROCESS_MB
    assert not (folder / "executed").exists()
    if error != "loaded":
        assert "\n" not in message and message.isprintable()
        assert len(message) < 1000
        assert str(folder) in message


@pytest.mark.slow
def test_the_measure_sees_memory(tmp_path):
    """A reader without limits would fail the tests above."""
    (tmp_path / "config.json").write_text(json.dumps({"ops": [[]] * 10**6}))
    tracemalloc.start()
    json.loads((tmp_path / "config.json").read_text())
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    assert peak_mb > PYTHON_MB


def test_half_precision_is_taken_as_it_is_meant(tmp_path):
    import gemnet

    model = timm.create_model("gemnet", cell=CELL, net=NET.to_dict(), num_classes=3).eval()
    folder = save_folder(model, tmp_path / "half")
    half = {n: t.half() if t.is_floating_point() else t for n, t in model.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(half))
    rewrite_manifest(folder)
    loaded = gemnet.from_pretrained(folder)
    assert loaded.stem.conv.weight.dtype == torch.float32
    assert torch.equal(loaded.stem.conv.weight.half(), half["stem.conv.weight"])
