"""The same question in every protocol: the same answer, and usage as the engine counts it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from engine.assets import asset
from engine.types import Message, Part, Request, Sampling
from tests.engine.api import protocols
from tests.engine.api.protocols import ASK

CIRCLE = (asset("samples") / "circle.png").read_bytes()
QUESTION = "What is in this image?"


async def engines_own(engine: Any, text: str, max_tokens: int, image: bytes | None) -> protocols.Told:
    """What Engine.complete says."""
    from tests import pictures

    picture = (Part("image", url=pictures.data_url(image)),) if image else ()
    asked = Request(
        messages=(Message("user", (*picture, Part("text", text=text))),),
        sampling=Sampling(temperature=0),
        max_tokens=max_tokens,
    )
    completion = await engine.complete(asked)
    usage = completion.done.usage
    counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens)
    return protocols.Told(completion.text, *counts, completion.done.finish_reason == "length")


@pytest.mark.parametrize(("text", "max_tokens", "image"), [("hi", 3, None), ("hi", 64, None), (QUESTION, 64, CIRCLE)])
async def test_every_protocol_gives_the_engines_answer(
    http: httpx.Client, demo_engine: Any, text: str, max_tokens: int, image: bytes | None
) -> None:
    await engines_own(demo_engine, text, max_tokens, image)  # now as much is stored as there ever will be
    expected = await engines_own(demo_engine, text, max_tokens, image)
    assert expected.cached > 0 and ("circle" in expected.text if image else True)
    for protocol in ASK:
        assert protocols.ask(http, protocol, text, max_tokens, image) == expected, protocol
        assert protocols.ask_streamed(http, protocol, text, max_tokens, image) == expected, f"{protocol}, streamed"


def message_of(protocol: str, error: dict[str, Any]) -> tuple[str, str | None]:
    """(message, param) in each protocol's shape."""
    if protocol in ("ollama", "generate"):
        return error["error"], error["param"]
    if protocol == "messages":
        assert error["type"] == "error" and error["error"]["type"].endswith("_error")
    return error["error"]["message"], error["error"]["param"]


MEDIUM = {
    "chat": "messages[0].content[0].image_url.url",
    "responses": "input[0].content[0].image_url",
    "messages": "messages[0].content[0].source.data",
    "ollama": "messages[0].images[0]",
    "generate": "images[0]",
}


@pytest.mark.parametrize("protocol", ASK)
@pytest.mark.parametrize("stream", [False, True])
def test_a_broken_picture_is_named_in_the_protocols_own_words(http: httpx.Client, protocol: str, stream: bool) -> None:
    path, body = ASK[protocol](QUESTION, 4, b"no picture", stream)
    answer = http.post(path, json=body)
    message, param = message_of(protocol, answer.json())
    assert answer.status_code == 400 and param == MEDIUM[protocol] and message.startswith(param)
    assert protocols.ask(http, protocol, "hi", 1).completion == 1, "the server goes on"


@pytest.mark.parametrize("protocol", ASK)
def test_errors_of_every_kind_have_the_protocols_shape(http: httpx.Client, protocol: str) -> None:
    path, body = ASK[protocol]("hi", 1)
    unknown = http.post(path, json={**body, "model": "gpt-9"})
    assert unknown.status_code == 404 and "gpt-9" in message_of(protocol, unknown.json())[0]
    broken = http.post(path, content="{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 400 and "JSON" in message_of(protocol, broken.json())[0]
    halved = http.post(path, json={**body, "stream": "yes"})
    assert halved.status_code == 400 and message_of(protocol, halved.json())[1] == "stream"


@pytest.mark.parametrize("protocol", ASK)
def test_a_field_that_nobody_knows_is_named_in_a_header(http: httpx.Client, protocol: str) -> None:
    path, body = ASK[protocol]("hi", 1)
    assert "x-ignored-fields" not in http.post(path, json=body).headers
    for stream in (False, True):
        answer = http.post(path, json={**body, "stream": stream, "wishes": 1})
        assert answer.status_code == 200 and answer.headers["x-ignored-fields"] == "wishes"


@pytest.mark.parametrize("protocol", ["chat", "responses", "messages", "ollama"])
def test_a_document_goes_on_where_the_protocol_has_roles(http: httpx.Client, protocol: str) -> None:
    """A conversation of several turns is read as the same prompt."""
    turns = [("user", "hi"), ("assistant", "Hello!"), ("user", "What can you do?")]
    listed = [{"role": role, "content": text} for role, text in turns]
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "chat": ("/v1/chat/completions", {"messages": listed, "max_tokens": 6}),
        "responses": ("/v1/responses", {"input": listed, "max_output_tokens": 6}),
        "messages": ("/v1/messages", {"messages": listed, "max_tokens": 6}),
        "ollama": ("/api/chat", {"model": "demo", "messages": listed, "options": {"num_predict": 6, "temperature": 0}}),
    }
    path, body = bodies[protocol]
    answer = http.post(path, json={**body, "temperature": 0, "stream": False})
    told = protocols.read(protocol, answer.json())
    counted = http.post("/tokenize", json={"messages": listed}).json()["count"]
    assert told.prompt == counted and told.text
