"""What the hub has of a model: its files with their sizes and hashes. Blocks; raises the hub client's errors."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError

from engine.errors import BadRequest
from engine.models.locate import FILES

_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file. size in bytes. sha256: of its content, where the hub has it (large files); else blob_id, git's hash."""

    name: str
    size: int
    blob_id: str
    sha256: str = ""

    @property
    def etag(self) -> str:
        """The name of its blob in the hub's cache."""
        return self.sha256 or self.blob_id

    def digest(self) -> Any:
        """What hashes its content as the hub did: sha256, or git's sha1 over a line with the size and the content.
        https://git-scm.com/book/en/v2/Git-Internals-Git-Objects#_object_storage"""
        if self.sha256:
            return hashlib.sha256()
        return hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """A model on the hub at one commit, with the files that the engine reads."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def num_bytes(self) -> int:
        return sum(file.size for file in self.files)


def check_repo(repo: str) -> str:
    """The id of a repository. Raises HFValidationError for anything else: it becomes a part of paths and addresses."""
    if not _REPO.fullmatch(repo) or ".." in repo or "--" in repo:
        raise HFValidationError(repo)
    return repo


def remote_model(api: HfApi, repo: str, revision: str | None = None) -> RemoteModel:
    """Ask for its files. Raises BadRequest for one without weights in safetensors files."""
    info = api.model_info(check_repo(repo), revision=revision, files_metadata=True)
    found = [
        RemoteFile(
            name=sibling.rfilename,
            size=sibling.size or 0,
            blob_id=sibling.blob_id or "",
            sha256=sibling.lfs.sha256 if sibling.lfs else "",
        )
        for sibling in info.siblings or ()
        if any(fnmatch(sibling.rfilename, pattern) for pattern in FILES)
    ]
    if not all(_HASH.fullmatch(file.etag) for file in found):
        raise BadRequest(f"The hub names no hashes for the files of {repo!r}.", param="model", code="no_hashes")
    if not any(file.name.endswith(".safetensors") for file in found):
        why = f"{repo!r} has no weights in safetensors files, which is what this engine reads."
        raise BadRequest(why, param="model", code="no_safetensors")
    # Small ones first: with its config.json here, what is half downloaded can be said to be what it is.
    return RemoteModel(repo, info.sha or "", tuple(sorted(found, key=lambda file: (file.size, file.name))))
