"""A training's outcome as weights of a zoo: `weights/NAME-HASH.safetensors` and its entry in the list.

    weights/gemnet_a_cifar.cifar10-0123abcd.safetensors
    weights/gemnet_a_cifar.cifar10-0123abcd.train.json     how they were trained

The files are named by their content, and the list is written last, so it never names what is not there.
"""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

from .catalog import FAMILY
from .config import NetConfig
from .durable import write_atomic, write_synced
from .errors import ConfigError, FileError, GemnetError, UnknownNameError, UsageError
from .foreign import parse_config
from .outcome import FILE as TRAIN
from .pretrained import LIST, SCHEMA, Result, Weights, load_weights_list, read_weights_list
from .promotion import default_zoo
from .public_data import PUBLIC, PublicData, data_of, label_names
from .public_data import licence as licence_of
from .reading import read_file, read_json
from .release import CONFIG, WEIGHTS, verify_source

NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
MAX_MB = 16  # of one file; larger weights are for the Hub
CHANCE = 5.0  # standard errors above chance from which an accuracy is learnt


def pack(
    folder: Path, name: str, *, data: str | None = None, licence: str | None = None, target: Path | None = None,
    force: bool = False,
) -> Weights:  # fmt: skip
    """Puts the weights of a finished training into the zoo, under the name by which timm shall load them.

    Args:
        folder: as `gemnet train` wrote it.
        name: `arch.tag`, such as `gemnet_a_cifar.cifar10`.
        data: name of the data set; when None that of the public set the training knows, else the one its record
            has, else the tag.
        licence: of the weights, for timm's pretrained cfg; what `gemnet publish` says when None.
        target: the zoo; `default_zoo()` when None.
        force: replace weights of that name.

    Raises:
        UsageError: the name is none or is taken, `data` is not the public set that the training knows, the weights
            are too large or look untrained, or the zoo cannot be written to.
        GemnetError: the training is not over, its folder holds another network than the name's, or the weights are
            not those that it wrote.
    """
    arch, _, tag = name.partition(".")
    if not NAME.fullmatch(name):
        raise UsageError(f"weights in a zoo are named ARCH.TAG, such as gemnet_a_cifar.cifar10; got {name!r:.80}")
    if arch not in FAMILY:
        raise UnknownNameError("model", arch, FAMILY)
    home = target or default_zoo()
    listed = read_weights_list(home / LIST) if (home / LIST).is_file() else {}
    if name in (listed if target else load_weights_list()) and not force:
        raise UsageError(f"{name} has weights already; --force replaces them")
    arguments, saved = _read_config(folder, arch)
    train = read_json(folder / TRAIN)
    result, content = _read_result(folder, train, data, tag), _read_weights(folder, arguments, saved)
    cfg = _choose_cfg(arch, saved, data_of(train), licence)
    digest = hashlib.sha256(content).hexdigest()
    if digest != (train["result"].get("weights_sha256") or digest):  # version 0.1 does not say
        raise FileError(f"{folder / WEIGHTS} is not the file that the training of {TRAIN} wrote")
    file = f"weights/{name}-{digest[:8]}.safetensors"
    weights = Weights(file, digest, {part: arguments[part] for part in ("cell", "net")}, cfg, result, home)
    try:
        (home / "weights").mkdir(parents=True, exist_ok=True)
        write_synced(home / file, content)
        write_atomic(_record(home / file), (folder / TRAIN).read_text(encoding="utf-8"))
        _write_list(home, listed, name, weights)
    except OSError as error:
        raise UsageError(f"cannot write to {home}: {error.strerror}") from None
    return weights


