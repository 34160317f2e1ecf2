"""Cards: of a release, from the files beside it, and of the family, from the zoo; every figure names its source.

The templates `card_*.md.jinja` hold the words. A template shows strings and figures alone, so that a number
without a source ends in an error instead of a card.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from gemnet import zoo
from gemnet.cell import Cell
from gemnet.draw import draw_cell
from gemnet.durable import write_atomic
from gemnet.errors import CardError
from gemnet.public_data import PUBLIC, licence
from gemnet.reading import read_json
from gemnet.release import CONFIG

from .card_facts import TRAIN, Facts, metadata
from .card_figures import ANEW, Figure, Sources, check_figures

CARD, PICTURE = "README.md", "cell.svg"
MODES = {1: "L", 3: "RGB"}  # of PIL, by channels
BEFORE = 30  # characters that two texts share, shown before those in which they differ
REFERENCE = re.compile(r'"hf-hub:([\w.-]+/[\w.-]+)(?:@([\w.-]+))?"', re.ASCII)  # which release a card is of


def write_card(folder: Path, repo: str, tag: str | None = None) -> Path:
    """Writes `README.md` and `cell.svg` into a release's folder and returns the card's path.

    Args:
        folder: with `report.json` of the export and `train.json` of the training; both are read, none is changed.
        repo: `ORG/NAME` on the Hub.
        tag: of the release, which the examples then ask for.

    Raises:
        CardError: a figure without a source, or files that are missing or of different networks.
    """
    text, facts = release_card(folder, repo, tag), Facts.read(folder, Sources(folder))
    write_atomic(folder / PICTURE, draw_cell(Cell.from_dict(facts.report["cell"])) + "\n")
    write_atomic(folder / CARD, text)
    return folder / CARD


def release_card(folder: Path, repo: str, tag: str | None = None) -> str:
    """The card that `write_card` writes; nothing is written."""
    sources = Sources(folder)
    with understood(folder):
        facts = Facts.read(folder, sources)
        text = render("card_release.md.jinja", sources, **_context(facts, repo, tag))
        check_figures(text, sources)
        return str(ModelCard(f"---\n{metadata(facts, repo).to_yaml()}\n---\n\n{text}"))


@contextmanager
def understood(folder: Path) -> Iterator[None]:
    """Raises CardError where a file of a folder lacks what `gemnet export` or `gemnet train` writes into it."""
    try:
        yield
    except (LookupError, StopIteration, AttributeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        files = f"{folder}: report.json or train.json"
        raise CardError(f"{files} is not what gemnet export and train write ({reason:.120})") from None


def check_card(folder: Path) -> int:
    """How many figures the card of a release's folder has, after each was found to be what its source says.

    Raises:
        CardError: a figure that its source does not say, a number without a source, front matter or a line that is
            not what `write_card` writes of the files, or no card.
    """
    path, sources = folder / CARD, Sources(folder)
    if not path.is_file():
        raise CardError(f"there is no card {path}; {ANEW}")
    try:
        card = ModelCard.load(path)
    except Exception as error:  # noqa: BLE001 - YAML's errors and the client's own have no common base
        raise CardError(f"{path} is no model card: {error}") from None
    with understood(folder):
        wanted: Any = metadata(Facts.read(folder, sources), card.data.model_name or "")
        expected, found = wanted.to_dict(), card.data.to_dict()
    for field in sorted(expected.keys() | found.keys()):
        if expected.get(field) != found.get(field):
            at, told, own = _first_difference(field, found.get(field), expected.get(field))
            raise CardError(f"{path} says {at}: {told}, the files say {own}; {ANEW}")
    count = check_figures(card.text, sources)
    reference = REFERENCE.search(card.text)
    if reference is None:
        raise CardError(f"{path} never says which release it is of")
    _check_lines(path, release_card(folder, reference[1], reference[2]))
    return count


def _first_difference(at: str, told: Any, own: Any) -> tuple[str, str, str]:
    """Where two unequal JSON values first differ, as a path such as `model-index/0/name`, and what each has there."""
    if type(told) is type(own) and isinstance(told, (dict, list)):
        keys = sorted(told.keys() | own.keys()) if isinstance(told, dict) else range(max(len(told), len(own)))
        for key in keys:
            pair = [_child(value, key) for value in (told, own)]
            if pair[0] != pair[1]:
                return _first_difference(f"{at}/{key}", pair[0], pair[1])
    return at, *_where_apart(told, own)


def _child(value: Any, key: Any) -> Any:
    """What a dict or list has under a key, None when nothing."""
    return value.get(key) if isinstance(value, dict) else value[key] if key < len(value) else None


def _where_apart(told: Any, own: Any) -> tuple[str, str]:
    """Two unequal values as text short enough for a message; of long strings what stands about their difference."""
    if isinstance(told, str) and isinstance(own, str):
        start = max(next(k for k, (a, b) in enumerate(zip_longest(told, own)) if a != b) - BEFORE, 0)
        told, own = ("..." * (start > 0) + text[start:] for text in (told, own))
    return f"{told!r:.80}", f"{own!r:.80}"


def _check_lines(path: Path, wanted: str) -> None:
    """Raises CardError for the first line of a card that is another than wanted."""
    found = path.read_text(encoding="utf-8")
    if found == wanted:
        return
    for number, (told, own) in enumerate(zip_longest(found.splitlines(), wanted.splitlines(), fillvalue=""), 1):
        if told != own:
            shown, wanted_there = _where_apart(told, own)
            raise CardError(f"line {number} of {path} is {shown}, from the files it is {wanted_there}; {ANEW}")
    raise CardError(f"{path} is not as it is written from the files; {ANEW}")


def family_card(search: str = "search_cifar10_small") -> str:
    """The text of the family's card, from the package's zoo alone.

    Args:
        search: the published figures of the search that found the cells.

    Raises:
        CardError: a figure without a source.
    """
    sources = Sources()
    models, at = sources.read("zoo/results/models.json"), f"zoo/results/{search}.json"
    cells = {row["cell"] for row in models["rows"]}
    text = render(
        "card_family.md.jinja", sources, models=models, search_at=f"{at}#", search=sources.read(at),
        weights=sources.read("zoo/pretrained.json")["weights"],
        titles={key: data.title for key, data in PUBLIC.items()},
        provisional=sorted(name for name in cells if sources.read(f"zoo/cells/{name}.json").get("provisional")),
    )  # fmt: skip
    check_figures(text, sources)
    return text


def render(template: str, sources: Sources, **context: Any) -> str:
    """The text of a template beside this file; raises CardError for what is no string or figure.

    Args:
        template: its name.
        sources: behind the template's `figure(form, source)`.
        context: other names that the template reads.
    """
    try:
        return environment().get_template(template).render(context, figure=sources.figure, counted=sources.counted)
    except TemplateError as error:
        raise CardError(f"{template}: {error}") from None


@cache
def environment() -> Environment:
    """What reads the templates; each is compiled once."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, finalize=_shown, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    found.filters["braced"] = lambda text: f"{{{text}}}"  # BibTeX's own braces
    return found


