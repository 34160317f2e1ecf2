"""Models that bring their weights, by reference: trained folders, models on the Hub, registered names."""

import os
from typing import Any

from safetensors import SafetensorError

from . import zoo
from .errors import ConfigError, GemnetError, NoWeightsError
from .network import GemNet
from .outcome import FILE
from .pretrained import find_weights
from .release import is_registered
from .saving import CONFIG

LOCAL = "local-dir:"
SOURCES = (LOCAL, "hf-hub:")  # of models with weights, besides the registered names


def saved_place(reference: str) -> str:
    """A folder that holds a saved model, as timm names it; other references as they are.

    Raises:
        ConfigError: the folder holds no saved model.
    """
    if is_registered(reference) or reference.startswith(SOURCES[1:]):
        return reference
    folder = os.path.expanduser(reference.removeprefix(LOCAL))
    if os.path.isfile(os.path.join(folder, CONFIG)):
        return f"{LOCAL}{folder}"
    is_local, there = reference.startswith(LOCAL), os.path.isdir(folder)
    if not is_local and (zoo.find("cells", reference) is not None or os.path.isfile(reference)):
        return reference
    if os.path.isfile(os.path.join(folder, FILE)):
        raise ConfigError(f"{folder} holds a training, but no {CONFIG}: it is not over, or the file is gone; in both "
                          "cases gemnet train ... --resume makes it")  # fmt: skip
    if there:
        raise ConfigError(f"{folder} is no trained folder: it has no {CONFIG}, such as gemnet train writes")
    if is_local or (os.sep in reference and not reference.endswith(".json")):
        raise ConfigError(f"there is no trained folder {folder}; check the path")
    return reference


def refuse_size(reference: str, sized: bool) -> None:
    """Raises ConfigError when a model that has a size, since it has weights, is asked for `sized` otherwise."""
    if sized:
        raise ConfigError(f"{reference} has its own size; leave out --macro and --macs")


def check_weights(name: str, remedy: str) -> None:
    """Raises NoWeightsError, with a remedy, unless there are weights of a registered name."""
    try:
        find_weights(name)
    except NoWeightsError as error:
        raise NoWeightsError(f"{error}; {remedy}") from None


def create_model(name: str, **options: Any) -> GemNet:
    """As `timm.create_model`; raises GemnetError when it cannot be made or loaded, or is no GEMNet."""
    import timm

    try:
        model = timm.create_model(name, **options)
    except GemnetError:
        raise
    except SafetensorError as error:
        raise ConfigError(f"the weights of {name} are damaged ({error!s:.200}); copy or fetch them again") from None
    except (RuntimeError, OSError, ValueError, KeyError, AssertionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        reason = f"its {CONFIG} has no {reason}" if isinstance(error, KeyError) else reason
        raise ConfigError(f"the model {name} cannot be made or loaded: {reason:.200}") from None
    if not isinstance(model, GemNet):
        raise ConfigError(f"{name} is a {type(model).__name__}; only GEMNets are trained and evaluated here")
    return model
