"""The Hub's client: its variables, whether they came in time, and its cache."""

import os
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .doctor import BROKEN, NOTE, OK, Finding, quoted

TRUE = {"1", "ON", "YES", "TRUE"}
SHOWN = 3  # broken links that are named


def home(environ: Mapping[str, str]) -> Path:
    """The client's own folder, as its variables say."""
    base = environ.get("XDG_CACHE_HOME", os.path.join(os.path.expanduser("~"), ".cache"))
    return Path(_expanded(environ.get("HF_HOME", os.path.join(base, "huggingface"))))


def cache(environ: Mapping[str, str]) -> Path:
    """The folder that downloads go to, as the client's variables say."""
    named = environ.get("HF_HUB_CACHE", environ.get("HUGGINGFACE_HUB_CACHE"))
    return home(environ) / "hub" if named is None else Path(_expanded(named))


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether the client is told to stay offline."""
    return (environ.get("HF_HUB_OFFLINE") or environ.get("TRANSFORMERS_OFFLINE") or "").upper() in TRUE


def check_variables(environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Variables that contradict each other, or that the client cannot use."""
    found, about = [], "Hub variables"
    new, old, own = (environ.get(name) for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME"))
    if new and old and Path(_expanded(new)) != Path(_expanded(old)):
        text = f"HF_HUB_CACHE={new} and HUGGINGFACE_HUB_CACHE={old} differ; the first one counts"
        found.append(Finding(about, NOTE, text, "unset HUGGINGFACE_HUB_CACHE"))
    elif own and (new or old) and not cache(environ).is_relative_to(home(environ)):
        name = "HF_HUB_CACHE" if new else "HUGGINGFACE_HUB_CACHE"
        text = f"HF_HOME={own}, but downloads go to {cache(environ)}, which {name} names"
        found.append(Finding(about, NOTE, text, f"unset {name}"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name) == "":
            text = f"{name} is empty, which the client takes for the working folder"
            found.append(Finding(about, NOTE, text, f"unset {name}"))
    endpoint = environ.get("HF_ENDPOINT")
    if endpoint is not None and not _is_address(endpoint):
        text = f"HF_ENDPOINT={endpoint!r:.80} is no address, so nothing can be downloaded"
        found.append(Finding(about, BROKEN, text, "unset HF_ENDPOINT"))
    token = environ.get("HF_TOKEN")
    if token is not None and (len(token.split()) > 1 or {"'", '"'} & set(token)):
        what = "white space" if len(token.split()) > 1 else "quotes"
        found.append(Finding(about, BROKEN, f"HF_TOKEN has {what} inside, so the Hub refuses it", "unset HF_TOKEN"))
    if is_offline(environ):
        name = "HF_HUB_OFFLINE" if environ.get("HF_HUB_OFFLINE") else "TRANSFORMERS_OFFLINE"
        text = f"{name} keeps the client offline: only what the cache holds can be loaded"
        found.append(Finding(about, NOTE, text, f"unset {name}"))
    if environ.get("HF_HUB_ENABLE_HF_TRANSFER", "").upper() in TRUE:
        text = "HF_HUB_ENABLE_HF_TRANSFER does nothing any more but warn"
        found.append(Finding(about, NOTE, text, "unset HF_HUB_ENABLE_HF_TRANSFER"))
    return found or [Finding(about, OK, "none contradicts another")]


def check_late(environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Variables that changed in this process after the client had read them, which it does once, on import."""
    constants = getattr(sys.modules.get("huggingface_hub"), "constants", None)
    if constants is None:
        return [Finding("Hub variables in time", OK, "the client is not imported yet and will read them as they are")]
    wanted: dict[str, tuple[object, object]] = {
        "HF_HOME": (Path(constants.HF_HOME), home(environ)),
        "HF_HUB_CACHE": (Path(constants.HF_HUB_CACHE), cache(environ)),
        "HF_HUB_OFFLINE": (constants.HF_HUB_OFFLINE, is_offline(environ)),
    }
    if "HF_ENDPOINT" in environ:
        wanted["HF_ENDPOINT"] = constants.ENDPOINT, environ["HF_ENDPOINT"].rstrip("/")
    found: list[Finding] = []
    for name, (uses, says) in wanted.items():
        if uses != says and not (name == "HF_HUB_CACHE" and found):
            value = int(says) if isinstance(says, bool) else quoted(str(says))
            text = f"{name} was set after huggingface_hub was imported: it goes on with {uses}; set it before"
            found.append(Finding("Hub variables in time", BROKEN, text, f"export {name}={value}"))
    return found or [Finding("Hub variables in time", OK, "the client has read them as they are")]


def check_cache(environ: Mapping[str, str], _stack: Mapping[str, Any]) -> list[Finding]:
    """Whether downloads can be kept, and whether what is kept is whole."""
    folder, about = cache(environ), "Hub cache"
    reason = unwritable(folder)
    if reason:
        usual = Path(os.path.expanduser("~"), ".cache", "huggingface")
        other = usual if not unwritable(usual) and not folder.is_relative_to(usual) else _elsewhere()
        unset = "unset HF_HUB_CACHE HUGGINGFACE_HUB_CACHE; " if folder.parent != home(environ) else ""
        text = f"{folder} cannot be written ({reason}), so nothing can be downloaded"
        return [Finding(about, BROKEN, text, f"{unset}export HF_HOME={quoted(other)}")]
    found = []
    for repo in sorted(folder.glob("*--*--*")):
        links = [path for path in (repo / "snapshots").rglob("*") if path.is_symlink() and not path.exists()]
        if links:
            names = ", ".join(sorted({path.name for path in links})[:SHOWN])
            text = f"{len(links)} links of {repo.name} lead nowhere ({names}): its files were deleted or never arrived"
            found.append(Finding(about, BROKEN, text, f"rm -r {quoted(repo)}"))
    return found or [Finding(about, OK, f"{folder} can be written and has no broken links")]


def unwritable(folder: Path) -> str:
    """Why a folder, or the first one above it that exists, cannot be written; empty when it can."""
    try:
        place = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def _is_address(text: str) -> bool:
    """Whether a text is an address with a host, as the client takes it."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text)
    except ValueError:
        return False


def _elsewhere() -> Path:
    return Path(tempfile.gettempdir(), "huggingface")


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))
