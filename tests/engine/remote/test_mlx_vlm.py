"""mlx-vlm's own server behind this one: a program that is not of this project, started as its users start it."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import BadRequest
from engine.measure.bench.servers import COMMANDS, ServerProcess
from tests.engine.drive import ask, chat
from tests.engine.remote.conftest import EngineAt
from tests.engine.remote.test_decisions import QUESTIONS
from tests.pictures import picture


async def test_a_text_and_a_picture(demo_engine: Any, engine_at: EngineAt) -> None:
    """The same model gives the same words and counts the same tokens; what that server has not is said."""
    card = await demo_engine.ready()
    process = ServerProcess(COMMANDS["mlx_vlm.server"], card.path)
    await process.start()
    try:
        await process.wait_listening()
        far = engine_at(process.url, model=card.path)
        for request in (chat("Hello", max_tokens=12), chat(picture("red"), "What is in this image?", max_tokens=20)):
            here, there = await ask(demo_engine, request), await far.complete(request)
            assert there.text == here.text and there.text
            assert there.done.usage.prompt_tokens == here.done.usage.prompt_tokens
            by = there.done.served_by
            assert by is not None and by.tells_usage and not by.tells_media and not there.done.media
        assert "red" in there.text
        with pytest.raises(BadRequest, match="has another /v1/decisions") as refused:
            await far.decide(chat("Hello"), QUESTIONS)
        assert refused.value.code == "remote_model"
        with pytest.raises(BadRequest, match="does not have /tokenize"):
            await far.preflight(chat("Hello"))
        assert far.models()[0].stage == "ready"
    finally:
        await process.stop()
