"""What is asked of a release before it is published: weights that were trained, files that agree with each other."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

import onnx
from huggingface_hub import ModelCard
from safetensors import SafetensorError, safe_open

from gemnet.durable import file_sha256
from gemnet.errors import ReleaseError
from gemnet.manifest import FILE, Manifest, describe
from gemnet.packing import CHANCE, least_learnt
from gemnet.reading import read_json
from gemnet.saved import LOCAL
from gemnet.saving import CONFIG, WEIGHTS

from .bundle import FILES
from .card import CARD, check_card
from .card_facts import TRAIN
from .form import Form
from .parity import parity_cases
from .source import load_source
from .verify import LIMITS, verify

MOST_IMAGES = 1 << 53  # that a float counts


def check_release(folder: Path, repo: str, tag: str | None) -> Manifest:
    """The manifest of a release whose files are as it lists them, with a card that says what they say.

    Raises:
        ReleaseError: a file is not listed, the card is of another release, or the figures are of other weights.
        GemnetError: a listed file is missing, damaged or a link, or the card has a figure without a source.
    """
    manifest = check_manifest(folder)
    check_card(folder)
    card = ModelCard.load(folder / CARD)
    told, known = card.data.get("license"), read_json(folder / CONFIG)["pretrained_cfg"].get("license")
    if not told or told != known:
        raise ReleaseError(f"{folder}: the card's licence is {told!r}, the config's {known!r}; a release has one")
    reference = f'"hf-hub:{repo}@{tag}"' if tag else f'"hf-hub:{repo}"'
    if reference not in card.text:
        of = f"--repo {repo}" + (f" --tag {tag}" if tag else "")
        raise ReleaseError(
            f"{folder / CARD} is the card of another release: it never says {reference}; "
            f"publish the trained folder again with {of}, which writes the release anew"
        )
    measured, result = read_json(folder / "report.json").get("metrics"), read_json(folder / TRAIN).get("result")
    if not isinstance(measured, dict) or not isinstance(result, dict):
        raise ReleaseError(f"{folder}: report.json has no metrics, or {TRAIN} no result, as gemnet writes them")
    _check_accuracy(measured, result)
    return manifest


def check_manifest(folder: Path) -> Manifest:
    """The manifest of a folder that holds exactly the files listed; raises ReleaseError naming another."""
    manifest, found = Manifest.read(folder / FILE), describe(folder)
    manifest.check(folder)
    for name in found.files:
        if name not in manifest.files:
            raise ReleaseError(f"{folder / name} is not listed in {FILE}; remove it, or have the release written anew")
    return manifest


def check_trained(folder: Path) -> None:
    """Raises ReleaseError unless a folder holds weights that were trained, and a record that says so.

    What is looked at: whether `train.json` is of a training that is over, of this network, and above chance; whether
    every weight is a number and every batch norm has seen images.
    """
    if not (folder / TRAIN).is_file():
        raise ReleaseError(f"there is no record of a training ({TRAIN}); publish the folder that gemnet train wrote")
    train, config = read_json(folder / TRAIN), read_json(folder / CONFIG)
    try:
        arguments = config["model_args"]
        result, classes, trained = train["result"], len(train["asked"]["data"]["classes"]), train["asked"]["model"]
        own = arguments["cell"] if isinstance(arguments["cell"], list) else [arguments["cell"]]
        if (trained["cells"], trained["net"]) != (own, arguments["net"]):
            raise ReleaseError(f"{TRAIN} and {CONFIG} are of different networks; publish what was trained")
        if result is None:
            raise ReleaseError(f"{TRAIN}: the training is not over; go on with it by gemnet train --resume")
        weights = result.get("weights_sha256")  # trainings of version 0.1 do not say
        if weights and weights != file_sha256(folder / WEIGHTS):
            raise ReleaseError(f"{WEIGHTS} is not the file that the training of {TRAIN} wrote")
        test, counts = result["test"], train["asked"]["data"]["counts"]
        share, images = (test["top1"], test["images"]) if test else (result["val_acc"], counts["val"])
    except KeyError as error:
        raise ReleaseError(f"{TRAIN} is not what gemnet train writes: it has no {error}") from None
    except (TypeError, AttributeError) as error:
        raise ReleaseError(f"{TRAIN} is not what gemnet train writes: {error}") from None
    if not _is_share(share) or not _is_count(images):
        raise ReleaseError(f"{TRAIN} is not what gemnet train writes: it says that {share!r:.40} of {images!r:.40} "
                           "images are right")  # fmt: skip
    _check_learnt(share, images, classes, f"{TRAIN} says")
    _check_tensors(folder / WEIGHTS)


def check_onnx(folder: Path) -> None:
    """Raises GemnetError unless the ONNX files of a release do what its weights do, and are those it reports of."""
    source, report = load_source(f"{LOCAL}{folder}"), read_json(folder / "report.json")
    config = read_json(folder / "onnx" / CONFIG)
    if report["weights"] != source.weights or config["weights"] != source.weights:
        raise ReleaseError(f"{folder}: the ONNX files are of the weights {report['weights']}, not {source.weights}")
    as_bytes = config["preprocessing"]["dtype"] == "uint8"
    known_data = replace(source, name=report["model"]).metadata(as_bytes, report["metrics"])
    known_data["version"] = f"gemnet {report['versions']['gemnet']}"
    precisions = {file: precision for precision, file in FILES.items()}
    for name, known in report["files"].items():
        path = folder / "onnx" / name
        if name not in precisions or file_sha256(path) != known["sha256"]:
            raise ReleaseError(f"{path} is not the file that report.json speaks of")
        form = Form(source.image, known["opset"], tuple(config["dynamic"]), as_bytes, source.least_side)
        said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        verify(path, form, parity_cases(source.model, form, source.scaling), LIMITS[precisions[name]],
               metadata={**said, **known_data})  # fmt: skip


def _is_share(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and 0 <= value < MOST_IMAGES


def _check_accuracy(measured: dict[str, Any], result: dict[str, Any]) -> None:
    """Refuses weights that are further below the training's accuracy than chance explains, if it was measured."""
    if "accuracy" not in measured:
        return
    share, images, wanted = measured["accuracy"], measured.get("images"), result.get("val_acc")
    if not (_is_share(share) and _is_share(wanted) and _is_count(images)) or not images:
        raise ReleaseError(f"report.json says that {share!r:.40} of {images!r:.40} images are right, {TRAIN} "
                           f"{wanted!r:.40}; these are no accuracies")  # fmt: skip
    least = wanted - CHANCE * math.sqrt(wanted * (1 - wanted) / images) - 1 / images
    if not share >= least:
        raise ReleaseError(
            f"these are not the weights that were trained: {100 * share:.1f} % of {images} images of "
            f"{measured['data']} are right, {TRAIN} says {100 * wanted:.1f} %"
        )


def _check_learnt(share: float, images: int, classes: int, who: str) -> None:
    least = least_learnt(images, classes)
    if not share >= least:
        raise ReleaseError(
            f"the weights look untrained: {who} that {100 * share:.1f} % of {images} images are right, chance among "
            f"{classes} classes is {100 / max(classes, 2):.1f} %; at least {100 * least:.1f} % is asked for"
        )


def _check_tensors(path: Path) -> None:
    """Refuses weights that are no numbers, or whose batch norms have never seen an image."""
    norms, fresh = 0, []
    try:
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                    raise ReleaseError(f"the weights are damaged: {name!r} has values that are infinite or no numbers")
                if name.endswith("running_var"):
                    norms += 1
                    fresh += [name.rpartition(".")[0]] if bool((tensor == 1).all()) else []
    except (SafetensorError, OSError) as error:
        raise ReleaseError(f"{path} is no safetensors file: {error}") from None
    if fresh:
        raise ReleaseError(f"the weights look untrained: {len(fresh)} of {norms} batch norms have seen no image, such "
                           f"as {fresh[0]}")  # fmt: skip
