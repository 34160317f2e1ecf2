"""What the user should know while something goes on: said once, by the first of several launched processes."""

import logging
import os
from functools import cache


def is_first() -> bool:
    """Whether this process is the first, or the only one, that a launcher such as `torchrun` started."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


@cache
def warn_once(text: str) -> None:
    """Says something once, and of several launched processes in one alone."""
    if is_first():
        logging.getLogger(__name__).warning("%s", text)
