"""Responses that are kept: all that they hold counts, wherever a client has put it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from engine.api.responses.items import read_input
from engine.api.responses.store import KeptResponse, ResponseStore, held_bytes
from engine.config import MediaLimits
from engine.errors import ModelNotFound

MIB = 1024**2
LONG = "x" * MIB


def kept(response: dict[str, Any] | None = None, given: list[Any] | None = None, name: str = "r") -> KeptResponse:
    items = given or [{"role": "user", "content": "hi"}]
    return KeptResponse.of({"id": name, **(response or {})}, items, tuple(read_input(items, MediaLimits())), None)


CALL = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
ENTRY = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}
LARGE = {
    "instructions": kept({"instructions": LONG}),
    "a description": kept({"tools": [{"type": "function", "name": "f", "description": LONG}]}),
    "a form": kept({"text": {"format": {"type": "json_schema", "schema": {"enum": [LONG]}}}}),
    "the names of a form": kept({"text": {"format": {"schema": {"properties": {LONG: {}}}}}}),
    "an answer": kept({"output": [{"type": "message", "content": [{"type": "output_text", "text": LONG}]}]}),
    "its log-probabilities": kept({"output": [{"content": [{"logprobs": [dict(ENTRY) for _ in range(8000)]}]}]}),
    "a text": kept(given=[{"role": "user", "content": LONG}]),
    "arguments": kept(given=[{**CALL, "arguments": LONG}]),
    "the name of a call": kept(given=[{**CALL, "name": LONG}]),
    "an id": kept(given=[{**CALL, "call_id": LONG}]),
    "a result": kept(given=[{"type": "function_call_output", "call_id": "c", "output": LONG}]),
    "thoughts": kept(given=[{"type": "reasoning", "summary": [{"text": LONG}]}]),
    "what nobody reads": kept(given=[{"type": "reasoning", "summary": [], "encrypted_content": LONG}]),
    "the name of a file": kept(
        given=[{"role": "user", "content": [{"type": "input_file", "filename": LONG, "file_data": "AA"}]}]
    ),
    "a picture": kept(given=[{"role": "user", "content": [{"type": "input_image", "image_url": f"data:,{LONG}"}]}]),
}


@pytest.mark.parametrize("what", LARGE)
def test_all_that_is_kept_counts(what: str) -> None:
    assert MIB < LARGE[what].num_bytes < 4 * MIB
    store = ResponseStore(max_bytes=MIB)
    store.keep("me", LARGE[what])
    with pytest.raises(ModelNotFound):
        store.find("me", "r")


def test_what_came_before_counts_and_is_not_looked_through_again(monkeypatch: pytest.MonkeyPatch) -> None:
    before = LARGE["a text"]
    looked_through: list[int] = []

    def noted(value: Any) -> int:
        looked_through.append(held_bytes(value))
        return looked_through[-1]

    monkeypatch.setattr("engine.api.responses.store.held_bytes", noted)
    items = [{"role": "user", "content": "and?"}]
    after = KeptResponse.of({"id": "s"}, items, tuple(read_input(items, MediaLimits())), before)
    assert after.messages[: len(before.messages)] == before.messages and len(after.messages) == 2
    assert after.num_bytes > before.num_bytes > MIB and sum(looked_through) < MIB


def test_the_oldest_go_where_there_is_no_room() -> None:
    store = ResponseStore(max_bytes=3 * MIB)
    for name in ("a", "b", "c"):
        store.keep("me", kept({"instructions": LONG + name}, name=name))
    assert [store.find("me", name).response["id"] for name in ("b", "c")] == ["b", "c"]
    with pytest.raises(ModelNotFound):
        store.find("me", "a")


def test_what_stands_there_twice_counts_once() -> None:
    assert held_bytes([LONG, LONG, {"a": LONG}]) < 1.1 * MIB < held_bytes([LONG, "y" * MIB])


@pytest.mark.parametrize("name", ["user", "safety_identifier", "prompt_cache_key", "service_tier"])
def test_labels_have_a_bound(http: httpx.Client, name: str) -> None:
    body = {"input": "hi", "max_output_tokens": 1}
    assert http.post("/v1/responses", json={**body, name: "x" * 512}).status_code == 200
    error = http.post("/v1/responses", json={**body, name: "x" * 513}).json()["error"]
    assert error["param"] == name and "512" in error["message"]


def test_so_have_the_names_and_values_of_metadata(http: httpx.Client) -> None:
    for metadata in ({"a": "x" * 513}, {"x" * 513: "a"}, {str(i): "a" for i in range(17)}):
        answer = http.post("/v1/responses", json={"input": "hi", "max_output_tokens": 1, "metadata": metadata})
        error = answer.json()["error"]
        assert answer.status_code == 400 and error["param"].startswith("metadata") and len(answer.content) < 1000
