"""Published models as timm models, with every file checked before it is read."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import FileError, GemnetError, UnknownArgumentError, UsageError
from .foreign import parse_config
from .pretrained import find_weights
from .reading import MAX_JSON, parse_json
from .release import CONFIG, WEIGHTS, Release, find_place, open_release

if TYPE_CHECKING:
    from torch import nn

FIXED = {"pretrained_cfg", "pretrained_cfg_overlay"}  # of a model's arguments: they would change what is loaded


def from_pretrained(
    ref: str | os.PathLike[str], revision: str | None = None, *,
    cache_dir: str | os.PathLike[str] | None = None, **kwargs: Any,
) -> "nn.Module":  # fmt: skip
    """A published model as `timm.create_model` builds it, in eval mode, with its `pretrained_cfg`.

    Its files are compared with the release's manifest before anything is read from them, and only JSON and
    safetensors files are read. What is downloaded stays in the Hub client's cache.

    Args:
        ref: `ORG/NAME`, `ORG/NAME@TAG` or `hf-hub:...` on the Hub, a folder or `local-dir:DIR`, or the name of
            weights in a zoo such as `gemnet_a_cifar`.
        revision: tag, branch or commit on the Hub.
        cache_dir: of the Hub client; its own choice when None.
        kwargs: as `timm.create_model` takes them, such as `num_classes`, `in_chans` or `features_only`.

    Raises:
        FileError: a file is missing, or not as published (`ManifestError`).
        HubError: it cannot be downloaded.
        ConfigError: the weights are another model's.
        UsageError: the reference or an argument means nothing.
    """
    if not isinstance(ref, (str, os.PathLike)):
        raise UsageError(f"a model is named by a text or a path, got {ref!r:.60}")
    place = find_place(ref, revision)
    import timm

    from .gemnet import known_arguments

    taken = known_arguments() - FIXED
    for name in kwargs:
        if name not in taken:
            raise UnknownArgumentError("argument of from_pretrained", name, taken)
    if place.kind != "package":
        return _build(open_release(place, cache_dir), kwargs).eval()
    find_weights(place.name)
    model: nn.Module = timm.create_model(place.name, pretrained=True, **kwargs)
    return model.eval()


def _build(release: Release, kwargs: Mapping[str, Any]) -> "nn.Module":
    import timm

    from .weights import most_bytes, read_tensors

    config, place = release.folder / CONFIG, release.place
    content = release.read(CONFIG, MAX_JSON)
    try:
        arguments, cfg = parse_config(parse_json(content, str(config)))
        state = timm.create_model("gemnet", device="meta", pretrained_cfg=cfg, **arguments).state_dict()
    except GemnetError as error:
        raise FileError(f"{config} is refused: {error}") from None
    file = release.file(WEIGHTS, most_bytes(state))
    tensors, digest = read_tensors(file, state)
    if digest != release.manifest.files[WEIGHTS].sha256:
        raise FileError(f"{file} changed while it was read")
    model: Any = timm.create_model(
        "gemnet", pretrained=True, pretrained_cfg={**cfg, "state_dict": tensors}, **{**arguments, **kwargs}
    )
    model.pretrained_cfg.pop("state_dict", None)
    origin = ("hf-hub", "hf_hub_id", str(place)) if place.kind == "hub" else ("local-dir", "file", place.name)
    model.pretrained_cfg.update({"source": origin[0], origin[1]: origin[2]})
    return model  # type: ignore[no-any-return]
