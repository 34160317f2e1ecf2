"""A release: a folder with all that is published of a trained model, each file listed in `manifest.json`.

    model.safetensors, config.json    what timm loads
    train.json                        how the weights were trained
    cell.json                         the cell, and how it was found
    onnx/                             what `gemnet export` writes, for ONNX Runtime
    report.json                       what was measured of the files in onnx/
    .eval_results/                    the accuracy, for a benchmark of the Hub if one was named
    README.md, cell.svg               the card
    manifest.json                     size and sha256 of every file
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined] # it is in the client's guide

from gemnet import zoo
from gemnet.catalog import cell_notes, find_cell
from gemnet.data import Dataset, load
from gemnet.durable import put_folder, scratch, sync_tree
from gemnet.errors import GemnetError, ReleaseError, UsageError
from gemnet.manifest import FILE, Manifest, describe, resolve_inside
from gemnet.pretrained import Weights, find_weights
from gemnet.public_data import data_of, label_names, licence
from gemnet.reading import read_json
from gemnet.release import REPO, is_folder
from gemnet.saving import CONFIG, WEIGHTS, save_folder

from .bundle import FILES, Plan, export_bundle
from .card import CARD, write_card
from .card_facts import CELL, TRAIN, Facts
from .card_figures import Sources
from .fitness import check_onnx, check_release, check_trained
from .form import Form
from .report import complete
from .samples import PACKAGED, Samples
from .source import Source, load_source
from .trained import is_trained_folder

ONNX, REPORT = "onnx", "report.json"
IMAGES = 256, 128  # to try the ONNX files on, and to set the ranges of int8
TAG = re.compile(r"(?!.*\.\.)(?!.*\.lock$)v\d+\.\d+\.\d+([.-][0-9A-Za-z.-]*[0-9A-Za-z])?", re.ASCII)  # git takes it too
Say = Callable[[str], None]


@dataclass(frozen=True)
class Wish:
    """What is to be published, and where.

    Args:
        repo: `ORG/NAME` on the Hub.
        tag: such as `v1.0.0`; none when None.
        precisions: of the ONNX files, keys of `gemnet.export.bundle.FILES`.
        data: name of the data set to try the files on; images that come with this package when None.
        benchmark: `DATASET:TASK` on the Hub that the accuracy is reported to; none when None.

    Raises:
        UsageError: no such name, tag or benchmark can be on the Hub.
    """

    repo: str
    tag: str | None = None
    precisions: tuple[str, ...] = ("fp32",)
    data: str | None = None
    benchmark: str | None = None

    def __post_init__(self) -> None:
        if not REPO.fullmatch(self.repo):
            raise UsageError(f"a repository is named ORG/NAME, in letters, digits and ._-, got {self.repo!r:.120}")
        try:
            validate_repo_id(self.repo)
        except HFValidationError as error:
            raise UsageError(f"a repository is named ORG/NAME as the Hub allows it: {error!s:.250}") from None
        if self.tag is not None and not TAG.fullmatch(self.tag):
            raise UsageError(f"a tag is a version such as v1.0.0, got {self.tag!r}")
        if self.benchmark is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+:[\w.-]+", self.benchmark):
            raise UsageError(f"a benchmark is named ORG/DATASET:TASK, got {self.benchmark!r}")


def assemble(name: str, out: Path, wish: Wish, say: Say = lambda _: None) -> Manifest:
    """Writes the release of a trained model into a folder, and returns its manifest.

    A folder that holds an earlier release is replaced; its ONNX files and report are kept, and checked again, when
    they are of the same weights, precisions, images and versions, so that nothing is measured twice.

    Args:
        name: a folder that `gemnet train` wrote, or a registered name with weights, with or without their tag.
        out: the release's folder; it stays as it is unless everything passed.
        wish: what to publish.
        say: told what is being done.

    Raises:
        ReleaseError: the model is not fit to be published, or the folder is no unchanged release.
        GemnetError: as `export_bundle` and `write_card`.
    """
    out = Path(os.path.abspath(out))
    old, published = _earlier(out), _published(name)
    data = load(wish.data) if wish.data else None
    source = _source(name, published, data)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        place = scratch(out.parent, out.name)
    except OSError as error:
        raise UsageError(f"cannot write to {out.parent}: {error.strerror}; choose another folder by --out") from None
    with place as folder:
        draft = Path(folder, "release")
        draft.mkdir()
        _copy_model(name, published, source, draft)
        check_trained(draft)
        named = _add_name_and_licence(source, draft)
        _write_json(draft / CELL, {**named.cell.to_dict(), **_cell_notes(name, named)})
        _add_onnx(named, draft, old, wish, data, say)
        manifest = _describe(draft, wish, say)
        _put(draft, out)
    return manifest


def _put(draft: Path, out: Path) -> None:
    """Gives the draft its name; an earlier release that had it is deleted after, unless it was changed meanwhile."""
    replace = _earlier(out) is not None
    try:
        sync_tree(draft)
        put_folder(draft, out, replace=replace)
    except OSError as error:
        raise UsageError(f"cannot write to {out}: {error.strerror}; choose another folder by --out") from None


def _describe(draft: Path, wish: Wish, say: Say) -> Manifest:
    """Adds what speaks of the other files: result, card and, last, the manifest."""
    if wish.benchmark:
        _add_benchmark(draft, wish.benchmark)
    say("writing the card")
    write_card(draft, wish.repo, wish.tag)
    manifest = describe(draft)
    manifest.write(draft / FILE)
    check_release(draft, wish.repo, wish.tag)
    return manifest


def is_release(name: str) -> bool:
    """Whether a name is a release's folder: one whose manifest lists a card."""
    if not is_folder(name) or not all(os.path.isfile(os.path.join(name, file)) for file in (FILE, CARD)):
        return False
    try:
        return CARD in Manifest.read(Path(name, FILE)).files
    except GemnetError:
        return False


