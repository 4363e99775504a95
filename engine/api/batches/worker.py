"""Works through batches: those of one owner one after the other, those of several owners side by side.

    validating ── lines checked ──> in_progress ── Runner ──> finalizing ── files written ──> completed
        └──> failed                     └── cancel ──> cancelling ──> cancelled
                                        └── 24 h ────────────────────> expired

Every step may be cut short by the end of the process; the next one goes on from what is on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.api.answering.failures import failure
from engine.api.batches.asking import Endpoint
from engine.api.batches.lines import BatchLine, check_lines, read_body
from engine.api.batches.results import BatchResults
from engine.api.batches.store import BatchStatus, BatchStore, StoredBatch
from engine.api.files.kept import KeptFolder
from engine.api.files.store import OUTPUT, FileStore, KeptFile
from engine.batch_run.journal import Journal
from engine.batch_run.runner import BatchPlaces, Runner, WorkItem
from engine.config import ServerConfig
from engine.core import Engine
from engine.errors import EngineError, ModelNotFound, Unavailable
from engine.types import Json


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is on disk."""

    folder: KeptFolder
    files: FileStore
    batches: BatchStore


class BatchWorker:
    """run() is one task of the server; create and cancel go through notice() and cancel(). One event loop."""

    def __init__(
        self, engine: Engine, config: ServerConfig, kept: Kept, endpoints: Mapping[str, Endpoint], places: BatchPlaces
    ) -> None:
        self._engine = engine
        self._config = config
        self._folder, self._files, self._batches = kept.folder, kept.files, kept.batches
        self._endpoints = endpoints
        self._asked = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        """What asks the requests of a batch, by its id."""
        self._places = places

    def notice(self) -> None:
        """There is a new batch."""
        self._asked.set()

    def cancel(self, batch: StoredBatch) -> None:
        """Ask no more of its requests; what is answered is kept."""
        self._batches.come_to(batch, "cancelling")
        if batch.id in self._running:
            self._running[batch.id].cancel()

    async def run(self) -> None:
        """Work until cancelled, or until the engine has ended."""
        owners: dict[str, asyncio.Task[None]] = {}
        try:
            while True:
                self._asked.clear()
                for batch in self._batches.open() if self._folder.is_ours else ():
                    if batch.owner not in owners or owners[batch.owner].done():
                        owners[batch.owner] = asyncio.create_task(self._work_for(batch.owner))
                await self._asked.wait()
        finally:
            for task in owners.values():
                task.cancel()
            await asyncio.gather(*owners.values(), return_exceptions=True)

    async def _work_for(self, owner: str) -> None:
        """All batches of somebody, the oldest first."""
        while batch := next((one for one in self._batches.open() if one.owner == owner), None):
            try:
                await self._work(batch)
            except EngineError as error:
                if self._engine.is_draining or self._engine.snapshot().state in ("failed", "stopped"):
                    return  # the next start goes on with it
                self._fail(batch, error)
            except Exception as error:
                self._fail(batch, failure(error, batch.id))

    def _fail(self, batch: StoredBatch, error: EngineError) -> None:
        batch.errors = [{"code": error.code, "message": error.message, "param": error.param, "line": None}]
        batch.status = "failed"  # also where the disk that is full takes no more
        with contextlib.suppress(Unavailable):
            self._batches.come_to(batch, "failed")

    async def _work(self, batch: StoredBatch) -> None:
        """One batch to its end. Raises EngineError."""
        try:
            file = self._files.find(batch.owner, batch.input_file_id)
        except ModelNotFound as error:
            raise Unavailable(f"Its file is gone: {error.message}", code="file_not_found") from error
        path, most = self._files.path(file), self._config.max_batch_requests
        checked = await asyncio.to_thread(check_lines, path, batch.endpoint, most)
        if checked.errors:
            batch.errors = list(checked.errors)
            self._batches.come_to(batch, "failed")
            return
        with contextlib.suppress(EngineError):  # each of its requests says so
            await self._engine.ready(checked.lines[0].model or None)
        batch.total, batch.model = len(checked.lines), checked.lines[0].model or None
        if batch.status == "validating":
            self._batches.come_to(batch, "in_progress")
        journal = Journal(self._batches.journal_path(batch), {"batch": batch.id, "endpoint": batch.endpoint})
        try:
            ending: BatchStatus = "cancelled" if batch.status == "cancelling" else "completed"
            if batch.status == "in_progress":
                ending = await self._ask(batch, path, checked.lines, journal)
            if ending == "completed" and batch.status != "finalizing":
                self._batches.come_to(batch, "finalizing")
            await self._finish(batch, BatchResults(batch.id, checked.lines, journal, expired=ending == "expired"))
        finally:
            journal.close()
        self._batches.come_to(batch, ending)

    async def _ask(self, batch: StoredBatch, path: Path, lines: Sequence[BatchLine], journal: Journal) -> BatchStatus:
        """Ask its requests. Returns how it ends. Raises Unavailable where the engine is gone."""
        by_id = {line.custom_id: line for line in lines}
        endpoint, who = self._endpoints[batch.endpoint], batch.who
        descriptor = os.open(path, os.O_RDONLY)

        async def ask(item: WorkItem) -> Json:
            async with self._places:
                return await endpoint.ask(read_body(descriptor, by_id[item.key]), who)

        batch.failed = sum(entry.is_failed for entry in journal.entries.values())
        batch.completed = len(journal.entries) - batch.failed

        def count(record: Json) -> None:
            is_failed = record.get("error") is not None
            batch.failed += is_failed
            batch.completed += not is_failed

        # A failed request is an answer, too: only what has no record is asked after a restart.
        items = [WorkItem(line.custom_id, group=line.prefix) for line in sorted(lines, key=lambda line: line.model)]
        left = [item for item in items if item.key not in journal.entries]
        work = asyncio.create_task(Runner(journal, self._engine.config.max_num_seqs, count).run(left, ask))
        self._running[batch.id] = work
        try:
            done, _ = await asyncio.wait((work,), timeout=max(0.0, batch.expires_at - time.time()))
            if not done:
                return "expired"
            if work.cancelled():
                return "cancelled"
            work.result()
            return "completed"
        finally:
            del self._running[batch.id]
            work.cancel()
            await asyncio.wait((work,))
            os.close(descriptor)

    async def _finish(self, batch: StoredBatch, results: BatchResults) -> None:
        """Write the files that come of it. Their ids are on disk before: a second try replaces what the first left."""
        if not batch.output_id:
            batch.output_id, batch.error_id = self._files.new_id(), self._files.new_id()
            self._batches.save(batch)
        batch.completed, batch.failed = len(results.answered), len(results.failed) + len(results.late)
        if results.answered:
            await self._write(batch, batch.output_id, "output", results.answers())
            batch.has_output, batch.usage = True, results.usage()
        if batch.failed:
            await self._write(batch, batch.error_id, "error", results.failures())
            batch.has_errors = True

    async def _write(self, batch: StoredBatch, file_id: str, kind: str, lines: Iterator[bytes]) -> None:
        file = KeptFile(file_id, batch.owner, f"{batch.id}_{kind}.jsonl", OUTPUT, 0, time.time_ns())
        await self._files.write(file, lines)
