"""The errors a user can cause or meet, as one tree.

    GemnetError                 exit 1: something failed while running
    ├── UsageError              exit 2: what was asked for cannot be done as asked
    │   ├── UnknownNameError    a name that is in no list; names the nearest
    │   │   └── UnknownArgumentError   the name of a keyword argument
    │   ├── NoWeightsError      a model without trained weights; says which have some
    │   ├── CellError           a cell that is no directed acyclic graph, or too large
    │   ├── ConfigError         a setting of the wrong type, range or name
    │   └── DataError           a data set that is missing or unusable
    ├── StudyError              a study directory or journal that cannot be used
    │   ├── JournalError        a damaged journal
    │   └── ReplayError         a resumed strategy asks for something else than before
    ├── TrainingError           a training whose loss is no number any more
    ├── CheckpointError         a folder of a training that cannot be written, read or gone on with
    ├── EvaluationError         too many candidates failed to train
    ├── FileError               a file from elsewhere that is missing, too large or of another kind
    │   └── ManifestError       one that is not what its release's manifest says, or a manifest that is none
    ├── HubError                a Hub that cannot be reached, or has no such model or revision
    ├── ReleaseError            a model or folder that is not fit to be published
    ├── CardError               a card's figure that its source does not say, or that has none
    └── ExportError             an exported file that does not match its model

A message says what was got, what is allowed, and what helps. Command lines print it as one
line and exit with `exit_code`; no traceback is shown for any of these.
"""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant: the same but for case, else the shortest it begins, else the closest."""
    by_lower = {known.lower(): known for known in sorted(names, reverse=True)}
    lower = name[:100].lower()  # names from elsewhere may be of any length
    begun = [known for known in sorted(by_lower, key=len) if lower and known.startswith(lower)]
    found = begun or difflib.get_close_matches(lower, by_lower, n=1, cutoff=0.5)
    return by_lower[found[0]] if found else None


class GemnetError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


class UsageError(GemnetError):
    """What was asked for cannot be done as asked."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is in no list.

    Args:
        kind: what the name names, such as `"op"` or `"preset"`.
        name: the name that was got.
        known: the names that exist.
    """

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        names = sorted(known)
        near = nearest(str(name), names)
        hint = f" (did you mean {near!r}?)" if near else ""
        super().__init__(f"unknown {kind} {name!r:.100}{hint}; known: {', '.join(names) or 'none'}")
        self.kind, self.name, self.known = kind, name, names

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return type(self), (self.kind, self.name, self.known)


class UnknownArgumentError(UnknownNameError, TypeError):
    """A keyword argument that a model does not take; a TypeError too, which is what timm promises."""

    def __init__(self, kind: str, name: object, known: Iterable[str]) -> None:
        super().__init__(kind, name, known)


class NoWeightsError(UsageError, RuntimeError):
    """Weights were asked for where there are none; a RuntimeError too, which is what timm raises."""


class CellError(UsageError):
    """A cell that is no directed acyclic graph of the allowed size, or misses a node."""


class ConfigError(UsageError):
    """A setting of the wrong type, range or name."""


class DataError(UsageError):
    """A data set that is missing, malformed or cannot be downloaded."""


class StudyError(GemnetError):
    """A study directory that cannot be used as asked."""

    exit_code = 2


class JournalError(StudyError):
    """A journal whose rows do not match their checksums."""

    exit_code = 1


class ReplayError(StudyError):
    """A resumed strategy asked for something else than when the study was started."""

    exit_code = 1


class TrainingError(GemnetError):
    """A training whose loss became infinite or not a number."""


class CheckpointError(GemnetError):
    """A training's folder that cannot be written, read or gone on with."""


class EvaluationError(GemnetError):
    """So many candidates failed that the search stopped."""


class ExportError(GemnetError):
    """An exported file that does not match the model it came from."""


class CardError(GemnetError):
    """A card with a figure that has no source, or that its source does not say."""


class ReleaseError(GemnetError):
    """A model or folder that is not fit to be published, or a release that is not as it was written."""


class FileError(GemnetError):
    """A file from elsewhere that is missing, too large or of another kind than it must be."""


class ManifestError(FileError):
    """A file that is not what its release's manifest says, or a manifest that is none."""


class HubError(GemnetError):
    """A Hub that cannot be reached, refuses, or has no such model or revision."""