def _earlier(out: Path) -> Path | None:
    """The folder, when it holds an earlier release that is as it was written; None when it is empty or not there."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"{out} is a link or a file, and stays; choose another folder by --out")
    if not out.is_dir() or not any(out.iterdir()):
        return None
    if not is_release(str(out)):
        raise UsageError(f"{out} holds other files; choose another folder by --out")
    if describe(out) != Manifest.read(out / FILE):
        raise ReleaseError(f"{out} was changed after it was written; delete it to have the release written anew")
    return out


def _published(name: str) -> Weights | None:
    """The weights of that name in a zoo; None for a folder that has its own."""
    return None if is_trained_folder(name) else find_weights(name)[0]


def _source(name: str, published: Weights | None, data: Dataset | None) -> Source:
    """The model of a name, with the weights that were chosen."""
    if published is None:
        return load_source(name, data=data)
    source = load_source(name, data=data)
    if source.weights != f"sha256 {published.sha256}":
        raise UsageError(f"the weights of {name} are not for the classes or channels of {data.name if data else name}")
    return source


def _copy_model(name: str, published: Weights | None, source: Source, draft: Path) -> None:
    """Weights, config and the record of the training, as they are."""
    folder = Path(name)
    if published is None:
        if (folder / FILE).is_file():
            Manifest.read(folder / FILE).check(folder)
        for file in (WEIGHTS, CONFIG, TRAIN):
            if file != TRAIN or os.path.lexists(folder / TRAIN):
                shutil.copyfile(resolve_inside(folder, file), draft / file)
        return
    save_folder(source.model, draft, label_names=source.labels)
    (draft / FILE).unlink()  # of the config as it is so far
    shutil.copyfile(published.path, draft / WEIGHTS)
    record = published.path.with_suffix(".train.json")
    if record.is_file():
        shutil.copyfile(record, draft / TRAIN)


def _cell_notes(name: str, source: Source) -> dict[str, Any]:
    """What is known of how the cell was found: from the trained folder, else from a cell of the zoo that is equal."""
    files = [Path(name, CELL), *(zoo.find("cells", known) for known in zoo.names("cells"))]
    for file in files:
        if file is not None and file.is_file() and find_cell(file).key == source.cell.key:
            return cell_notes(file)
    return {}


def _add_onnx(source: Source, draft: Path, old: Path | None, wish: Wish, data: Dataset | None, say: Say) -> None:
    if old is not None and _same_export(old, source, wish, data):
        say("checking the ONNX files of the earlier release")
        shutil.copytree(old / ONNX, draft / ONNX)
        shutil.copyfile(old / REPORT, draft / REPORT)
        check_onnx(draft)
        return
    form = Form(source.image, least_side=source.least_side)
    samples = (Samples.of(data, source.image, source.model.num_classes, *IMAGES) if data
               else Samples.packaged(source.image, *IMAGES))  # fmt: skip
    export_bundle(source, draft / ONNX, Plan(form, wish.precisions), samples, say=say)
    os.replace(draft / ONNX / REPORT, draft / REPORT)


def _same_export(old: Path, source: Source, wish: Wish, data: Dataset | None) -> bool:
    """Whether an earlier release's ONNX files are what would be exported now."""
    report = read_json(old / REPORT)
    labels = json.loads((old / ONNX / "labels.json").read_text(encoding="utf-8"))
    found = (report["weights"], report["model"], report["versions"], set(report["files"]), tuple(labels),
             {file["data"] for file in report["files"].values()})  # fmt: skip
    wanted = (source.weights, source.name, complete({})["versions"], {FILES[p] for p in ("fp32", *wish.precisions)},
              source.labels, {data.name if data else PACKAGED})  # fmt: skip
    return found == wanted


def _add_name_and_licence(source: Source, draft: Path) -> Source:
    """Lets the config and the ONNX files say of name, licence and classes what the card will."""
    config, train = read_json(draft / CONFIG), read_json(draft / TRAIN)
    data = data_of(train)
    terms, labels = licence(data).id, label_names(source.labels, data)
    config["pretrained_cfg"]["license"] = terms
    if labels != source.labels:
        config["label_names"] = list(labels)
    _write_json(draft / CONFIG, config)
    return replace(source, name=Path(str(train["asked"]["model"]["name"])).stem, license=terms, labels=labels)


def _add_benchmark(draft: Path, benchmark: str) -> None:
    """The accuracy, in percent, in the form in which the Hub collects results."""
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError:
        raise UsageError("--benchmark needs a newer Hub client: pip install -U huggingface-hub") from None
    import yaml  # type: ignore[import-untyped]

    facts = Facts.read(draft, Sources(draft))
    dataset, _, task = benchmark.partition(":")
    value = round(100 * Sources(draft).value(facts.accuracy), 2)
    entries = eval_result_entries_to_yaml([EvalResultEntry(dataset_id=dataset, task_id=task, value=value)])
    path = draft / ".eval_results" / f"{dataset.partition('/')[2]}.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
