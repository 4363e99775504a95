"""All runs of the server, by owner. Event loop only.

Whose a run is, and whether it is kept, is as with conversations (engine.access.visibility): those of visitors are gone
when the server ends, are bounded more narrowly, and pause when none of their pages is open.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.access.visibility import (
    VISITOR_OWNER,
    Caller,
    caller,
    conversation_owner,
    keeps_conversations,
    names_folders,
)
from engine.batch_run.runner import BatchPlaces
from engine.config import ServerConfig
from engine.errors import Busy, Forbidden, ModelNotFound, TooLarge, say_bytes
from engine.types import Json
from workbench.batch.folder import KeptRun, RunFolder
from workbench.batch.form import RunForm
from workbench.batch.run import TabRun
from workbench.language import t

if TYPE_CHECKING:
    from engine.core import Engine

FOLDER = "runs"
MAX_RUNS = 100
"""That an owner keeps."""

MAX_VISITORS_RUNS = 64
"""Of all visitors together, for anybody may call themselves many visitors."""

VISITOR_RUNS, VISITOR_ROWS = 3, 500
MAX_TABLE_BYTES = 32 * 1024**2
"""Of a CSV, which is read whole."""

NEW_S = 6 * 3600.0
"""How long files wait for their run to begin."""

CHECK_S = 1.0


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Of one owner: runs that are kept; rows, files and bytes of one run."""

    runs: int
    rows: int
    num_bytes: int


@dataclass(frozen=True, slots=True)
class RunOwner:
    """Whoever asks. name: whose the runs are (conversation_owner). may_name_folders: see names_folders."""

    name: str
    who: Caller
    may_name_folders: bool

    @property
    def is_visitor(self) -> bool:
        return self.name.startswith(VISITOR_OWNER)


