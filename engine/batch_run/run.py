"""A run: one task over rows, with its journal. What vllm-mlx run and the Batch tab drive, each in its own way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

from engine.batch_run.journal import Journal
from engine.batch_run.rows import BatchRow
from engine.batch_run.runner import BatchPlaces, Runner, WorkItem
from engine.batch_run.task import BatchTask, RowAsker, check_task
from engine.types import Json, ModelCard

if TYPE_CHECKING:
    from engine.config import EngineConfig
    from engine.core import Engine


async def check_run(engine: Engine, task: BatchTask, rows: Sequence[BatchRow]) -> ModelCard:
    """The model that answers, loaded. Raises EngineError for whatever would fail in every row."""
    card = await engine.ready(task.model)
    describes = engine.config.find(task.model).vision == "proxy" and not task.questions
    check_task(task, rows, card, describes=describes)
    if task.grammar is not None:
        await engine.check_grammar(task.grammar, task.model)
    return card


def run_settings(task: BatchTask, config: EngineConfig, card: ModelCard) -> Json:
    """What every answer of a run depends on: of the task, of the model and of the engine."""
    spec = config.find(task.model)
    source = f"{spec.source} + {spec.adapter_path}" if spec.adapter_path else spec.source
    return task.settings(
        {
            "model": f"{source} ({card.model_type}, {card.dtype})",
            "context": card.context_tokens,
            "frames": asdict(config.frames),
            "media_first": config.media_first,
            **({"coordinates": config.coordinates} if config.coordinates != "model" else {}),
        }
    )


class BatchRun:
    """One event loop. places: shared with others, where a row waits for its own."""

    def __init__(
        self,
        engine: Engine,
        task: BatchTask,
        rows: Sequence[BatchRow],
        runner: Runner,
        places: BatchPlaces | None = None,
    ) -> None:
        self.rows = rows
        self.runner = runner
        self._asker = RowAsker(engine, task)
        self._by_key = {row.key: row for row in rows}
        self._places: AbstractAsyncContextManager[object] = places or nullcontext()

    @property
    def journal(self) -> Journal:
        return self.runner.journal

    @property
    def num_answered(self) -> int:
        """Rows whose answer is there."""
        return sum(self.journal.has_answer(row.key, row.stamp) for row in self.rows)

    async def ask(self, rows: Iterable[BatchRow] | None = None) -> None:
        """Ask about those of the rows, by default of all, that have no answer. See Runner.run."""
        wanted = self.rows if rows is None else rows
        await self.runner.run([WorkItem(row.key, row.stamp, row.medium) for row in wanted], self._ask)

    async def _ask(self, item: WorkItem) -> Json:
        async with self._places:
            return await self._asker.ask(self._by_key[item.key])
