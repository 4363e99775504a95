"""Batches on disk, each with an owner, and how each stands. The server's loop only.

data folder / batches / batch_….json         the batch; written whole at every change of its status
                        batch_….journal      its answers so far (engine.batch_run.journal); gone once it has ended
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.access.visibility import Caller
from engine.api.files.kept import KeptFolder
from engine.api.files.records import OwnedRecords
from engine.errors import Busy, ModelNotFound
from engine.types import Json

BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ENDED = ("failed", "completed", "expired", "cancelled")
WINDOW_S = 24 * 3600
MAX_OPEN = 100
"""Batches of one owner that have not ended."""

MAX_KEPT = 1000
"""Of one owner. The oldest that have ended go first; their files stay."""

TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")


@dataclass
class StoredBatch:
    """created_ns: since 1970. operator: whether its owner may see what others sent (engine.access). times: when it came
    to each status, in seconds since 1970. total, completed, failed: of its requests. output_id, error_id: of the files
    that come of it, chosen before they are written; has_output, has_errors: they are there."""

    id: str
    owner: str
    operator: bool
    endpoint: str
    input_file_id: str
    created_ns: int
    metadata: dict[str, str] | None = None
    status: BatchStatus = "validating"
    times: dict[str, int] = field(default_factory=dict)
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: list[Json] = field(default_factory=list)
    output_id: str = ""
    error_id: str = ""
    has_output: bool = False
    has_errors: bool = False
    usage: Json | None = None
    model: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    @property
    def created_at(self) -> int:
        """In seconds since 1970."""
        return self.created_ns // 10**9

    @property
    def expires_at(self) -> int:
        return self.created_at + WINDOW_S

    @property
    def who(self) -> Caller:
        """Who asks its requests."""
        return Caller(self.owner, self.operator)

    def to_json(self) -> Json:
        """https://platform.openai.com/docs/api-reference/batch/object"""
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "model": self.model,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_id if self.has_output else None,
            "error_file_id": self.error_id if self.has_errors else None,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            **{f"{name}_at": self.times.get(name) for name in TIMES},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "usage": self.usage,
            "metadata": self.metadata,
        }


class BatchStore:
    """The batches of a kept folder."""

    def __init__(self, kept: KeptFolder) -> None:
        self._kept = kept
        self._batches: OwnedRecords[StoredBatch] = OwnedRecords(lambda: self.folder, "batch_*.json", StoredBatch)

    @property
    def folder(self) -> Path:
        return self._kept.path

    def journal_path(self, batch: StoredBatch) -> Path:
        return self.folder / f"{batch.id}.journal"

    def of(self, owner: str) -> list[StoredBatch]:
        """All batches of somebody, the oldest first."""
        return self._batches.of(owner)

    def open(self) -> list[StoredBatch]:
        """Those of everybody that have not ended, the oldest first."""
        return [batch for batch in self._batches.all() if not batch.has_ended]

    def find(self, owner: str, batch_id: str) -> StoredBatch:
        """Raises ModelNotFound (batch_not_found), also for a batch of somebody else."""
        batch = self._batches.find(owner, batch_id)
        if batch is None:
            raise ModelNotFound(f"There is no batch {batch_id[:100]!r}.", code="batch_not_found", param="batch_id")
        return batch

    def reader(self, file_id: str) -> str | None:
        """The batch that has not ended and reads this file."""
        return next((batch.id for batch in self.open() if batch.input_file_id == file_id), None)

    def add(self, owner: str, who: Caller, endpoint: str, file_id: str, metadata: dict[str, str] | None) -> StoredBatch:
        """A new batch, which waits for its turn. Raises Busy where its owner has too many that wait."""
        mine = self.of(owner)
        if sum(not batch.has_ended for batch in mine) >= MAX_OPEN:
            why = f"{MAX_OPEN} batches have not ended yet; no more are taken until one has."
            raise Busy(why, retry_after_s=60, code="batches_full")
        for old in [batch for batch in mine if batch.has_ended][: max(0, len(mine) + 1 - MAX_KEPT)]:
            self._batches.remove(old.id)
        batch = StoredBatch(
            f"batch_{secrets.token_hex(12)}", owner, who.operator, endpoint, file_id, time.time_ns(), metadata
        )
        self.save(batch)
        return batch

    def come_to(self, batch: StoredBatch, status: BatchStatus) -> None:
        """Note a new status, with its time."""
        batch.status = status
        batch.times[status] = int(time.time())
        self.save(batch)
        if batch.has_ended:
            self.journal_path(batch).unlink(missing_ok=True)

    def save(self, batch: StoredBatch) -> None:
        """Raises Unavailable (a full disk)."""
        self._batches.keep(batch)