def _read_config(folder: Path, arch: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments and the pretrained cfg of a saved model that is the arch's network."""
    verify_source({"source": "local-dir", "file": str(folder)})
    try:
        arguments, cfg = parse_config(read_json(folder / CONFIG))
    except GemnetError as error:
        raise FileError(f"{folder / CONFIG} is refused: {error}") from None
    variant = FAMILY[arch]
    if arguments["cell"] != variant.load().to_dict() or NetConfig.from_dict(arguments["net"]) != variant.net():
        raise ConfigError(f"{folder} holds another network than {arch}; train {arch} itself, without --macs or --macro")
    return arguments, cfg


def _choose_cfg(arch: str, saved: dict[str, Any], data: PublicData | None, licence: str | None) -> dict[str, Any]:
    """The fields of a saved pretrained cfg that are not the arch's own, with the licence and the classes' names."""
    from timm.models import PretrainedCfg

    from .gemnet import CFGS

    own = PretrainedCfg(**CFGS[arch])  # timm's registry has that of the arch's weights
    names = label_names(saved.get("label_names") or (), data) or None
    known = {"tag": None, "label_names": names, "license": licence or licence_of(data).id}
    return {field: value for field, value in (saved | known).items() if getattr(own, field) != value}


def _read_result(folder: Path, told: dict[str, Any], data: str | None, tag: str) -> Result:
    """What the training scored on its test split."""
    try:
        result, counts, classes = told["result"], told["asked"]["data"]["counts"], told["asked"]["data"]["classes"]
        test = result and result["test"]
        found = test and Result(_name_data(told, data, tag), "test", counts["test"], test["top1"], test["top5"])
        least = least_learnt(found.images, len(classes)) if found else 0.0
        learnt = not found or found.top1 >= least
    except (KeyError, TypeError):
        raise FileError(f"{folder / TRAIN} is no record of gemnet train") from None
    if result is None:
        raise UsageError(f"the training in {folder} is not over; finish it by gemnet train --resume")
    if found is None:
        raise UsageError(f"the training in {folder} scored no test split, so nothing can be said of its weights")
    if not learnt:
        raise UsageError(f"the weights in {folder} look untrained: {100 * found.top1:.1f} % of {found.images} test "
                         f"images are right, at least {100 * least:.1f} % is asked for")  # fmt: skip
    return found


def _name_data(told: dict[str, Any], data: str | None, tag: str) -> str:
    public = data_of(told)
    known = next((name for name, listed in PUBLIC.items() if listed is public), None)
    if known is not None and data not in (None, known):
        raise UsageError(f"the weights were trained on {known}, as {TRAIN} says, not on {data}; leave out --data")
    return data or known or str(told["asked"]["data"].get("name") or tag)


def least_learnt(images: int, classes: int) -> float:
    """The share of images, in [0, 1], that is so far above chance that it was learnt."""
    chance = 1 / max(classes, 2)
    return chance + CHANCE * math.sqrt(chance * (1 - chance) / max(images, 1))


def _read_weights(folder: Path, arguments: dict[str, Any], cfg: dict[str, Any]) -> bytes:
    """The weights file, after it was found to be the network's."""
    import timm

    from .weights import read_tensors

    path, most = folder / WEIGHTS, MAX_MB * 10**6
    read_tensors(path, timm.create_model("gemnet", device="meta", pretrained_cfg=cfg, **arguments).state_dict())
    if path.stat().st_size > most:
        raise UsageError(f"{path} has more than {MAX_MB} MB, too much for a zoo; gemnet publish takes it")
    return read_file(path, most)


def _record(file: Path) -> Path:
    return file.with_suffix(".train.json")


def _write_list(home: Path, listed: dict[str, Weights], name: str, weights: Weights) -> None:
    """Enters the weights, then removes the files of those they replace."""
    entries = {key: value.to_dict() for key, value in {**listed, name: weights}.items()}  # a new tag never leads
    write_atomic(home / LIST, json.dumps({"schema": SCHEMA, "weights": entries}, indent=1) + "\n")
    if name in listed and listed[name].file != weights.file:
        for file in (home / listed[name].file, _record(home / listed[name].file)):
            file.unlink(missing_ok=True)
