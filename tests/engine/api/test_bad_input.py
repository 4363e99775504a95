"""Every kind of bad input gets a clear error in OpenAI's shape, and the server goes on."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests import pictures

HELLO: Any = [{"role": "user", "content": "hi"}]
JSON = {"Content-Type": "application/json"}
PNG = pictures.encode(pictures.picture())


@pytest.fixture(autouse=True)
def the_server_goes_on(http: httpx.Client) -> Iterator[None]:
    yield
    response = http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 1})
    assert response.status_code == 200 and http.get("/health").json()["running"] == 0


def error_of(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"} and error["message"] and error["code"]
    return error


def post(http: httpx.Client, **body: Any) -> httpx.Response:
    return http.post(
        "/v1/chat/completions", content=json.dumps({"messages": HELLO, "max_tokens": 4, **body}), headers=JSON
    )


def with_medium(url: str, kind: str = "image_url") -> Any:
    return [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": kind, kind: {"url": url}}]}]


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="gpt-9") as caught:
        client.chat.completions.create(model="gpt-9", messages=HELLO)
    assert caught.value.code == "model_not_found" and caught.value.param == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("org/gpt-9")


@pytest.mark.parametrize(
    ("url", "kind", "words"),
    [
        (pictures.data_url(b"I am no picture"), "image_url", "not a picture"),
        (pictures.data_url(PNG[: len(PNG) // 2]), "image_url", "cannot be decoded"),
        (pictures.data_url(b""), "image_url", "empty"),
        (pictures.data_url(b"", "video/mp4"), "video_url", "empty"),
        (pictures.data_url(b"words in a file named .mp4", "video/mp4"), "video_url", "plain text"),
        ("data:image/png;base64,@@@@", "image_url", "not valid base64"),
        ("http://no-such-host.invalid/a.png", "image_url", "not known"),
        ("http://169.254.169.254/latest/meta-data/", "image_url", "not a public address"),
        ("http://localhost/a.png", "image_url", "not a public address"),
        ("file:///etc/passwd", "image_url", "--media-root"),
        ("/etc/passwd", "image_url", "--media-root"),
        (pictures.data_url(PNG), "video_url", "still picture"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_bad_media(http: httpx.Client, url: str, kind: str, words: str, stream: bool) -> None:
    error = error_of(post(http, messages=with_medium(url, kind), stream=stream))
    assert words in error["message"] and error["code"] == "invalid_media"
    assert error["param"] == f"messages[0].content[1].{kind}.url"


def test_an_unreachable_server(http: httpx.Client) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error_of(post(http, messages=with_medium(f"http://127.0.0.1:{port}/a.png")))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].role"),
        ({"messages": None}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 129}, "n"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"logprobs": 5}, "logprobs"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"stream": "yes"}, "stream"),
        ({"stop": ["x" * 1001]}, "stop"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {str(2**31): 1}}, "logit_bias"),
        ({"cache_salt": "half \ud800"}, "cache_salt"),
        ({"chat_template_kwargs": {"\ud800": 1}}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "chat_template_kwargs.chat_template"),
        ({"chat_template_kwargs": {"add_generation_prompt": False}}, "chat_template_kwargs.add_generation_prompt"),
    ],
)
def test_wrong_fields_are_400_and_named(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    error = error_of(post(http, **body))
    assert error["param"] == param and error["message"].startswith(param)
    assert error["type"] == "invalid_request_error"


def test_a_missing_field(http: httpx.Client) -> None:
    assert error_of(http.post("/v1/chat/completions", json={}))["param"] == "messages"
    assert error_of(http.post("/v1/completions", json={}))["param"] == "prompt"


def test_an_explicit_max_tokens_beyond_the_context(http: httpx.Client, demo_engine: Any) -> None:
    context = demo_engine.snapshot().model.context_tokens
    error = error_of(post(http, max_tokens=context))
    assert error["code"] == "context_length_exceeded" and f"{context:,}" in error["message"]
    assert error_of(post(http, max_tokens=context, stream=True))["code"] == "context_length_exceeded"


def test_a_prompt_beyond_the_context(http: httpx.Client, demo_engine: Any) -> None:
    context = demo_engine.snapshot().model.context_tokens
    words = [{"role": "user", "content": "word " * (context + 100)}]
    error = error_of(http.post("/v1/chat/completions", json={"messages": words}))
    assert error["code"] == "context_length_exceeded" and f"{context:,}" in error["message"]


def test_a_token_id_that_the_model_has_no_row_for_ends_that_request_alone(http: httpx.Client) -> None:
    """MLX checks no index: such an id wrote to other memory, and a large one ended the process."""
    size = 1024
    assert post(http, logit_bias={str(size - 1): -100}).status_code == 200
    for wrong in (size, 2**31, 10**30):
        assert f"0 to {size - 1}" in error_of(post(http, logit_bias={str(wrong): 1}))["message"]
        assert error_of(http.post("/v1/completions", json={"prompt": [wrong], "max_tokens": 1}))["param"] == "prompt"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "UTF-8"),
        (b'{"messages": 1' + b"0" * 5000 + b"}", "digits"),
        (b'{"messages": ' + b"[" * 3000 + b"]" * 3000 + b"}", "nested"),
        (b'{"messages": [], "chat_template_kwargs": ' + b'{"a":' * 500 + b"1" + b"}" * 500 + b"}", "64 levels"),
    ],
)
def test_json_that_nothing_can_read(http: httpx.Client, content: bytes, words: str) -> None:
    response = http.post("/v1/chat/completions", content=content, headers={"Content-Type": "application/json"})
    assert words in error_of(response)["message"]


@pytest.mark.parametrize("body", ["", "{", "[1, 2", "null", "[]", '"hi"', "5", "{'a': 1}", '{"messages": [}'])
def test_bodies_that_are_no_json_object(http: httpx.Client, body: str) -> None:
    response = http.post("/v1/chat/completions", content=body, headers={"Content-Type": "application/json"})
    error_of(response)


def test_a_body_that_is_not_declared_as_json(http: httpx.Client) -> None:
    """A web page may send text/plain to any server without asking; JSON it may not."""
    response = http.post("/v1/chat/completions", content='{"messages": []}', headers={"Content-Type": "text/plain"})
    assert "application/json" in error_of(response)["message"]


def test_unknown_routes(http: httpx.Client) -> None:
    assert "/v1/nothing" in error_of(http.get("/v1/nothing"), 404)["message"]
    error_of(http.get("/v1/chat/completions"), 405)
    error_of(http.post("/v1/models", json={}), 405)


def test_a_clip_named_as_a_picture_says_what_to_do(http: httpx.Client, clip_path: Path) -> None:
    url = pictures.data_url(clip_path.read_bytes(), "image/png")
    assert "video_url" in error_of(post(http, messages=with_medium(url)))["message"]
