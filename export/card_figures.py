"""Numbers of a card, each with the place it comes from, so that a card can be checked by whoever has the files.

In a card's text a comment stands behind each number, which a rendered page does not show:

    0.31<!-- millions: report.json#/cost/params -->

It names how the value is shown, a key of `FORMS`, and where it stands: a file beside the card, or one of this
package's zoo by `zoo/...`, with a JSON pointer (RFC 6901) into it.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from gemnet import zoo
from gemnet.errors import CardError

WORDS = (
    "CIFAR-100", "CIFAR-10", "NAS-Bench-201", "arXiv:2007.04452", "AAAI 2021", "Apache-2.0", "top-1", "top-5", "fp32",
    "fp16", "bf16", "int8", "float32", "uint8", "sha256", "1 MAC",
)  # names with digits, which are no figures  # fmt: skip
ANEW = "gemnet publish --dry-run writes a release with its card anew"
COMMENT = re.compile(r"<!-- (\w+): ([^\s#<>]+#[^<>\n]*) -->")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LITERAL = re.compile(
    r"`[A-Za-z_][^`\s]*`"  # a name in code
    r"|\]\([^)\s]*\)"  # a link's target
    r"|https?://[^\s)>]+"
    rf"|(?<![\w.-])(?:{'|'.join(map(re.escape, WORDS))})(?![\w-])"
)
MARKUP = re.compile(r"([\\`*_{}\[\]<>|#])")


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError
    return value


def _text(value: Any) -> str:
    """Text on one line that markdown takes for nothing else."""
    if not isinstance(value, (str, int, float)):
        raise TypeError
    return MARKUP.sub(r"\\\1", " ".join(str(value).split())) or "-"


def _name(value: Any) -> str:
    """What a file or data set is called: `v1.2` of `cells/v1.2.json`, `mine` of `npz:/data/mine.npz`."""
    if not isinstance(value, str):
        raise TypeError
    return _text(Path(value.rpartition(":")[2]).stem)


def _error(scores: Any) -> str:
    """Standard error of a share: sqrt(p (1 - p) / n), in percent points."""
    share, images = _number(scores["top1"]), _number(scores["images"])
    return f"{100 * math.sqrt(share * (1 - share) / images):.2f}"


FORMS: dict[str, Callable[[Any], str]] = {
    "count": lambda value: f"{_number(value):,.0f}",
    "millions": lambda value: f"{_number(value) / 1e6:.2f}",
    "percent": lambda value: f"{100 * _number(value):.2f} %",
    "error": _error,
    "tenths": lambda value: f"{_number(value):.1f}",
    "hundredths": lambda value: f"{_number(value):.2f}",
    "tiny": lambda value: f"{_number(value):.1e}",
    "minutes": lambda value: f"{_number(value) / 60:.1f}",
    "number": lambda value: f"{_number(value):g}",
    "length": lambda value: str(len(value)),
    "text": _text,
    "name": _name,
    "short": lambda value: _text(value)[:12],
}


@dataclass(frozen=True)
class Figure:
    """A value as a card shows it, with its source behind it."""

    text: str
    form: str
    source: str

    def __str__(self) -> str:
        return f"{self.text}<!-- {self.form}: {self.source} -->"


class Sources:
    """The files that a card's figures come from, each read once.

    Args:
        folder: of the card; figures of the zoo alone without one.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}

    def read(self, name: str) -> Any:
        """What a JSON file holds; raises CardError naming it when it cannot be read."""
        if name not in self._files:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or name.startswith("/") or not name.endswith(".json"):
                raise CardError(f"{name!r} is no source of a figure: JSON files beside the card or zoo/... are")
            if parts[0] != "zoo" and self.folder is None:
                raise CardError(f"{name!r} is no source of a figure here: only zoo/... is")
            path = zoo.path(*parts[1:]) if parts[0] == "zoo" else Path(self.folder or "", name)
            try:
                self._files[name] = json.loads(path.read_text(encoding="utf-8"))
            except OSError as error:
                remedy = "install gemnet again" if parts[0] == "zoo" else ANEW
                raise CardError(f"cannot read {path}, which the card needs: {error.strerror}; {remedy}") from None
            except ValueError:
                raise CardError(f"{path} is no JSON file") from None
        return self._files[name]

    def value(self, source: str) -> Any:
        """What stands at `FILE#/a/b/0`; raises CardError when nothing does."""
        name, _, pointer = source.partition("#")
        found = self.read(name)
        for part in pointer.split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(key) if isinstance(found, list) else key]
            except (LookupError, TypeError, ValueError):
                raise CardError(f"{name} has no {pointer}: a figure without a source") from None
        return found

    def figure(self, form: str, source: str) -> Figure:
        """A value in the form a card shows it in.

        Raises:
            CardError: there is no such value or form, or the value has none in that form.
        """
        if form not in FORMS:
            raise CardError(f"unknown form {form!r} of a figure; known: {', '.join(FORMS)}")
        value = self.value(source)
        try:
            return Figure(FORMS[form](value), form, source)
        except (TypeError, KeyError, ZeroDivisionError, ValueError, OverflowError):
            raise CardError(f"{source} is {value!r:.60}, which cannot be shown as {form}") from None

    def counted(self, source: str, noun: str) -> str:
        """So many of a thing, such as `1 epoch` or `20 epochs`."""
        return f"{self.figure('number', source)} {noun if self.value(source) == 1 else noun + 's'}"


def check_figures(text: str, sources: Sources) -> int:
    """How many figures a card has, after each was found to be what its source says.

    Args:
        text: of the card, without its front matter.
        sources: of its figures.

    Raises:
        CardError: a figure that its source does not say, or a number without a source; names the first.
    """
    rest, end, count = [], 0, 0
    for match in COMMENT.finditer(text):
        before, figure = text[end : match.start()], sources.figure(match[1], match[2])
        kept = before.removesuffix(figure.text)
        if kept == before or re.search(r"[\d.,+-]$", kept):
            said = before.rpartition("\n")[2].rpartition("|")[2].strip()[-40:]
            raise CardError(f"the card says {said!r} where {figure.source} says {figure.text!r}")
        rest.append(kept)
        end, count = match.end(), count + 1
    rest.append(text[end:])
    plain = LITERAL.sub("", FENCE.sub("", "\0".join(rest)))
    for line in plain.splitlines():
        if re.search(r"\d", line):
            raise CardError(f"a number without a source in the card: {line.replace(chr(0), '...').strip()!r:.120}")
    return count


def without_sources(text: str) -> str:
    """A text as its reader sees it: without the comments that name sources."""
    return COMMENT.sub("", text)
