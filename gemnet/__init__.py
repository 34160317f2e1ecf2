"""GEMNet: efficient image networks found by NASGEM, as timm models.

Importing this package is cheap. It registers the models `gemnet`, `gemnet_a`, `gemnet_b` and their
`*_cifar` forms with timm: at once when timm is imported already, else right after timm's own import.
"""

from typing import TYPE_CHECKING, Any

from .registration import register

if TYPE_CHECKING:
    from .loading import from_pretrained

__version__ = "0.1.0"
__all__ = ["__version__", "from_pretrained"]

register()


def __getattr__(name: str) -> Any:
    if name == "from_pretrained":  # imported when asked for, which keeps this import cheap
        from .loading import from_pretrained

        return from_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
