"""One file of the hub into the hub's cache: resumed where it was left, watched, halted between chunks, verified.

Why not by hf_hub_download: since version 2 of huggingface_hub it writes to a file of a random name and deletes it
when it is interrupted, so nothing could be resumed; its progress is told in steps of 10 MB, and it retries by itself
where a pause does not reach. So a file is read here through the hub's own client, addresses, headers and locks, into
`<etag>.incomplete` beside the blob's place. Everything else is huggingface_hub's: what exists, what it is called, and
at the end `snapshot_download`, which finds the blobs and lays out the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import WeakFileLock, build_hf_headers, get_session, hf_raise_for_status

from engine.errors import Unavailable
from engine.hub.remote import RemoteFile
from engine.models.hub_failures import WRONG_BYTES

CHUNK_BYTES = 1024**2
TIMEOUT_S = 20.0
"""Without a byte for so long, the connection is opened anew."""

_TRIES = 5
"""In a row without a single byte; then it has failed."""

_PAUSE_S = 1.0


@dataclass(frozen=True)
class Watch:
    """tell: so many more bytes of a file are here (fewer than 0 where it begins anew), and whether they have just
    arrived. wait: for so many seconds; True where the download was halted meanwhile. checking: the file of this name is
    here and is being hashed."""

    tell: Callable[[int, bool], None]
    wait: Callable[[float], bool]
    checking: Callable[[str], None]

    def halted(self) -> bool:
        return self.wait(0)


@dataclass(frozen=True)
class RemoteFolder:
    """Where files come from: the address of a file at a commit of a repository. endpoint: None for HF_ENDPOINT."""

    repo: str
    commit: str
    endpoint: str | None = None

    def url(self, name: str) -> str:
        return hf_hub_url(self.repo, name, revision=self.commit, endpoint=self.endpoint)


def fetch(file: RemoteFile, source: RemoteFolder, blobs: Path, lock: Path, watch: Watch) -> bool:
    """Bring a file to blobs/<etag>. False where it was halted on the way; what has arrived then stays.

    Raises Unavailable where what arrived is not what the hub names (it is deleted then), and what the hub's client and
    the disk raise.
    """
    target, part = blobs / file.etag, partial(blobs, file)
    blobs.mkdir(parents=True, exist_ok=True)
    lock.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(lock, timeout=TIMEOUT_S):
        if target.exists() and target.stat().st_size == file.size:
            watch.tell(file.size, False)
            return True
        if not _read_all(file, source.url(file.name), part, watch):
            return False
        watch.checking(file.name)
        _verify(file, part)
        part.replace(target)
    return True


def partial(blobs: Path, file: RemoteFile) -> Path:
    """Where a file grows."""
    return blobs / f"{file.etag}.incomplete"


def arrived_bytes(blobs: Path, file: RemoteFile) -> int:
    """How much of a file is here already."""
    for path in (blobs / file.etag, partial(blobs, file)):
        if path.exists():
            return min(path.stat().st_size, file.size)
    return 0


def _read_all(file: RemoteFile, url: str, part: Path, watch: Watch) -> bool:
    """Read what is missing, again and again where the connection breaks. False where it was halted."""
    have = part.stat().st_size if part.exists() else 0
    if have > file.size:
        part.unlink()
        have = 0
    watch.tell(have, False)
    tries = _TRIES
    while have < file.size:
        before = have
        try:
            with part.open("ab") as out:
                have = _read(file, url, out, have, watch)
        except (httpx2.TransportError, httpx2.StreamError, HfHubHTTPError) as error:
            if isinstance(error, HfHubHTTPError) and not _may_pass(error.response.status_code):
                raise
            have = part.stat().st_size
            tries = _TRIES if have > before else tries - 1
            if tries == 0:
                raise
            if watch.wait(_PAUSE_S):
                return False
        if watch.halted():
            return False
    part.touch()  # an empty file has no bytes to wait for
    return not watch.halted()


def _may_pass(status: int) -> bool:
    """Whether an answer says that the hub is busy or broken now, and not that it has no such file for us."""
    return status == 429 or status >= 500


def _read(file: RemoteFile, url: str, out: Any, have: int, watch: Watch) -> int:
    """Read on from `have` until the end, a halt or an error. Returns how much is there."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT_S, follow_redirects=True) as response:
        hf_raise_for_status(response)
        if have and response.status_code != 206:  # it sends all of it
            watch.tell(-have, False)
            out.truncate(0)
            have = 0
        for chunk in response.iter_bytes(CHUNK_BYTES):
            if have + len(chunk) > file.size:
                raise _wrong(file, f"more than {file.size:,} bytes")
            out.write(chunk)
            have += len(chunk)
            watch.tell(len(chunk), True)
            if watch.halted():
                break
        else:
            if have < file.size:
                raise httpx2.RemoteProtocolError(f"{file.name} ended early")
    return have


def _verify(file: RemoteFile, part: Path) -> None:
    digest = file.digest()
    with part.open("rb") as read:
        while chunk := read.read(CHUNK_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != file.etag:
        part.unlink()
        raise _wrong(file, "other bytes than the hub names")


def _wrong(file: RemoteFile, what: str) -> Unavailable:
    return Unavailable(f"{file.name} arrived with {what}. It was thrown away; try again.", code=WRONG_BYTES)
