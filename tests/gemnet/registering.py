"""Registration of the models anew, for weights that a test has put into a zoo."""

import importlib
import warnings

from gemnet import gemnet as entry_points


def register() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm tells that a name is registered again
        importlib.reload(entry_points)
