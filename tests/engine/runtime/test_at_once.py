"""How many are worked on at once: as many as --max-num-seqs says, or as memory has room for, and then it is said so."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from engine.api.health import batch_json
from engine.config import EngineConfig
from engine.core import Engine
from engine.errors import Busy, TimedOut
from engine.models.batch import Batch
from engine.runtime.intake.deadline import Deadline
from engine.runtime.scheduler import Scheduler
from engine.types import BatchState, Sampling
from tests.conftest import EngineFor
from tests.engine.drive import ask, chat
from tests.engine.runtime.test_scheduler import opened, sequence
from tests.waiting import until

FOREVER = Sampling(temperature=0.0)


async def most_rows(engine: Engine, num_requests: int, enough: int, max_tokens: int) -> tuple[int, list[str]]:
    """The most answers that decoded at the same time, and how each request ended. All leave once it is enough."""
    most = 0

    async def one(number: int) -> str:
        nonlocal most
        request = chat(f"Number {number}", max_tokens=max_tokens, min_tokens=max_tokens, sampling=FOREVER)
        try:
            async with aclosing(engine.stream(request)) as events:
                async for _ in events:
                    most = max(most, engine.snapshot().batch.num_rows)
                    if most >= enough:
                        break
        except Busy as error:
            return error.code
        return "served"

    endings = await asyncio.gather(*(one(number) for number in range(num_requests)))
    return most, list(endings)


async def test_128_at_once_are_128(engine_for: EngineFor, tiny_model: Any) -> None:
    """And the queue begins after them, as long as the help says."""
    engine = await engine_for(tiny_model("llama"), max_num_seqs=128, max_queue=2)
    most, endings = await most_rows(engine, 131, enough=128, max_tokens=1000)
    assert sorted(endings) == ["queue_full"] + ["served"] * 130
    assert most == 128, "of 128 requests, so many decoded together"
    limits = batch_json(engine.snapshot().batch, 0, engine.config.max_queue)
    assert (limits["max_requests"], limits["max_answers"], limits["max_queue"]) == (128, 128, 2)


async def test_sabotage_a_batch_of_32(engine_for: EngineFor, tiny_model: Any) -> None:
    """As it was: whatever --max-num-seqs said, 32 rows and 8 prompts read ahead."""
    engine = await engine_for(tiny_model("llama"), max_num_seqs=128, max_queue=91, completion_batch_size=32)
    assert engine.config.max_at_once == 40
    with pytest.raises(AssertionError, match="decoded together"):
        most, _ = await most_rows(engine, 131, enough=128, max_tokens=20)
        assert most == 128, "of 128 requests, so many decoded together"


@pytest.mark.parametrize(
    ("settings", "rows", "at_once"),
    [
        ({}, 32, 32),
        ({"max_num_seqs": 1}, 32, 1),  # n may still be 32
        ({"max_num_seqs": 500}, 500, 500),
        ({"max_num_seqs": 500, "completion_batch_size": 10}, 10, 18),
        ({"max_num_seqs": 4, "completion_batch_size": 2}, 2, 4),
    ],
)
def test_what_the_options_add_up_to(settings: dict[str, int], rows: int, at_once: int) -> None:
    config = EngineConfig(**settings)  # type: ignore[arg-type]
    assert (config.max_rows, config.max_at_once) == (rows, at_once)


def test_memory_that_bounds_them_is_said() -> None:
    scheduler = Scheduler(128, chunk_tokens=16, completion_batch_size=128, max_row_tokens=1000)
    for name in "abc":
        scheduler.submit(sequence(name))
        scheduler.admit()
        opened(scheduler, name, 100)
    for held in tuple(scheduler.prefilling):
        scheduler.try_grant(held)
    state = scheduler.state()
    assert (state.kv_tokens, state.max_kv_tokens, state.num_waiting_for_memory) == (2 * 356, 1000, 1)
    assert batch_json(state, 5, 9)["bounded_by"] == "memory"
    assert batch_json(BatchState(), 5, 9)["bounded_by"] == "requests"
    assert batch_json(BatchState(), 0, 9)["bounded_by"] is None


async def test_whoever_goes_away_gives_the_row_back_within_two_steps(
    engine_for: EngineFor, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of the batch while the row was still in it, counted from the moment its reader left."""
    engine = await engine_for(tiny_model("llama"), max_num_seqs=4)
    steps: list[int] = []
    step = Batch.step

    def counted(self: Batch) -> Any:
        steps.append(len(self))
        return step(self)

    monkeypatch.setattr(Batch, "step", counted)
    staying = asyncio.create_task(ask(engine, chat("I stay.", max_tokens=400, min_tokens=400, sampling=FOREVER)))
    async with aclosing(engine.stream(chat("I go.", max_tokens=400, min_tokens=400, sampling=FOREVER))) as leaving:
        async for _ in leaving:
            if engine.snapshot().batch.num_rows == 2:
                break
        num_steps = len(steps)
    await until(lambda: engine.snapshot().batch.num_rows < 2, "the row is still there")
    after = steps[num_steps:]
    assert len([num_rows for num_rows in after if num_rows == 2]) <= 2 and 1 in after
    assert (await staying).done.usage.completion_tokens == 400, "and the other goes on"


async def test_a_deadline_is_for_all_of_it() -> None:
    deadline = Deadline(0.2)
    assert await deadline.wait(asyncio.sleep(0, "quick")) == "quick"
    with pytest.raises(TimedOut, match=r"after 0\.2 s"):
        await deadline.wait(asyncio.sleep(5))
    with pytest.raises(TimedOut):
        await deadline.wait(asyncio.sleep(0.01))
    assert await Deadline(None).wait(asyncio.sleep(0, 1)) == 1


async def test_a_timeout_of_the_work_is_its_own() -> None:
    async def fails() -> None:
        raise TimeoutError("the network's")

    with pytest.raises(TimeoutError, match="the network's"):
        await Deadline(5).wait(fails())
