"""Files on disk, each with an owner. All methods run on the server's loop; contents are written in threads.

    data folder / batches / files / file-….json      what it is; written last, so that a file is whole or not there
                                    file-….data      its bytes

An id that a client names is looked up among those that are here, and never becomes part of a path.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.api.files.kept import KeptFolder
from engine.api.files.records import OwnedRecords
from engine.config import ServerConfig
from engine.errors import ModelNotFound, TooLarge, Unavailable, say_bytes
from engine.types import Json

INPUT, OUTPUT = "batch", "batch_output"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """filename: as its client called it. created_ns: since 1970."""

    id: str
    owner: str
    filename: str
    purpose: str
    num_bytes: int
    created_ns: int

    def to_json(self) -> Json:
        """https://platform.openai.com/docs/api-reference/files/object"""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.num_bytes,
            "created_at": self.created_ns // 10**9,
            "expires_at": None,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class FileStore:
    """The files of a kept folder."""

    def __init__(self, config: ServerConfig, kept: KeptFolder) -> None:
        self._config = config
        self._kept = kept
        self._files: OwnedRecords[KeptFile] = OwnedRecords(lambda: self.folder, "file-*.json", KeptFile)
        self._adding = asyncio.Lock()

    @property
    def folder(self) -> Path:
        return self._kept.path / "files"

    def path(self, file: KeptFile) -> Path:
        """Where its bytes are."""
        return self.folder / f"{file.id}.data"

    def of(self, owner: str) -> list[KeptFile]:
        """All files of somebody, the oldest first."""
        return self._files.of(owner)

    def find(self, owner: str, file_id: str) -> KeptFile:
        """Raises ModelNotFound (file_not_found), also for a file of somebody else."""
        file = self._files.find(owner, file_id)
        if file is None:
            raise ModelNotFound(f"There is no file {file_id[:100]!r}.", code="file_not_found", param="file_id")
        return file

    async def add(self, owner: str, filename: str, purpose: str, data: bytes) -> KeptFile:
        """Keep a file that was uploaded. Raises TooLarge where its owner has too many, or too large ones already."""
        async with self._adding:  # two at once would each find the room that there is
            mine = self.of(owner)
            most, most_bytes = self._config.max_stored_files, self._config.max_stored_bytes
            if len(mine) >= most:
                raise TooLarge(f"There are {len(mine)} files already; at most {most} are kept.", code="files_full")
            held = sum(file.num_bytes for file in mine)
            if held + len(data) > most_bytes:
                why = f"Files have {say_bytes(held)} already and this one {say_bytes(len(data))}"
                raise TooLarge(f"{why}; all together may have {say_bytes(most_bytes)}.", code="files_full")
            file = KeptFile(self.new_id(), owner, filename[:200], purpose, len(data), time.time_ns())
            return await self.write(file, iter((data,)))

    def new_id(self) -> str:
        return f"file-{secrets.token_hex(12)}"

    async def write(self, file: KeptFile, pieces: Iterator[bytes]) -> KeptFile:
        """Write a file from its pieces, in a thread; one of the same id is replaced. Raises Unavailable (a full disk).

        Returns it with its size."""
        try:
            num_bytes = await asyncio.to_thread(self._write, file, pieces)
        except OSError as error:
            why = f"The file cannot be kept: {error.strerror or error}."
            raise Unavailable(why, code="storage_failed") from error
        whole = KeptFile(file.id, file.owner, file.filename, file.purpose, num_bytes, file.created_ns)
        self._files.keep(whole)
        return whole

    def remove(self, file: KeptFile) -> None:
        """Forget a file, and its bytes."""
        self._files.remove(file.id)
        self.path(file).unlink(missing_ok=True)

    def _write(self, file: KeptFile, pieces: Iterator[bytes]) -> int:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        num_bytes = 0
        with self.path(file).open("wb") as out:
            for piece in pieces:
                out.write(piece)
                num_bytes += len(piece)
        return num_bytes
