"""Imports point one way: zoo <- gemnet <- search, export; the two command lines may import from everywhere."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("gemnet", "search", "export", "zoo")
ALLOWED = {
    "zoo": {"zoo"},
    "gemnet": {"zoo", "gemnet"},
    "search": {"zoo", "gemnet", "search"},
    "export": {"zoo", "gemnet", "export"},
}
ROOTS = {"gemnet/cli.py", "search/cli.py"}  # inside their commands only
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.py")
    if not any((ROOT / parent).is_symlink() for parent in path.relative_to(ROOT).parents)
)


def package(source: str) -> list[str]:
    folder = Path(source).parts[:-1]
    return ["gemnet", *folder] if folder[0] != "gemnet" else list(folder)


def imported(source: str) -> list[tuple[str, bool]]:
    """Absolute names a file imports, each with whether that stands at its top level."""
    tree = ast.parse((ROOT / source).read_text())
    top = set(tree.body) | {n for node in tree.body if isinstance(node, ast.If) for n in node.body}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package(source)[: 1 - node.level or None] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            found += [(f"{stem}.{alias.name}", node in top) for alias in node.names]
    return found


def folder_of(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "gemnet":
        return parts[0] if parts[0] in FOLDERS else None
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS[1:] else "gemnet"


def test_all_sources_are_seen():
    assert {"gemnet/cell.py", "search/study.py", "export/onnx.py", "zoo/__init__.py"} <= set(SOURCES)
    assert not any(source.startswith(("gemnet/search", "gemnet/export", "gemnet/zoo")) for source in SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_imports_point_one_way(source):
    home = source.split("/")[0]
    for name, at_top in imported(source):
        target = folder_of(name)
        if target is None:
            continue
        assert name.split(".")[0] == "gemnet", f"{source} imports {name}; import gemnet.{name}"
        if source in ROOTS and not at_top:
            continue
        assert target in ALLOWED[home], f"{source} imports {name}"


@pytest.mark.parametrize("source", [s for s in SOURCES if s.startswith("zoo/") and "/data/" not in s])
def test_zoo_needs_only_the_standard_library(source):
    names = {name.split(".")[0] for name, _ in imported(source)}
    assert names <= set(sys.stdlib_module_names) | {"gemnet"}


@pytest.mark.parametrize("name", ["search", "export", "zoo"])
def test_links_make_a_checkout_importable(name):
    link = ROOT / "gemnet" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name


def test_setup_lists_every_package():
    listed = (ROOT / "setup.py").read_text()
    for source in SOURCES:
        if source.endswith("__init__.py"):
            assert f'"{Path(source).parent.as_posix()}"' in listed, source