class BatchDesk:
    """config: where runs are kept, and whose they are. places: of all runs and batches together."""

    def __init__(self, engine: Engine, config: ServerConfig, places: BatchPlaces) -> None:
        self._engine = engine
        self._config = config
        self._places = places
        self._is_kept = keeps_conversations(config)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._runs: dict[str, TabRun] | None = None
        self._seen_s: dict[str, float] = {}
        self._watches: set[asyncio.Task[None]] = set()

    def owner(self, name: str, visitor: str) -> RunOwner:
        """name: of the login; visitor: what the browser's tab calls itself. Raises Forbidden."""
        owner = conversation_owner(self._config, name, visitor)
        who = caller(self._config, name, owner)
        return RunOwner(owner, who, names_folders(self._config, who))

    def limits(self, owner: RunOwner) -> RunLimits:
        """The operator's bounds for files and batches hold for runs, too."""
        if owner.is_visitor:
            return RunLimits(VISITOR_RUNS, VISITOR_ROWS, self._config.max_upload_bytes)
        return RunLimits(MAX_RUNS, self._config.max_batch_requests, self._config.max_stored_bytes)

    def of(self, owner: str) -> list[TabRun]:
        """All runs of somebody that have begun, the newest first."""
        mine = (run for run in self._all().values() if run.kept.owner == owner and run.kept.state != "new")
        return sorted(mine, key=lambda run: run.kept.created_s, reverse=True)

    def find(self, owner: RunOwner, run_id: str) -> TabRun:
        """Raises ModelNotFound, also for a run of somebody else."""
        run = self._all().get(run_id)
        if run is None or run.kept.owner != owner.name:
            raise ModelNotFound(t("That run is not here any more."), code="run_not_found")
        return run

    def news(self, owner: str) -> dict[str, Json]:
        """What a page of this owner hears once a second, by kind of event."""
        self._seen_s[owner] = time.monotonic()
        return {"runs": {"runs": [run.status() for run in self.of(owner)]}}

    async def new(self, owner: RunOwner, like: str = "") -> TabRun:
        """A run that has not begun, to send files to; like: a run whose files it has from the start.

        Raises Busy where its owner has too many, or visitors have.
        """
        source = self.find(owner, like) if like else None
        await self._clear_out()
        most = self.limits(owner).runs
        if len(self.of(owner.name)) >= most:
            why = t("{count} runs are kept already. Delete one that you need no more.", count=most)
            raise Busy(why, retry_after_s=60, code="runs_full")
        if owner.is_visitor:
            await self._make_room()
        kept = KeptRun(secrets.token_hex(8), owner.name, time.time())
        run = self._made(kept)
        if source is not None:
            await asyncio.to_thread(run.folder.take_from, source.folder)
        self._all()[kept.id] = run
        return run

    async def add_file(self, owner: RunOwner, run: TabRun, name: str, data: bytes) -> str:
        """Keep a file for a run that has not begun. Returns its name there. Raises TooLarge."""
        limits = self.limits(owner)
        held, held_by_visitors = self._held(owner.name), self._held(VISITOR_OWNER)
        if run.kept.state != "new":
            raise Forbidden(t("This run has begun already."), code="run_has_begun")
        if run.folder.num_files >= limits.rows:
            raise TooLarge(t("At most {most} files go into one run here.", most=limits.rows), code="too_many_files")
        if held + len(data) > limits.num_bytes:
            why = t(
                "The files of your runs would have {size}; here at most {most} are kept.",
                size=say_bytes(held + len(data)),
                most=say_bytes(limits.num_bytes),
            )
            raise TooLarge(why, code="files_full")
        if owner.is_visitor and held_by_visitors + len(data) > self._config.max_stored_bytes:
            raise Busy(t("Too many others have runs here just now."), retry_after_s=60, code="runs_full")
        if name.lower().endswith(".csv") and len(data) > MAX_TABLE_BYTES:
            why = t(
                "A table may have {most}; this one has {size}.",
                most=say_bytes(MAX_TABLE_BYTES),
                size=say_bytes(len(data)),
            )
            raise TooLarge(why, code="table_too_large")
        return await asyncio.to_thread(run.folder.add, name, data)

    async def begin(self, owner: RunOwner, run: TabRun, form: RunForm) -> None:
        """Raises EngineError; Forbidden for whoever may not name a folder."""
        if form.folder and not owner.may_name_folders:
            why = t("Only the operator may name a folder of this machine, on a server that nobody else can reach.")
            raise Forbidden(why)
        self._check_visitor(owner)
        folder = Path(form.folder).expanduser() if form.folder else None
        await run.begin(form, folder, self.limits(owner).rows)
        self._watch(owner, run)

    async def go_on(self, owner: RunOwner, run: TabRun, *, failed: bool) -> None:
        """Raises EngineError."""
        self._check_visitor(owner)
        await run.go_on(failed=failed)
        self._watch(owner, run)

    async def delete(self, run: TabRun) -> None:
        """A run with its files and answers."""
        await run.close()
        self._all().pop(run.kept.id, None)
        await asyncio.to_thread(run.folder.remove)

    async def close(self) -> None:
        """The server ends: what runs is paused, and goes on when its owner says so."""
        for run in tuple((self._runs or {}).values()):
            await run.close()

    def _held(self, owner: str) -> int:
        """Bytes of the files of all whose name begins so."""
        return sum(run.folder.num_bytes for run in self._all().values() if run.kept.owner.startswith(owner))

    def _check_visitor(self, owner: RunOwner) -> None:
        if owner.is_visitor and any(run.is_running for run in self.of(owner.name)):
            raise Busy(
                t("One run at a time: wait for the other one, or stop it."), retry_after_s=10, code="run_in_progress"
            )

    def _watch(self, owner: RunOwner, run: TabRun) -> None:
        if owner.is_visitor:
            watch = asyncio.create_task(self._pause_unwatched(owner.name, run))
            self._watches.add(watch)  # the loop itself holds tasks weakly
            watch.add_done_callback(self._watches.discard)

    async def _pause_unwatched(self, owner: str, run: TabRun) -> None:
        """A visitor who has left takes no more of the machine."""
        self._seen_s[owner] = time.monotonic()
        while run.is_running:
            await asyncio.sleep(min(CHECK_S, self._config.unwatched_s))
            if time.monotonic() - self._seen_s.get(owner, 0.0) >= self._config.unwatched_s:
                run.pause()

    async def _clear_out(self) -> None:
        """Delete what was sent for runs that never began."""
        old = [run for run in self._all().values() if run.kept.state == "new"]
        for run in old:
            if time.time() - run.kept.created_s > NEW_S:
                await self.delete(run)

    async def _make_room(self) -> None:
        """The oldest runs of visitors make room for a new one; those that go on do not. Raises Busy."""
        theirs = [run for run in self._all().values() if run.kept.owner.startswith(VISITOR_OWNER)]
        resting = sorted((run for run in theirs if not run.is_running), key=lambda run: run.kept.created_s)
        if len(theirs) < MAX_VISITORS_RUNS:
            return
        if not resting:
            raise Busy(t("Too many others have runs here just now."), retry_after_s=60, code="runs_full")
        await self.delete(resting[0])

    def _made(self, kept: KeptRun) -> TabRun:
        folder = RunFolder(self._folder() / kept.id)
        return TabRun(self._engine, kept, folder, self._places, self._tenant(kept.owner))

    def _tenant(self, owner: str) -> str:
        """Of somebody with a key: the same as their requests on /v1 have."""
        if owner.startswith(VISITOR_OWNER):
            return owner
        return caller(self._config, owner.removeprefix("key/")).tenant() if owner.startswith("key/") else ""

    def _folder(self) -> Path:
        if self._is_kept and self._config.data_folder:
            return self._config.data_folder / FOLDER
        if self._temporary is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="mlx-workbench-runs-")
        return Path(self._temporary.name)

    def _all(self) -> dict[str, TabRun]:
        """What is kept is read at the first use; of what never began, the files are deleted."""
        if self._runs is None:
            self._runs = {}
            for path in sorted(self._folder().glob("*/")) if self._is_kept else ():
                folder = RunFolder(path)
                kept = folder.load()
                if kept is not None and kept.id == path.name:
                    self._runs[kept.id] = self._made(kept)
                elif time.time() - path.stat().st_mtime > NEW_S:
                    folder.remove()
        return self._runs
