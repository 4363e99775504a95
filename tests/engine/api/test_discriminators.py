"""What says of which kind a value is (a type, a role, a mode) may be any JSON: an error names it, and it is no fault of
the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import pictures

URL = pictures.picture_url()
DATA = URL.partition(",")[2]
TEXT = {"type": "text", "text": "hi"}
SCHEMA = {"type": "object", "properties": {}}
FUNCTION = {"name": "f", "description": "d", "parameters": SCHEMA}

CHAT = {
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [TEXT, {"type": "image_url", "image_url": {"url": URL, "detail": "low"}}]},
        {
            "role": "assistant",
            "content": [{"type": "refusal", "refusal": "no"}],
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "a", "content": [TEXT]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "AA", "filename": "a.txt", "pages": "1"}}]},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "tool_choice": {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
    },
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
    "reasoning_effort": "low",
}
RESPONSES = {
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": URL, "detail": "low"}]},
        {"role": "user", "content": [{"type": "input_file", "file_data": "AA", "filename": "a.txt"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "refusal", "refusal": "r"}]},
    ],
    "tools": [{"type": "function", **FUNCTION}],
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "text": {"format": {"type": "json_schema", "schema": SCHEMA}},
    "reasoning": {"effort": "low"},
    "include": ["message.output_text.logprobs"],
}
MESSAGES = {
    "max_tokens": 1,
    "system": [TEXT],
    "messages": [
        {"role": "user", "content": [TEXT, {"type": "image", "source": {"type": "base64", "data": DATA}}]},
        {"role": "user", "content": [{"type": "document", "title": "t", "source": {"type": "text", "data": "w"}}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [TEXT]}]},
    ],
    "tools": [{"type": "custom", "name": "f", "input_schema": SCHEMA}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "adaptive"},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "context_management": {"edits": [{"type": "clear_thinking_20251015"}]},
}
OLLAMA = {
    "model": "demo",
    "stream": False,
    "messages": [
        {"role": "user", "content": "hi", "images": [DATA]},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]},
        {"role": "tool", "content": "r", "tool_name": "f"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
    "format": "json",
    "think": "low",
    "options": {"num_predict": 1},
}
DECISIONS = {
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"role": "user", "content": [{"type": "input_image", "image_url": URL}, {"type": "input_json", "data": {}}]},
        {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "output_text", "text": "r"}]},
    ],
    "questions": [
        {"type": "predicate", "instructions": [{"type": "input_text", "text": "Is it?"}]},
        {"type": "choice", "instructions": "Which?", "choices": [{"value": "a"}, {"value": "b"}]},
    ],
    "prompt_cache_options": {"mode": "implicit"},
}
SYSTEMONE = {
    "state": "hi X",
    "assets": {"X": {"type": "image", "data_base64": DATA}},
    "questions": {"q": {"type": "noul", "instructions": "Is it?"}},
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {**CHAT, "max_tokens": 1},
    "/v1/tokenize": CHAT,
    "/v1/completions": {"prompt": "hi", "max_tokens": 1, "response_format": {"type": "text"}},
    "/v1/responses": {**RESPONSES, "max_output_tokens": 1},
    "/v1/responses/input_tokens": RESPONSES,
    "/v1/messages": MESSAGES,
    "/v1/messages/count_tokens": {name: value for name, value in MESSAGES.items() if name != "max_tokens"},
    "/api/chat": OLLAMA,
    "/api/generate": {**OLLAMA, "prompt": "hi"},
    "/v1/decisions": DECISIONS,
    "/v1/systemone": SYSTEMONE,
}
"""With a value of every kind. Not each of them is answered: this model hears nothing."""

OTHERS: tuple[Any, ...] = ([], ["text"], {}, {"type": "text"}, 5, True, 0.5)
"""In place of a word; a list and an object are the ones that cannot be looked up in a table."""

WORDS = ("type", "role", "mode", "detail", "format", "effort")
SCHEMAS = ("parameters", "schema", "input_schema", "properties")


def words(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all words that say a kind, but for those in a JSON Schema."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in pairs:
        if name in SCHEMAS:
            continue
        if name in WORDS and isinstance(inner, str):
            yield (*path, name)
        yield from words(inner, (*path, name))


def replaced(body: dict[str, Any], path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(body))
    holder: Any = copy
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    return copy


def test_the_bodies_have_words_of_every_kind() -> None:
    assert {path[-1] for body in BODIES.values() for path in words(body)} == set(WORDS)


@pytest.mark.parametrize("path", BODIES)
def test_a_word_may_be_any_json(http: httpx.Client, path: str) -> None:
    body = BODIES[path]
    for place in words(body):
        for other in OTHERS:
            answer = http.post(path, json=replaced(body, place, other))
            assert answer.status_code in (200, 400), f"{path} {place} {other}: {answer.text}"
            if answer.status_code == 400:
                error = answer.json() if path.startswith("/api/") else answer.json()["error"]
                assert error["param"], f"{path} {place} {other}: {answer.text}"


ROLES_AND_TYPES = [
    ("/v1/chat/completions", ("messages", 1, "role")),
    ("/v1/chat/completions", ("messages", 1, "content", 1, "type")),
    ("/v1/responses", ("input", 0, "type")),
    ("/v1/responses", ("input", 0, "role")),
    ("/v1/responses", ("input", 0, "content", 0, "type")),
    ("/v1/responses/input_tokens", ("input", 6, "output", 0, "type")),
    ("/v1/messages", ("messages", 0, "role")),
    ("/v1/messages", ("messages", 0, "content", 1, "type")),
    ("/v1/messages", ("messages", 0, "content", 1, "source", "type")),
    ("/v1/messages", ("messages", 3, "content", 0, "content", 0, "type")),
    ("/v1/messages", ("tool_choice", "type")),
    ("/v1/messages/count_tokens", ("output_config", "effort")),
    ("/api/chat", ("messages", 0, "role")),
    ("/v1/decisions", ("input", 0, "type")),
    ("/v1/decisions", ("input", 0, "role")),
    ("/v1/decisions", ("input", 1, "content", 1, "type")),
    ("/v1/decisions", ("questions", 0, "instructions", 0, "type")),
]


@pytest.mark.parametrize(("path", "place"), ROLES_AND_TYPES)
def test_it_is_named(http: httpx.Client, path: str, place: tuple[str | int, ...]) -> None:
    param = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)[1:]
    for other in ([], {"a": 1}, ["text"]):
        answer = http.post(path, json=replaced(BODIES[path], place, other))
        error = answer.json() if path.startswith("/api/") else answer.json()["error"]
        assert (answer.status_code, error["param"]) == (400, param), answer.text
