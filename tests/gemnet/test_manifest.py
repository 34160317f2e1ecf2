import hashlib
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemnet.errors import ConfigError, FileError, ManifestError
from gemnet.manifest import FileRecord, Manifest, describe, list_files
from gemnet.reading import open_file, read_file, read_json

DIGEST = "0" * 64
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)), "onnx/model.onnx": b"onnx", ".eval/a.yaml": b""}


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "release"
    for name, content in FILES.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    return home


def write(path, content) -> None:
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def listing(**files):
    return {"schema": "gemnet.manifest/1", "files": {name: {"sha256": DIGEST, "size": 0} for name in files}}


def test_a_manifest_tells_every_file(folder):
    manifest = describe(folder)
    expected = {name: FileRecord(hashlib.sha256(data).hexdigest(), len(data)) for name, data in FILES.items()}
    assert manifest.files == expected
    manifest.write(folder / "manifest.json")
    text = (folder / "manifest.json").read_text()
    assert Manifest.read(folder / "manifest.json") == manifest == describe(folder)
    assert list(json.loads(text)["files"]) == sorted(FILES)
    Manifest(dict(reversed(manifest.files.items()))).write(folder / "manifest.json")
    assert (folder / "manifest.json").read_text() == text
    manifest.check(folder)
    assert sorted(list_files(folder)) == sorted(FILES)
    assert describe(folder, ["config.json"]).files == {"config.json": expected["config.json"]}


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([name for name, data in FILES.items() if data]), st.integers(0, 2**16))
def test_every_changed_bit_is_found_in_its_file(tmp_path_factory, name, bit):
    home = tmp_path_factory.mktemp("release")
    (home / "file").write_bytes(FILES[name])
    manifest = describe(home)
    content = bytearray(FILES[name])
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    (home / "file").write_bytes(content)
    with pytest.raises(ManifestError, match=r"release\d+/file is damaged: its sha256 is [0-9a-f]{64}, not "):
        manifest.check(home)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.unlink(), "cannot read .*model.safetensors: No such file"),
        (lambda path: path.write_bytes(bytes(100)), "model.safetensors has 100 bytes, not 256"),
        (lambda path: path.write_bytes(bytes(300)), "model.safetensors has 300 bytes, not 256"),
        (lambda path: (path.unlink(), path.mkdir()), "model.safetensors is no ordinary file"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "model.safetensors is no ordinary file"),
        (lambda path: (path.unlink(), path.symlink_to("config.json")), "model.safetensors is a link to"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), "model.safetensors is a link to /dev/zero"),
        (lambda path: (path.unlink(), path.symlink_to(path.name)), "cannot read .*model.safetensors"),
    ],
)
def test_what_is_no_longer_the_file_is_named(folder, change, words):
    manifest = describe(folder)
    change(folder / "model.safetensors")
    with pytest.raises(ManifestError, match=words):
        manifest.check(folder)
    with pytest.raises(ManifestError, match=words):
        manifest.read_file(folder, "model.safetensors")


def test_what_is_read_is_what_was_compared(folder):
    manifest = describe(folder)
    assert {name: manifest.read_file(folder, name) for name in manifest.files} == FILES
    (folder / "config.json").write_bytes(b"[]")
    with pytest.raises(ManifestError, match=r"config\.json is damaged"):
        manifest.read_file(folder, "config.json")
    with pytest.raises(ManifestError, match="does not list 'other'"):
        manifest.read_file(folder, "other")


def test_a_link_may_lead_into_the_cache_and_nowhere_else(folder, tmp_path):
    manifest, cache = describe(folder), tmp_path / "cache"
    cache.mkdir()
    os.replace(folder / "config.json", cache / "blob")
    (folder / "config.json").symlink_to(cache / "blob")
    manifest.check(folder, within=cache)
    (tmp_path / "cache2").mkdir()
    os.replace(cache / "blob", tmp_path / "cache2" / "blob")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "cache2" / "blob")
    with pytest.raises(ManifestError, match="only files inside the folder are read"):
        manifest.check(folder, within=cache)


