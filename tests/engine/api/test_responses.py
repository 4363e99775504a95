"""POST /v1/responses with the real OpenAI client: streamed and not, kept and gone on from."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from engine.assets import asset
from tests import pictures

CIRCLE = pictures.data_url((asset("samples") / "circle.png").read_bytes())
LOOK: Any = [
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is in this image?"},
            {"type": "input_image", "image_url": CIRCLE, "detail": "auto"},
        ],
    }
]


def ask(client: openai.OpenAI, given: Any = "hi", **settings: Any) -> Any:
    return client.responses.create(**{"model": "default", "input": given, "temperature": 0, **settings})


def test_a_whole_response(client: openai.OpenAI) -> None:
    answer = ask(client, metadata={"a": "b"}, max_output_tokens=64)
    assert answer.id.startswith("resp_") and answer.object == "response" and answer.status == "completed"
    assert answer.output_text and answer.output[0].type == "message" and answer.metadata == {"a": "b"}
    assert answer.usage.input_tokens + answer.usage.output_tokens == answer.usage.total_tokens
    cut = ask(client, max_output_tokens=2)
    assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"


def test_the_stream_is_the_whole_in_pieces(client: openai.OpenAI) -> None:
    """The client's own helper puts the events together and checks that they fit."""
    whole = ask(client, LOOK)
    assert "circle" in whole.output_text
    with client.responses.stream(model="default", input=LOOK, temperature=0) as stream:
        events = list(stream)
        final = stream.get_final_response()
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert final.output_text == whole.output_text and final.usage.output_tokens == whole.usage.output_tokens


def test_log_probabilities_where_they_are_asked_for(client: openai.OpenAI) -> None:
    answer = ask(client, include=["message.output_text.logprobs"], top_logprobs=2, max_output_tokens=4)
    logprobs = answer.output[0].content[0].logprobs
    assert "".join(entry.token for entry in logprobs) == answer.output_text
    assert all(len(entry.top_logprobs) == 2 and entry.top_logprobs[0].logprob >= entry.logprob for entry in logprobs)
    assert ask(client, max_output_tokens=4).output[0].content[0].logprobs == []


def test_instructions_are_a_system_message_and_are_not_taken_over(client: openai.OpenAI, http: httpx.Client) -> None:
    def count(*messages: dict[str, str]) -> int:
        return int(http.post("/tokenize", json={"messages": list(messages)}).json()["count"])

    hi, rule = {"role": "user", "content": "hi"}, {"role": "system", "content": "Be short."}
    first = ask(client, instructions="Be short.")
    assert first.usage.input_tokens == count(rule, hi)
    said, more = {"role": "assistant", "content": first.output_text}, {"role": "user", "content": "And now?"}
    second = ask(client, "And now?", previous_response_id=first.id)
    assert second.usage.input_tokens == count(hi, said, more)


def test_a_response_goes_on_from_another(client: openai.OpenAI) -> None:
    """Also from what went on itself, and with a picture of an earlier turn, whose KV is reused."""
    first = ask(client, LOOK)
    second = ask(client, "What colour is it?", previous_response_id=first.id)
    spelled = [*LOOK, {"role": "assistant", "content": first.output_text}]
    spelled.append({"role": "user", "content": "What colour is it?"})
    assert second.output_text == ask(client, spelled).output_text and second.previous_response_id == first.id
    assert second.usage.input_tokens_details.cached_tokens >= first.usage.input_tokens - 64
    third = ask(client, "And its shape?", previous_response_id=second.id)
    assert third.usage.input_tokens > second.usage.input_tokens
    again = ask(client, [item.model_dump() for item in first.output] + [{"role": "user", "content": "Well?"}])
    assert again.status == "completed", "its own output is input"


def test_kept_until_it_is_deleted(client: openai.OpenAI) -> None:
    kept = ask(client)
    assert client.responses.retrieve(kept.id).output_text == kept.output_text
    (item,) = client.responses.input_items.list(kept.id).data
    assert item.role == "user" and item.content == "hi"
    client.responses.delete(kept.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(kept.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(kept.id)
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        ask(client, previous_response_id=kept.id)


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_to_be_kept_is_not(client: openai.OpenAI, http: httpx.Client, stream: bool) -> None:
    asked = http.post("/v1/responses", json={"input": "hi", "store": False, "max_output_tokens": 2, "stream": stream})
    kept = http.post("/v1/responses", json={"input": "hi", "max_output_tokens": 2, "stream": stream})
    for answer, status in ((asked, 404), (kept, 200)):
        response_id = answer.text.split('"id":"')[1].split('"')[0]
        assert http.get(f"/v1/responses/{response_id}").status_code == status


def test_nobody_reads_anothers(three_keys: str) -> None:
    alice, bob = ({"Authorization": f"Bearer sk-{name}"} for name in ("alice", "bob"))
    body = {"input": "my secret", "max_output_tokens": 2}
    made = httpx.post(f"{three_keys}/v1/responses", json=body, headers=alice, timeout=60).json()
    url = f"{three_keys}/v1/responses/{made['id']}"
    assert httpx.get(url, headers=alice).status_code == 200
    assert httpx.get(url, headers=bob).status_code == 404
    assert httpx.delete(url, headers=bob).status_code == 404
    taken = httpx.post(
        f"{three_keys}/v1/responses", json={"input": "x", "previous_response_id": made["id"]}, headers=bob, timeout=60
    )
    assert taken.status_code == 400 and "secret" not in taken.text
    assert httpx.get(url).status_code == 401


def test_a_file_is_read(client: openai.OpenAI) -> None:
    part = {
        "type": "input_file",
        "filename": "a.txt",
        "file_data": pictures.data_url(b"A poem about rain.", "text/plain"),
    }
    content = [part, {"type": "input_text", "text": "What is it?"}]
    answer = ask(client, [{"role": "user", "content": content}], max_output_tokens=4)
    assert answer.usage.input_tokens > ask(client, "What is it?", max_output_tokens=4).usage.input_tokens


def test_counting_input(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model="default", input=LOOK)
    assert counted.input_tokens == ask(client, LOOK, max_output_tokens=1).usage.input_tokens


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "assistant", "content": "hi"}]}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
        ({"input": [{"role": "wizard", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
        ({"input": [{"role": "user", "content": [{"type": "hologram"}]}]}, "input[0].content[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "input[0].content[0].file_id",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "AA", "pages": "x"}]}]},
            "input[0].content[0].pages",
        ),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"input": "x", "tools": [{"type": "function"}]}, "tools[0].name"),
        ({"input": "x", "tool_choice": "always"}, "tool_choice"),
        ({"input": "x", "text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"input": "x", "text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
        ({"input": "x", "include": ["everything"]}, "include[0]"),
        ({"input": "x", "background": True}, "background"),
        ({"input": "x", "conversation": "conv_1"}, "conversation"),
        ({"input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"input": "x", "truncation": "auto"}, "truncation"),
        ({"input": "x", "max_tokens": 5}, "max_tokens"),
        ({"input": "x", "messages": [{}]}, "messages"),
        ({"input": "x", "n": 2}, "n"),
        ({"input": "x", "max_output_tokens": 0}, "max_output_tokens"),
        ({"input": "x", "previous_response_id": "resp_none"}, "previous_response_id"),
        ({"input": "x", "metadata": {"a": 1}}, "metadata.a"),
        ({"input": "x", "reasoning": {"effort": 5}}, "reasoning.effort"),
    ],
)
def test_what_is_wrong_is_named(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = http.post("/v1/responses", json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error["param"] == param and error["message"].startswith(param)
