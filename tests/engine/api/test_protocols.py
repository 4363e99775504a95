"""The same question in every protocol: the same answer, and usage as the engine counts it."""

from __future__ import annotations

import re
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


# -- the same rules in every protocol ----------------------------------------------------------------------------------

HI: Any = [{"role": "user", "content": "hi"}]
DECISION = {"type": "predicate", "instructions": "Is it?"}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": HI, "max_tokens": 1},
    "/v1/completions": {"prompt": "hi", "max_tokens": 1},
    "/v1/responses": {"input": "hi", "max_output_tokens": 1},
    "/v1/responses/input_tokens": {"input": "hi"},
    "/v1/messages": {"messages": HI, "max_tokens": 1},
    "/v1/messages/count_tokens": {"messages": HI},
    "/v1/decisions": {"input": "hi", "questions": [DECISION]},
    "/v1/tokenize": {"messages": HI},
    "/tokenize": {"prompt": "hi"},
    "/v1/detokenize": {"tokens": [1]},
    "/detokenize": {"tokens": [1]},
    "/api/chat": {"model": "demo", "messages": HI, "stream": False, "options": {"num_predict": 1}},
    "/api/generate": {"model": "demo", "prompt": "hi", "stream": False, "options": {"num_predict": 1}},
}
LOADED = {"/api/chat": {"model": "demo"}, "/api/generate": {"model": "demo"}}
"""Ollama's clients ask so whether a model is there."""


def error_of(path: str, answer: httpx.Response) -> tuple[str, str | None]:
    """(message, param) in the shape of the protocol of a path."""
    return message_of("messages" if "/messages" in path else "ollama" if "/api/" in path else "chat", answer.json())


@pytest.mark.parametrize("path", BODIES)
def test_what_others_serve_is_refused_on_every_route(http: httpx.Client, path: str) -> None:
    """And a value that asks for nothing is fine, and not named."""
    for name, asks, idle in (
        ("kv_transfer_params", {"x": 1}, {}),
        ("mirostat", 2, 0),
        ("length_penalty", 0.5, 1),
        ("truncate_prompt_tokens", 5, None),
        ("documents", [{"title": "x"}], []),
        ("lora_path", "x", ""),
        ("modalities", ["audio"], ["text"]),
    ):
        answer = http.post(path, json={**BODIES[path], name: asks})
        assert answer.status_code == 400 and error_of(path, answer)[1] == name, f"{name}: {answer.text}"
        fine = http.post(path, json={**BODIES[path], name: idle})
        assert fine.status_code == 200 and "x-ignored-fields" not in fine.headers, f"{name}: {fine.text}"


@pytest.mark.parametrize(("path", "body"), [*BODIES.items(), *LOADED.items()])
def test_every_route_names_what_it_does_not_read(http: httpx.Client, path: str, body: dict[str, Any]) -> None:
    answer = http.post(path, json={**body, "wishes": 1})
    assert (answer.status_code, answer.headers.get("x-ignored-fields")) == (200, "wishes"), answer.text


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/v1/tokenize", "/v1/responses", "/v1/responses/input_tokens"]
)
def test_what_is_said_of_a_tool_and_not_read_is_named(http: httpx.Client, path: str) -> None:
    function = {"name": "f", "parameters": {"type": "object"}, "strict": False, "mood": "good", "idle": None}
    is_flat = "responses" in path
    tool = {"type": "function", **function} if is_flat else {"type": "function", "function": function}
    where = "tools[0]" if is_flat else "tools[0].function"
    answer = http.post(path, json={**BODIES[path], "tools": [tool]})
    assert answer.headers.get("x-ignored-fields") == f"{where}.mood", answer.text


@pytest.mark.parametrize("path", [*BODIES, "/api/show", "/v1/embeddings", "/v1/audio/transcriptions", "/health"])
def test_a_wrong_host_is_refused_in_the_protocols_words(http: httpx.Client, path: str) -> None:
    for written in (path, f"{path}/", f"{http.base_url}/{path}"):
        answer = http.post(written, json={}, headers={"Host": "evil.com"})
        message, param = error_of(path, answer)
        assert answer.status_code == 400 and "--allowed-host" in message and param is None
        assert "content-security-policy" in answer.headers