def test_a_folder_behind_a_link_is_not_read(folder, tmp_path):
    manifest = describe(folder)
    os.replace(folder / "onnx", tmp_path / "elsewhere")
    (folder / "onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ManifestError, match=r"onnx/model\.onnx is a link to"):
        manifest.check(folder)
    with pytest.raises(ManifestError, match="onnx is a link to"):
        describe(folder)


@pytest.mark.parametrize(
    "name",
    ["../x", "../../x", "a/../x", "/etc/passwd", "a//b", "a/", "", ".", "a/.", "./a", "a\\b", "C:x", "a b", "a\0b",
     "a\n", "\u202egnp.exe", "mod\u0435l", "\uff0e\uff0e/x", "a.", "x" * 201, ".git/config", "a/.GIT/hooks/x", "~/x",
     "-\u00ad"],
)  # fmt: skip
def test_a_name_that_is_not_plain_is_refused(name, tmp_path):
    write(tmp_path / "manifest.json", listing(**{name: 0}))
    with pytest.raises(ManifestError, match=r"manifest\.json is no manifest: .* is no name for a file") as error:
        Manifest.read(tmp_path / "manifest.json")
    assert str(error.value).isascii()
    assert len(str(error.value)) < 700
    with pytest.raises(ManifestError):
        Manifest({name: FileRecord(DIGEST, 0)})


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("a.json", "A.json"), "lists 'A.json' besides 'a.json'"),
        (("manifest.json",), "lists 'manifest.json'"),
        (("Manifest.JSON",), "lists 'Manifest.JSON'"),
        (("a", "a/b"), "lists 'a/b' below a file"),
        (("A/b", "a"), "lists 'A/b' below a file"),
        (("manifest.json/a",), "below a file"),
        (tuple(f"f{k}" for k in range(1001)), "at most 1000 files, got 1001"),
    ],
)
def test_names_that_are_in_each_others_way_are_refused(names, words):
    with pytest.raises(ManifestError, match=words):
        Manifest({name: FileRecord(DIGEST, 0) for name in names})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is no JSON file"),
        ("[]", "holds no JSON object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"schema": NaN}', "NaN is no JSON number"),
        ('{"a": 1, "a": 2}', "a name stands twice in one object"),
        ("9" * 5000, "is no JSON file"),
        (" " * (1 << 20) + "{}", "bytes, at most 1048576 are allowed"),
        ({}, "it must be"),
        ({"schema": "gemnet.manifest/2", "files": {}}, "it must be"),
        (listing() | {"more": 1}, "it must be"),
        ({"schema": "gemnet.manifest/1", "files": []}, "it must be"),
        ({"schema": "gemnet.manifest/1", "files": {"a": []}}, "a: expected a JSON object"),
        ({"schema": "gemnet.manifest/1", "files": {"a": {"size": 1}}}, "field 'sha256' is missing"),
        ({"schema": "gemnet.manifest/1", "files": {"a": {"sha256": "0" * 63, "size": 1}}}, "64 hexadecimal digits"),
        ({"schema": "gemnet.manifest/1", "files": {"a": {"sha256": DIGEST, "size": -1}}}, "a number of bytes, got -1"),
        ({"schema": "gemnet.manifest/1", "files": {"a": {"sha256": DIGEST, "size": True}}}, "expected int, got True"),
        ({"schema": "gemnet.manifest/1", "files": {"a": {"sha256": DIGEST, "size": 0, "x" * 999: 0}}}, "unknown field"),
    ],
)
def test_what_is_no_manifest_is_refused_in_a_line(content, words, tmp_path):
    write(tmp_path / "manifest.json", content)
    with pytest.raises(FileError, match=words) as error:
        Manifest.read(tmp_path / "manifest.json")
    assert "manifest.json" in str(error.value)
    assert len(str(error.value)) < 600


def test_a_record_is_checked_when_it_is_made():
    with pytest.raises(ConfigError, match="64 hexadecimal digits"):
        FileRecord("A" * 64, 0)


def test_a_file_that_is_not_listed_is_not_the_releases(folder):
    with pytest.raises(ManifestError, match="does not list 'other'"):
        describe(folder).check_file(folder, "other")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/", "/no/such/file", "a\0b"])
def test_only_ordinary_files_are_opened(path, tmp_path):
    with pytest.raises(FileError, match=r"is no ordinary file|cannot read"):
        open_file(tmp_path / path)


def test_a_file_longer_than_allowed_is_not_read(tmp_path):
    with open(tmp_path / "big.json", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileError, match="has 1099511627776 bytes, at most 2097152 are allowed"):
        read_json(tmp_path / "big.json")
    (tmp_path / "small").write_bytes(b"12345")
    assert read_file(tmp_path / "small", 5) == b"12345"
    with pytest.raises(FileError, match="has 5 bytes, at most 4"):
        read_file(tmp_path / "small", 4)
