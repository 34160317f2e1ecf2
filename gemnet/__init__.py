"""GEMNet: efficient image networks found by NASGEM, as timm models.

Importing this package is cheap. It registers the models `gemnet`, `gemnet_a`, `gemnet_b` and their
`*_cifar` forms with timm: at once when timm is imported already, else right after timm's own import.
"""

from .registration import register

__version__ = "0.1.0"
__all__ = ["__version__"]

register()