SCHEMA: Any = {"type": "object", "properties": {}}
BAD: Any = {"type": "object", "properties": {"a": {"not": {}}}}
"""A grammar cannot hold to it."""


def with_tools(path: str, *schemas: Any) -> tuple[dict[str, Any], str]:
    """(a body with a tool for each schema, of which one must be called, where the schema of a tool stands)."""
    named = [(f"f{i}", schema) for i, schema in enumerate(schemas)]
    nested = [{"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in named]
    flat: list[dict[str, Any]] = [{"type": "function", "name": name, "parameters": schema} for name, schema in named]
    if "/messages" in path:
        tools = [{"name": name, "input_schema": schema} for name, schema in named]
        return {"tools": tools, "tool_choice": {"type": "any"}}, "tools[{}].input_schema"
    if "/responses" in path:
        return {"tools": flat, "tool_choice": "required"}, "tools[{}].parameters"
    required = {} if "/api/" in path else {"tool_choice": "required"}
    return {"tools": nested, **required}, "tools[{}].function.parameters"


TOOLED = ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/api/chat")


@pytest.mark.parametrize("path", TOOLED)
def test_a_tools_schema_is_named_as_it_was_sent(http: httpx.Client, path: str) -> None:
    more, where = with_tools(path, SCHEMA, BAD)
    if path == "/api/chat":  # nothing there forces a call, but a form beside tools has a grammar
        more["format"] = "json"
    answer = http.post(path, json={**BODIES[path], **more})
    message, param = error_of(path, answer)
    assert answer.status_code == 400 and param == where.format(1) and message.startswith(param), answer.text
    more, where = with_tools(path, SCHEMA, [])
    assert error_of(path, http.post(path, json={**BODIES[path], **more}))[1] == where.format(1)


@pytest.mark.parametrize("path", [*TOOLED, "/v1/tokenize", "/v1/responses/input_tokens", "/v1/messages/count_tokens"])
def test_how_many_tools_there_may_be(http: httpx.Client, path: str) -> None:
    more, _ = with_tools(path, *[SCHEMA] * 129)
    answer = http.post(path, json={**BODIES[path], **more})
    message, param = error_of(path, answer)
    assert answer.status_code == 400 and param == "tools" and "128" in message
    twice = {**more, "tools": [*more["tools"][:127], more["tools"][5]]}
    param = error_of(path, http.post(path, json={**BODIES[path], **twice}))[1]
    assert param is not None and param.startswith("tools[127].") and param.endswith("name")


FORMS = {
    "guided_regex": ("(yes|no)!", r"(yes|no)!"),
    "guided_choice": (["red", "blue"], r"red|blue"),
    "guided_json": ({"enum": [42]}, r"42"),
    "structured_outputs": ({"grammar": 'root ::= "a" "b"'}, r"ab"),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
def test_a_form_is_kept_to_in_every_protocol(http: httpx.Client, path: str) -> None:
    body = {**BODIES[path], ("max_output_tokens" if "responses" in path else "max_tokens"): 16}
    for name, (form, pattern) in FORMS.items():
        answer = http.post(path, json={**body, name: form}).json()
        if path == "/v1/completions":
            text = answer["choices"][0]["text"]
        else:
            protocol = {"/v1/chat/completions": "chat", "/v1/responses": "responses", "/v1/messages": "messages"}[path]
            text = protocols.read(protocol, answer).text
        assert re.fullmatch(pattern, text), f"{name}: {text!r}"


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("/v1/responses", {"text": {"format": {"type": "json_object"}}}),
        ("/v1/messages", {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        ("/v1/messages", {"output_format": {"type": "json_schema", "schema": SCHEMA}}),
        ("/v1/messages", {"response_format": {"type": "json_object"}}),
        ("/v1/chat/completions", {"response_format": {"type": "json_object"}}),
        ("/v1/completions", {"guided_choice": ["a"]}),
    ],
)
def test_two_forms_contradict_each_other(http: httpx.Client, path: str, own: dict[str, Any]) -> None:
    for name in ("guided_regex", "guided_grammar"):
        answer = http.post(path, json={**BODIES[path], **own, name: "root ::= a"})
        message, param = error_of(path, answer)
        assert answer.status_code == 400 and param == name and "says already" in message
