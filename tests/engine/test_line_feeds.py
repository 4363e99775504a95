"""The lines of a stream: at line feeds only, wherever its pieces end, and none without an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from engine.errors import BadRequest
from engine.line_feeds import lines_of
from engine.measure.openai_client import OpenAIClient

TEXT = "Hello\u2028there\x85\u2029\x0b\x0c"


def split(*pieces: bytes, max_bytes: int = 100) -> list[bytes]:
    async def given() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def found() -> list[bytes]:
        return [line async for line in lines_of(given(), max_bytes)]

    return asyncio.run(found())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_wherever_the_pieces_end(size: int) -> None:
    data = f"a\r\n\r\n{TEXT}\nlast".encode()
    assert split(*(data[i : i + size] for i in range(0, len(data), size))) == [b"a", b"", TEXT.encode(), b"last"]


def test_a_line_without_an_end() -> None:
    assert split(b"x" * 90, b"x\n") == [b"x" * 91]
    with pytest.raises(ValueError, match="more than 100 bytes"):
        split(*[b"x" * 60] * 3)


def test_the_measuring_client_reads_what_other_programs_write(serve: Callable[..., Any]) -> None:
    """A server that leaves in its JSON what is a line's end elsewhere."""
    app = FastAPI()
    chunk = {"choices": [{"index": 0, "delta": {"content": TEXT}}]}
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n", "data: [DONE]\n\n"]

    @app.post("/v1/chat/completions")
    async def answer() -> StreamingResponse:
        return StreamingResponse(iter(lines), media_type="text/event-stream")

    async def read(url: str) -> list[Any]:
        client = OpenAIClient(f"{url}/v1")
        try:
            return [chunk async for chunk in client.stream("/chat/completions", b"{}")]
        finally:
            await client.close()

    with serve(app) as url:
        assert asyncio.run(read(url)) == [chunk]
        lines[0] = "data: {no json\n\n"
        with pytest.raises(BadRequest, match="cannot be read"):
            asyncio.run(read(url))
