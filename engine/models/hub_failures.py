"""What the hub's client, the network and the disk raise, as one of our errors with words for a person. Pure."""

from __future__ import annotations

import errno

import httpx2
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from engine.errors import BadRequest, EngineError, Forbidden, ModelNotFound, Unavailable

UNREACHABLE = "hub_unreachable"
DISK_FULL = "disk_full"
WRONG_BYTES = "wrong_bytes"


def in_words(error: Exception, repo: str, revision: str | None = None) -> EngineError:
    """The error to show for one that was raised while `repo` was asked for or downloaded, in this revision."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, HFValidationError):
        return BadRequest(f"{repo[:200]!r} is not the name of a model: it is like org/name.", param="model")
    if isinstance(error, HfHubHTTPError):
        return _of_the_hub(error, repo, revision)
    if isinstance(error, OfflineModeIsEnabled):
        return Unavailable("The hub is not asked: HF_HUB_OFFLINE is set.", code=UNREACHABLE)
    if isinstance(error, httpx2.HTTPError | LocalEntryNotFoundError | ConnectionError):
        return Unavailable("The hub cannot be reached. Is this machine online?", code=UNREACHABLE)
    failed = Unavailable(f"The download failed: {_first_line(error)}.", code="download_failed")
    return _of_the_disk(error) if isinstance(error, OSError) else failed


def _of_the_hub(error: HfHubHTTPError, repo: str, revision: str | None) -> EngineError:
    """What the hub answered."""
    if isinstance(error, GatedRepoError):  # a RepositoryNotFoundError too, so this comes first
        return Forbidden(
            f"{repo!r} is gated: accept its terms on its page of the hub, and log in with `hf auth login`.",
            code="gated_model",
            param="model",
        )
    if isinstance(error, RepositoryNotFoundError):
        why = f"The hub has no model {repo!r}, or it is private and you are not logged in."
        return ModelNotFound(why, param="model")
    if isinstance(error, RevisionNotFoundError):
        return ModelNotFound(
            f"{repo!r} has no {f'revision {revision!r}' if revision else 'such revision'}.", param="revision"
        )
    return Unavailable(f"The hub answered with {error.response.status_code}.", code=UNREACHABLE)


def _of_the_disk(error: OSError) -> EngineError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable("The disk is full. Make room, then go on: what has arrived is kept.", code=DISK_FULL)
    return Unavailable(f"The disk refused: {error.strerror or _first_line(error)}.", code="disk_failed")


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
