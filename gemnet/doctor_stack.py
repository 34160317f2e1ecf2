"""Whether the packages that gemnet needs are there, new enough, and can be imported."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from .doctor import BROKEN, NOTE, OK, Finding, own_source, pip

STACK = ("torch", "torchvision", "timm")
NATIVE = ("numpy", "onnx", "onnxruntime", "safetensors", "huggingface-hub")  # tried by importing them, too
EXTRAS = {"ray": "gemnet-search run --workers ray"}
PATIENCE_S = 300  # a first import from a cold or distant disk
PATHS = "import sys; sys.path += [path for path in sys.argv[1:] if path not in sys.path]; del sys.argv[1:]\n"
IMPORT = """
import json, warnings
def say(step, **facts):
    print(json.dumps({"step": step, **facts}), flush=True)
import torch
with warnings.catch_warnings(record=True) as heard:
    warnings.simplefilter("always")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    gpus = [torch.cuda.get_device_name(k) for k in range(count)]
say("torch", version=torch.__version__, cuda=torch.version.cuda, threads=torch.get_num_threads(), gpus=gpus,
    heard=[str(warning.message) for warning in heard])
import torchvision
say("torchvision", version=torchvision.__version__)
import timm
say("timm", version=timm.__version__)
import gemnet
say("models", models=timm.list_models("gemnet*"))
"""


def import_stack(environ: Mapping[str, str]) -> dict[str, Any]:
    """What torch, torchvision and timm say of themselves, as far as they can be imported one after the other.

    Returns:
        An object for each of `torch`, `torchvision`, `timm` and `models` that was reached; `error` with the last line
        of what went wrong.
    """
    done, lines = run(IMPORT, environ)
    found: dict[str, Any] = {}
    for line in lines:
        facts = json.loads(line)
        found[facts.pop("step")] = facts
    return found if not done else {**found, "error": done}


def run(code: str, environ: Mapping[str, str]) -> tuple[str, list[str]]:
    """Runs code in a Python of its own: the last line of what went wrong, empty when nothing did, and its output.

    Files of the working folder are not imported (`-P`); what only this process finds, such as gemnet in a checkout,
    is found last.
    """
    command = [sys.executable, "-P", "-c", PATHS + code, *filter(None, sys.path), str(Path(__file__).parents[1])]
    try:
        done = subprocess.run(
            command, env=dict(environ), capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {PATIENCE_S} s", []
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode < 0:
        return f"killed by signal {-done.returncode}", lines
    said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return (said[-1] if done.returncode else ""), lines


def check_stack(_environ: Mapping[str, str], stack: Mapping[str, Any]) -> list[Finding]:
    """Of torch, torchvision and timm: there, new enough, a pair, and the models registered."""
    needed = dict(requirements())
    found = []
    for name in STACK:
        if name in stack:
            version = stack[name]["version"]
            old = older(version, needed.get(name, ""))
            text = f"{version}, but {name}>={needed.get(name)} is needed" if old else version
            fix = pip(f"{name}>={needed[name]}", options="--upgrade") if old else ""
            found.append(Finding(name, BROKEN if old else OK, text, fix))
        else:
            found.append(_failed(name, stack, needed))
            return found
    models = stack.get("models", {}).get("models", [])
    if not models:
        text = f"timm does not know them: {stack.get('error', 'gemnet could not register them')}"
        return [*found, Finding("models", BROKEN, text, pip(own_source(), options="--force-reinstall --no-deps"))]
    return [*found, Finding("models", OK, f"timm knows {', '.join(models)}")]


def _failed(name: str, stack: Mapping[str, Any], needed: Mapping[str, str]) -> Finding:
    """Why a package of the stack could not be imported."""
    error, version = stack.get("error", "it could not be tried"), _version(name)
    wanted = [f"{part}>={needed[part]}" if needed.get(part) else part for part in STACK[:2]]
    if version is None:
        missing = f"{name}>={needed[name]}" if needed.get(name) else name
        return Finding(name, BROKEN, "it is not installed", pip(missing))
    if name == "torchvision" and "torch" in stack:
        torch, pins = stack["torch"], [r for r in metadata.requires("torchvision") or () if re.match(r"torch\b", r)]
        kind = "is a CPU-only build" if torch["cuda"] is None else f"is built for CUDA {torch['cuda']}"
        text = f"{version} and torch {torch['version']}, which {kind}, are no pair ({error})"
        pin = f"; it is made for {pins[0].split(';')[0].strip()}" if pins else ""
        return Finding(name, BROKEN, f"{text}{pin}", pip(*wanted, options="--force-reinstall"))
    packages = wanted if name in STACK[:2] else [f"{name}>={needed[name]}" if needed.get(name) else name]
    return Finding(name, BROKEN, f"{version} cannot be imported: {error}", pip(*packages, options="--force-reinstall"))


def check_requirements(environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Of all other packages and the extras: one finding for each that is missing, too old or cannot be imported."""
    found, whole = [], 0
    for name, floor in requirements():
        if name in STACK:
            continue
        version, wanted = _version(name), f"{name}>={floor}" if floor else name
        if version is None:
            found.append(Finding(name, BROKEN, "it is not installed", pip(wanted)))
        elif older(version, floor):
            found.append(Finding(name, BROKEN, f"{version}, but {wanted} is needed", pip(wanted, options="--upgrade")))
        elif name in NATIVE and (error := run(f"import {name.replace('-', '_')}", environ)[0]):
            text = f"{version} cannot be imported: {error}"
            found.append(Finding(name, BROKEN, text, pip(wanted, options="--force-reinstall")))
        else:
            whole += 1
    for extra, what in EXTRAS.items():
        if _version(extra) is None:
            found.append(Finding(extra, NOTE, f"it is not installed; {what} needs it", pip(f"{own_source()}[{extra}]")))
    return [Finding("packages", OK, f"{whole} others are there and new enough"), *found]


def requirements() -> Iterator[tuple[str, str]]:
    """Name and floor of each package that gemnet needs, from its installation or else its checkout."""
    try:
        lines = metadata.requires("gemnet") or []
    except metadata.PackageNotFoundError:
        checkout = Path(__file__).resolve().parents[1] / "pyproject.toml"
        lines = tomllib.loads(checkout.read_text(encoding="utf-8"))["project"]["dependencies"]
    for line in lines:
        found = re.match(r"([\w.-]+)\s*(?:>=\s*([\w.]+))?", line)
        if found and "extra ==" not in line:
            yield found[1], found[2] or ""


def older(version: str, floor: str) -> bool:
    """Whether a version is below another; only their numbers count."""
    numbers = [[int(n) for n in re.findall(r"\d+", text.split("+")[0])[:3]] for text in (version, floor)]
    return numbers[0] < numbers[1]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
