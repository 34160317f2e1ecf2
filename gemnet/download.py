"""Files of models on the Hub, by the Hub's own client; its errors as lines that say what to do."""

import os
from pathlib import Path

from .errors import HubError


def download(
    repo: str, revision: str | None, name: str, cache_dir: str | os.PathLike[str] | None = None
) -> Path | None:
    """Where a file of a model on the Hub is in the client's cache; None when the model has no such file.

    Raises:
        HubError: there is no such model or revision, or it is neither in the cache nor can be reached.
    """
    from huggingface_hub import _CACHED_NO_EXIST, errors, hf_hub_download, try_to_load_from_cache

    cache = None if cache_dir is None else Path(cache_dir)
    try:
        return Path(hf_hub_download(repo, name, revision=revision, cache_dir=cache))
    except errors.RemoteEntryNotFoundError:
        return None
    except Exception as error:  # noqa: BLE001 - the client lets the errors of its HTTP library through, and of disks
        found = try_to_load_from_cache(repo, name, cache_dir=cache, revision=revision)
        if isinstance(found, str) and not isinstance(error, errors.HfHubHTTPError):  # the connection broke
            return Path(found)
        if found is _CACHED_NO_EXIST and isinstance(error, errors.LocalEntryNotFoundError):
            return None
        raise HubError(_explain(error, name, repo, revision)) from None


def _explain(error: Exception, name: str, repo: str, revision: str | None) -> str:
    """What a user can do about an error of the Hub's client, in a line."""
    from huggingface_hub import constants, errors

    place = f"{repo}@{revision}" if revision else repo
    match error:
        case errors.GatedRepoError():
            return f"{repo} is gated: accept its terms on the Hub, and log in by 'hf auth login'"
        case errors.RepositoryNotFoundError():
            return f"the Hub shows no model {repo}: it is misspelt, or private and needs 'hf auth login'"
        case errors.RevisionNotFoundError():
            return f"{repo} has no revision {revision!r}; leave it out for the newest"
        case errors.LocalEntryNotFoundError():
            why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
            return (f"{name} of {place} is not in the cache and {why}; where the Hub can be reached, "
                    f"'gemnet fetch {place} --to DIR' writes a folder to copy here")  # fmt: skip
        case errors.HfHubHTTPError() if error.response.status_code in (401, 403):
            return f"the Hub refuses {place} to this token; log in anew by 'hf auth login'"
    line = " ".join((str(error) or type(error).__name__).split())
    return f"{name} of {place} cannot be downloaded: {line:.300}; try again"
