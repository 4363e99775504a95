"""One run of the Batch tab. Event loop only, but for reading files, which runs in threads.

    new ── begin ──> running ──────────────────────────> done
                        ├── pause ──> pausing ──> paused ─┐
                        ├── stop ───────────> stopped ────┼── go_on ──> running
                        └── engine gone ────> failed ─────┘

Pausing lets the rows in flight end; stopping loses them. The next process finds what was running paused.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.batch_run import edited
from engine.batch_run.journal import Journal, settings_digest
from engine.batch_run.output import whole_records, write_output
from engine.batch_run.progress import Pace
from engine.batch_run.rows import BatchRow, Inputs, read_inputs
from engine.batch_run.run import BatchRun, check_run, run_settings
from engine.batch_run.runner import BatchPlaces, Runner
from engine.batch_run.task import BatchTask
from engine.errors import BadRequest, Conflict, EngineError, ModelNotFound, TooLarge
from engine.types import Json
from workbench.batch.folder import KeptRun, RunFolder
from workbench.batch.form import RunForm, task_of
from workbench.batch.row import row_json
from workbench.batch.table import RunTable
from workbench.language import t

if TYPE_CHECKING:
    from engine.core import Engine

MAX_NAME_CHARS = 80

log = logging.getLogger(__name__)


class TabRun:
    """places: of all runs and batches together. tenant: whose its requests are.

    revision: grows with whatever a page would show differently.
    """

    def __init__(self, engine: Engine, kept: KeptRun, folder: RunFolder, places: BatchPlaces, tenant: str) -> None:
        self.kept = kept
        self.folder = folder
        self.revision = 0
        self._engine = engine
        self._places = places
        self._tenant = tenant
        self._table: RunTable | None = None
        self._run: BatchRun | None = None
        self._work: asyncio.Task[None] | None = None
        self._ending = "stopped"
        self._pace: Pace | None = None
        self._opening = asyncio.Lock()
        self._counted = -1
        self._has_boxes: bool | None = None  # not known before it is opened
        if kept.state in ("running", "pausing"):
            kept.state = "paused"

    @property
    def is_running(self) -> bool:
        return self._work is not None and not self._work.done()

    def status(self) -> Json:
        """How it stands, for the page's events."""
        kept = self.kept
        if self._table is not None and self._counted != self.revision:
            kept.counts, self._has_boxes = self._table.counts(), self._table.has_boxes()
            self._counted = self.revision
        left_s = self._pace.left_s if self._pace and self.is_running else None
        return {
            "id": kept.id,
            "name": kept.name,
            "created_s": kept.created_s,
            "state": kept.state,
            "error": kept.error,
            "form": kept.form.get("form", "text"),
            "counts": kept.counts,
            "left": self._pace.left if self._pace and self.is_running else 0,
            "left_s": None if left_s is None else round(left_s),
            "left_out": len(kept.left_out),
            "has_boxes": self._has_boxes,
            "revision": self.revision,
        }

    # -- what is asked

    async def begin(self, form: RunForm, folder: Path | None, max_rows: int) -> None:
        """Read the files and ask. folder: read in place of the files that were sent.

        Raises EngineError for whatever would fail in every row, and then nothing has begun.
        """
        task = task_of(form)
        async with self._opening:
            if self.kept.state != "new":
                raise Conflict(t("This run has begun already."), code="run_has_begun")
            given = [folder] if folder else self.folder.inputs()
            if folder is None and not self.folder.num_files:
                raise BadRequest(t("There is nothing to ask about yet: add files."), param="files")
            inputs = await self._read(given)
            if len(inputs.rows) > max_rows:
                why = t(
                    "There are {count} rows; here at most {most} go into one run.",
                    count=len(inputs.rows),
                    most=max_rows,
                )
                raise TooLarge(why, code="too_many_rows")
            card = await check_run(self._engine, task, inputs.rows)
            self.kept.form = {**form.model_dump(), "folder": str(folder or "")}
            self.kept.name = _name_of(form, given, inputs.rows)
            self.kept.left_out = [path.name for path in inputs.left_out[:20]]
            self.kept.settings = run_settings(task, self._engine.config, card)
            self._open(task, inputs.rows)
            self._start(lambda run: run.rows)

    async def open(self) -> BatchRun:
        """Its rows and its answers so far, read once. Raises EngineError, e.g. where its folder is gone."""
        async with self._opening:
            if self._run is None:
                if self.kept.state == "new":
                    raise Conflict(t("This run has not begun yet."), code="run_not_begun")
                form = RunForm(**self.kept.form)
                given = [Path(form.folder)] if form.folder else self.folder.inputs()
                inputs = await self._read(given)
                self._open(task_of(form), inputs.rows)
            assert self._run is not None
            return self._run

    async def _read(self, given: Sequence[Path]) -> Inputs:
        """Raises BadRequest, which names files as they were sent: where they are kept is nobody's business."""
        try:
            return await asyncio.to_thread(read_inputs, given, self._engine.config.media)
        except BadRequest as error:
            raise BadRequest(error.message.replace(f"{self.folder.files}/", ""), param=error.param) from error

    async def go_on(self, *, failed: bool) -> None:
        """Ask for the rows that have no record; failed: for those that failed, instead. Raises Conflict, also where the
        answers so far are another model's."""
        run = await self.open()
        if self.is_running:
            raise Conflict(t("This run goes on already."), code="run_in_progress")
        task = task_of(RunForm(**self.kept.form))
        card = await check_run(self._engine, task, run.rows)
        if settings_digest(run_settings(task, self._engine.config, card)) != settings_digest(self.kept.settings):
            why = t(
                "Its answers are of {model}, with settings of its own. Start a new run for this model.",
                model=self.kept.settings["model"],
            )
            raise Conflict(why, code="other_model")
        table = self.table
        self._start(lambda _: table.rows_in("failed" if failed else "waiting"))

    def pause(self) -> None:
        """Begin with no more rows."""
        if self._run is not None and self.is_running:
            self._run.runner.pause()
            self._come_to("pausing")

    async def stop(self, state: str = "stopped") -> None:
        """End at once, and be in this state. Returns once it is."""
        if self._work is not None and not self._work.done():
            self._ending = state
            self._work.cancel()
            await asyncio.wait({self._work})
            if self.kept.state in ("running", "pausing"):  # it was cancelled before it began
                self._come_to(state)

    async def close(self) -> None:
        """Let go of its files; a later `open` reads them again, and may go on."""
        await self.stop("paused")
        if self._run is not None:
            self._run.journal.close()
            self._run = self._table = None

    def _open(self, task: BatchTask, rows: Sequence[BatchRow]) -> None:
        self.folder.make()
        journal = Journal(self.folder.journal, self.kept.settings)
        runner = Runner(journal, self._places.number, self._note)
        self._run = BatchRun(self._engine, replace(task, tenant=self._tenant), rows, runner, self._places)
        self._table = RunTable(rows)
        for row in rows:
            if record := journal.record(row.key):
                self._table.note(record)
        self.revision += 1

    def _start(self, choose: Callable[[BatchRun], Sequence[BatchRow]]) -> None:
        assert self._run is not None
        rows = choose(self._run)
        self.kept.error = ""
        self._pace = Pace(len(rows))
        self._come_to("running")
        self._work = asyncio.create_task(self._ask(self._run, rows))

    async def _ask(self, run: BatchRun, rows: Sequence[BatchRow]) -> None:
        state = "failed"
        try:
            await run.ask(rows)
            state = "paused" if self.table.rows_in("waiting") else "done"
        except asyncio.CancelledError:
            state = self._ending
            raise
        except EngineError as error:
            is_over = self._engine.is_draining or self._engine.snapshot().state == "stopped"
            state, self.kept.error = ("paused", "") if is_over else ("failed", error.message)
        except Exception:
            log.exception("a run failed")
            self.kept.error = t("Something went wrong inside the workbench; its log has the details.")
        finally:
            self._come_to(state)

    def _come_to(self, state: str) -> None:
        self.kept.state = state
        self.revision += 1
        self.status()
        with contextlib.suppress(EngineError):  # a full disk: the journal says so itself
            self.folder.save(self.kept)

    def _note(self, record: Json) -> None:
        """A row has its record: keep its picture while the engine knows it."""
        self.table.note(record)
        if self._pace is not None:
            self._pace.note()
        for receipt in record.get("media") or ():
            if thumbnail := self._engine.thumbnail(receipt["sha256"]):
                self.folder.keep_picture(receipt["sha256"], thumbnail)
        self.revision += 1

    # -- what is shown

    @property
    def table(self) -> RunTable:
        assert self._table is not None, "open() comes before"
        return self._table

    async def row(self, place: int) -> Json:
        """All that is known of one row. Raises ModelNotFound."""
        run = await self.open()
        line = self.table.line(place)
        if line is None:
            raise ModelNotFound(t("There is no such row."), code="row_not_found")
        record = run.journal.record(line.row.key) if line.state != "waiting" else None
        return row_json(line, self.table.line_json(line), record)

    async def edit(self, place: int, answer: str, question: int | None) -> Json:
        """Put a person's answer in the place of the model's; question: of decisions. Returns the row.

        Raises ModelNotFound, BadRequest, and Unavailable where it cannot be kept.
        """
        run = await self.open()
        line = self.table.line(place)
        record = run.journal.record(line.row.key) if line and line.state == "answered" else None
        if record is None:
            raise ModelNotFound(t("This row has no answer that could be changed."), code="row_not_found")
        changed = (
            edited.with_answer(record, answer) if question is None else edited.with_decision(record, question, answer)
        )
        run.journal.add(changed)
        self.table.note(changed)
        self.revision += 1
        return await self.row(place)

    async def export(self, suffix: str) -> bytes:
        """The file that vllm-mlx run writes of these answers."""
        run = await self.open()
        return await asyncio.to_thread(_written, run, suffix)


def _written(run: BatchRun, suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows.{suffix}"
        write_output(path, list(whole_records(run.rows, run.journal)))
        return path.read_bytes()


def _name_of(form: RunForm, given: Sequence[Path], rows: Sequence[BatchRow]) -> str:
    """The first line of what is asked; else what it is asked about."""
    first = form.prompt.strip().splitlines()[0] if form.prompt.strip() else ""
    words = first or (given[0].name if form.folder else rows[0].name)
    return words if len(words) <= MAX_NAME_CHARS else f"{words[: MAX_NAME_CHARS - 1]}…"
