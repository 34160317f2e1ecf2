"""Weights of the zoo: its `pretrained.json` lists them, each with its file's sha256.

An entry stands under the name timm knows the weights by, `arch.tag`:

    {"schema": "gemnet.pretrained/1",
     "weights": {"gemnet_a_cifar.cifar10": {"file": "weights/NAME.safetensors", "sha256": "...",
                                            "model_args": {"cell": {...}, "net": {...}}, "cfg": {"mean": [...]},
                                            "result": {"data": "cifar10", "split": "test", "images": 10000,
                                                       "top1": 0.9, "top5": 0.99}}}}

`model_args` is what the weights were trained as, so that they load whatever becomes of the name's cell;
`cfg` holds fields of `gemnet.foreign.Preprocessing` that differ from the name's own. Of several tags of an arch the
first is the one that the arch's own name stands for, as in timm. The user's own zoo (see `gemnet.zoo`) has such a list
too.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from . import settings, zoo
from .catalog import FAMILY
from .errors import ConfigError, GemnetError, NoWeightsError, UnknownNameError
from .foreign import Preprocessing

SCHEMA = "gemnet.pretrained/1"
LIST = "pretrained.json"


@dataclass(frozen=True)
class Result:
    """What weights scored, in [0, 1], on so many images of a split of a data set."""

    data: str
    split: str
    images: int
    top1: float
    top5: float


@dataclass(frozen=True)
class Weights:
    """One file of weights in a zoo.

    Args:
        file: its path inside the zoo.
        sha256: of its bytes, in hex.
        model_args: `cell` and `net` as JSON objects.
        cfg: fields of timm's pretrained cfg, those of `gemnet.foreign.Preprocessing`.
        result: what they scored, if that is known.
        home: the zoo, which the list does not say; the package's when None.
    """

    file: str
    sha256: str
    model_args: dict[str, Any]
    cfg: dict[str, Any] = field(default_factory=dict)
    result: Result | None = None
    home: Path | None = None

    def __post_init__(self) -> None:
        path = Path(self.file)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".safetensors":
            raise ConfigError(f"weights are a .safetensors file inside the zoo, got {self.file!r}")
        if set(self.model_args) != {"cell", "net"}:
            raise ConfigError(f"model_args of {self.file} are cell and net, got {sorted(self.model_args)}")
        known = [field.name for field in fields(Preprocessing)]
        for name in self.cfg:
            if name not in known:
                raise UnknownNameError(f"field of the cfg of {self.file}", name, known)

    @property
    def path(self) -> Path:
        """Where the file is."""
        return (self.home or zoo.PACKAGE) / self.file

    @property
    def packaged(self) -> bool:
        """Whether they come with the package."""
        return self.home in (None, zoo.PACKAGE)

    def to_dict(self) -> dict[str, Any]:
        """Their entry in the list."""
        return {name: value for name, value in asdict(self).items() if name != "home"}

    def check(self) -> None:
        """Raises ConfigError unless the file is there and has the sha256 it should."""
        remedy = "install gemnet again" if self.packaged else "have gemnet promote-weights write them again"
        try:
            digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"cannot read weights {self.path}: {error.strerror}; {remedy}") from None
        if digest != self.sha256:
            raise ConfigError(f"{self.path} is damaged: its sha256 is {digest}, not {self.sha256}; {remedy}")


def load_weights_list() -> dict[str, Weights]:
    """All weights by their name: the package's, then those of the user's own zoo, which hide the package's of a name.

    Raises:
        ConfigError: a list is malformed.
    """
    own = zoo.user_folder() / LIST
    return {**read_weights_list(zoo.path(LIST)), **(read_weights_list(own) if own.is_file() else {})}


def read_weights_list(file: Path) -> dict[str, Weights]:
    """The weights of the zoo that a list is in, by their name and in its order; raises ConfigError as above."""
    remedy = "install gemnet again" if file == zoo.path(LIST) else "mend or remove it"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"the list of weights {file} cannot be read: {error}; {remedy}") from None
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA or not isinstance(data.get("weights"), Mapping):
        raise ConfigError(f"the list of weights {file} has another schema than {SCHEMA!r}; {remedy}")
    try:
        entries = {name: settings.from_dict(Weights, row, f"weights {name}") for name, row in data["weights"].items()}
    except GemnetError as error:
        raise ConfigError(f"the list of weights {file} is refused: {error}; {remedy}") from None
    return {name: replace(weights, home=file.parent) for name, weights in entries.items()}


def find_weights(name: str) -> list[Weights]:
    """The weights of an arch, those that its name stands for first, or those of one name `arch.tag`.

    Raises:
        UnknownNameError: no such arch.
        NoWeightsError: the zoo has no weights of it.
    """
    listed = load_weights_list()
    if name.partition(".")[0] not in FAMILY:
        raise UnknownNameError("model or folder", name, {*FAMILY, *listed})
    found = [weights for known, weights in listed.items() if name in (known, known.partition(".")[0])]
    if not found:
        raise NoWeightsError(f"the zoo has no weights of {name}; it has those of {', '.join(listed) or 'no model'}")
    return found
