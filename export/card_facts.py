"""What a release's own files say of its model, as its card needs it: data, licence, the Hub's metadata."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from gemnet import zoo
from gemnet.cell import Cell
from gemnet.errors import CardError
from gemnet.public_data import PublicData, data_of, licence

from .card_figures import Sources

TRAIN, CELL = "train.json", "cell.json"
REPORTS = ("report.json", "onnx/report.json")


@dataclass(frozen=True)
class Facts:
    """The files of a release that its card speaks of, read and found to speak of one network.

    Args:
        folder: of the release.
        report_file: of the export's report in it.
        report: of the export.
        train: of the training.
        origin: where the cell's provenance stands; empty when nobody knows it.
    """

    folder: Path
    report_file: str
    report: Mapping[str, Any]
    train: Mapping[str, Any]
    origin: str

    @property
    def data(self) -> PublicData | None:
        """The data set it was trained on, if it is a public one."""
        return data_of(self.train)

    @property
    def split(self) -> str:
        """What the result is of: the test split, or the validation split where there is no other."""
        return "test" if self.train["result"]["test"] else "val"

    @property
    def accuracy(self) -> str:
        """Where the model's accuracy stands."""
        return f"{TRAIN}#/result/{'test/top1' if self.split == 'test' else 'val_acc'}"

    @classmethod
    def read(cls, folder: Path, sources: Sources) -> "Facts":
        """Of a release's folder.

        Raises:
            CardError: a file is missing or cannot be read, the training is not over, or they are of two networks.
        """
        report_file = next((name for name in REPORTS if (folder / name).is_file()), REPORTS[0])
        report, train = sources.read(report_file), sources.read(TRAIN)
        try:
            model, result = train["asked"]["model"], train["result"]
            networks = (report["cell"], report["net"]), (model["cells"][0], model["net"])
        except (KeyError, TypeError, IndexError):
            raise CardError(f"{folder}: {report_file} or {TRAIN} is not what gemnet export and train write") from None
        if result is None:
            raise CardError(f"{folder / TRAIN}: the training is not over; go on with it by --resume")
        if networks[0] != networks[1] or len(model["cells"]) > 1:
            raise CardError(f"{folder}: {report_file} and {TRAIN} are of different networks; export what was trained")
        return cls(folder, report_file, report, train, _origin(folder, Cell.from_dict(report["cell"]).key))


def _origin(folder: Path, key: str) -> str:
    """Where it stands how a cell was found: in `cell.json`, else in a cell of the zoo that is the same graph."""
    sources = Sources(folder)
    packaged = [f"zoo/cells/{file.name}" for file in sorted(zoo.path("cells").glob("*.json"))]
    for name in (*((CELL,) if (folder / CELL).is_file() else ()), *packaged):
        found = sources.read(name)
        if "provenance" in found and Cell.from_dict({k: found[k] for k in ("schema", "ops", "edges")}).key == key:
            return f"{name}#/provenance"
    return ""


def metadata(facts: Facts, repo: str) -> ModelCardData:
    """The front matter of a card, as the Hub's client checks it.

    Args:
        facts: of the release.
        repo: `ORG/NAME` on the Hub.
    """
    terms, data = licence(facts.data), facts.data
    value = Sources(facts.folder).value(facts.accuracy)
    result = EvalResult(
        task_type="image-classification", task_name="Image classification",
        dataset_type=data.hub_id if data else "unknown", dataset_name=data.title if data else "no known public set",
        dataset_split={"val": "validation"}.get(facts.split, facts.split),
        metric_type="accuracy", metric_name="top-1 accuracy", metric_value=value,
    )  # fmt: skip
    return ModelCardData(
        license=terms.id, license_name=terms.name or None, library_name="timm", pipeline_tag="image-classification",
        tags=["image-classification", "timm", "onnx", "gemnet", "neural-architecture-search", "arxiv:2007.04452"],
        datasets=[data.hub_id] if data else None, metrics=["accuracy"], model_name=repo.rpartition("/")[2],
        eval_results=[result],
    )  # fmt: skip
