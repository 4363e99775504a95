"""Several prompts as one answer, with made-up events: what the one end of it says."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from engine.api.completions.prompt_list import stream_each
from engine.errors import BadRequest
from engine.types import Delta, Done, Event, Request, Timing, Usage


def answering(*ends: Done | Exception) -> Any:
    """Answers each request, in the order of their prompts, with one Delta and its end."""

    async def stream(request: Request) -> AsyncGenerator[Event, None]:
        end = ends[int(str(request.prompt))]
        yield Delta(f"to {request.prompt}", finish_reason="stop")
        if isinstance(end, Exception):
            raise end
        yield end

    return SimpleNamespace(stream=stream, config=SimpleNamespace(max_rows=2))


def asked(num: int) -> list[Request]:
    return [Request(prompt=str(i)) for i in range(num)]


async def test_the_end_has_the_sum_of_all_usage() -> None:
    """Of every count that there is: none is left out when another is added."""
    names = [field.name for field in fields(Usage)]
    usages = [Usage(**{name: 10**i * (k + 1) for k, name in enumerate(names)}) for i in range(3)]
    engine = answering(*(Done("stop", usage, Timing()) for usage in usages))
    events = [event async for event in stream_each(engine, asked(3))]
    done = events[-1]
    assert isinstance(done, Done) and sorted(delta.index for delta in events[:-1] if isinstance(delta, Delta)) == [
        0,
        1,
        2,
    ]
    for k, name in enumerate(names):
        assert getattr(done.usage, name) == 111 * (k + 1), name
    assert done.usage.reasoning_tokens


async def test_an_error_names_its_prompt() -> None:
    wrong = BadRequest("prompt: it is too long.", param="prompt")
    engine = answering(Done("stop", Usage(1, 1), Timing()), wrong)
    with pytest.raises(BadRequest) as caught:
        [event async for event in stream_each(engine, asked(2))]
    assert (caught.value.param, caught.value.message) == ("prompt[1]", "prompt[1]: it is too long.")