def _shown(value: Any) -> Any:
    if isinstance(value, (str, Figure)):
        return value
    raise CardError(f"a card's template shows {value!r:.60} without a source")


def _context(facts: Facts, repo: str, tag: str | None) -> dict[str, Any]:
    """What the template of a release reads besides figures; numbers in it stand in code only."""
    report, train = facts.report, facts.train
    file = next(iter(report["files"]))
    place = next((path for path in sorted(facts.folder.rglob(file))), facts.folder / file)
    counts, recipe = train["asked"]["data"]["counts"], train["asked"]["recipe"]
    return {
        "report": report, "train": train, "report_at": f"{facts.report_file}#",
        "repo": repo, "tag": tag or "", "reference": f"{repo}@{tag}" if tag else repo,
        "data": facts.data, "terms": licence(facts.data), "split": facts.split, "accuracy_at": facts.accuracy,
        "split_name": {"val": "validation"}.get(facts.split, facts.split), "counts": counts,
        "fingerprint": "sha256:" + train["asked"]["data"]["fingerprint"],
        "classes_at": _classes(facts), "recipe": [name for name, value in recipe.items() if value],
        "gpus": train["hardware"]["gpus"], "first_file": file,
        "labelled": any(row["accuracy"] is not None for row in report["files"].values()),
        "first_at": f"{facts.report_file}#/files/{file}", "onnx_file": place.relative_to(facts.folder).as_posix(),
        **_example(report, train, file), **_origin(facts),
    }  # fmt: skip


def _classes(facts: Facts) -> str:
    """Where the names of the classes stand: in the config, which knows those of public data, else in the training."""
    named = (facts.folder / CONFIG).is_file() and "label_names" in read_json(facts.folder / CONFIG)
    return f"{CONFIG}#/label_names" if named else f"{TRAIN}#/asked/data/classes"


def _example(report: Any, train: Any, file: str) -> dict[str, Any]:
    """How a photograph becomes the input of an ONNX file, written as Python."""
    (channels, height, width), recipe = report["image"], train["asked"]["recipe"]
    edge = (1 - recipe["crop_pct"]) / 2 if recipe.get("img_size") else 0  # of streamed images, which are cropped
    scaling = {name: str([round(value, 4) for value in train["asked"]["data"][name]]) for name in ("mean", "std")}
    return {
        "as_bytes": report["files"][file]["inputs"]["images"][-1] == channels, "gray": channels == 1,
        "bleed": f", bleed={edge:g}" if edge else "", "height": str(height), "width": str(width),
        "mode": MODES.get(channels, "RGB"), **scaling,
    }  # fmt: skip


def _origin(facts: Facts) -> dict[str, Any]:
    """Of the cell: its provenance, and the published figures of the study it came from, if there are any."""
    if not facts.origin:
        return {"origin_at": ""}
    origin = Sources(facts.folder).value(facts.origin)
    return {
        "origin_at": facts.origin, "origin": origin, "study": "sha256:" + origin["study_id"][:12],
        "measured_at": measured(origin),
    }  # fmt: skip


def measured(origin: Any) -> str:
    """The published figures of the study that a provenance speaks of, as `zoo/results/NAME.json#`; empty without."""
    for file in sorted(zoo.path("results").glob("search_*.json")):
        at = f"zoo/results/{file.name}#"
        summary = Sources().value(f"{at}/summary")
        if all(summary[f"best_{name}"] == origin["metrics"][name] for name in ("val_acc", "macs")):
            return at
    return ""
