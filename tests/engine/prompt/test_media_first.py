"""Media first: which questions move, and that moving one lets another question reuse its picture."""

from __future__ import annotations

from typing import Any

from engine.config import CacheConfig
from engine.prompt.media_first import put_media_first
from engine.types import Message, Part, Request
from tests.engine.drive import ask, chat, user
from tests.pictures import picture

IMAGE, TEXT, MORE = Part("image", url="data:,x"), Part("text", "What is it?"), Part("text", "And why?")


def moved(*parts: Part, role: Any = "user") -> tuple[Part, ...]:
    return put_media_first(Request(messages=(Message(role, parts),))).messages[0].parts


def test_one_leading_text_moves_behind_its_media():
    assert moved(TEXT, IMAGE) == (IMAGE, TEXT)
    assert moved(TEXT, IMAGE, IMAGE) == (IMAGE, IMAGE, TEXT)


def test_everything_else_stays_as_sent():
    for parts in [(IMAGE, TEXT), (TEXT, IMAGE, MORE), (TEXT, MORE, IMAGE), (IMAGE, TEXT, IMAGE), (TEXT,), (IMAGE,), ()]:
        assert moved(*parts) == parts
    assert moved(TEXT, IMAGE, role="assistant") == (TEXT, IMAGE)


def test_a_request_without_such_a_question_is_the_same_object():
    request = chat(picture(), "What is it?")
    assert put_media_first(request) is request


async def test_another_question_before_the_picture_reuses_it(tiny_model: Any, engine_for: Any):
    folder = tiny_model("qwen3_vl")
    engine = await engine_for(folder, cache=CacheConfig(block_tokens=44))
    as_sent = await engine_for(folder, cache=CacheConfig(block_tokens=44), media_first=False)
    reused = {}
    for name, where in (("moved", engine), ("as sent", as_sent)):
        await ask(where, chat("What is in this image?", picture()))
        done = (await ask(where, chat("Describe the colors, please.", picture()))).done
        reused[name] = done.usage.cached_tokens
        assert done.trace.media_first == (name == "moved")
    assert reused["moved"] > done.media[0].tokens >= reused["as sent"]


async def test_the_moved_question_gets_the_answer_of_the_other_order(tiny_model: Any, engine_for: Any):
    engine = await engine_for(tiny_model("qwen3_vl"))
    one = await ask(engine, chat("What is it?", picture("blue")))
    other = await ask(engine, Request(messages=(user(picture("blue"), "What is it?"),), max_tokens=12))
    assert one.done.usage.prompt_tokens == other.done.usage.prompt_tokens
