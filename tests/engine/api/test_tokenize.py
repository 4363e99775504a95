"""POST /v1/tokenize: what it says is what the same request is then billed; asking counts nowhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.runtime.estimates.track_record import TrackRecord
from tests import pictures
from tests.waiting import wait_until

QUESTION = {"type": "text", "text": "What happens here?"}


def about(*media: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [*media, QUESTION]}]


def image(colour: str = "red") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": pictures.picture_url(colour)}}


def video(path: Path) -> dict[str, Any]:
    return {"type": "video_url", "video_url": {"url": pictures.data_url(path.read_bytes(), "video/mp4")}}


def ask(http: httpx.Client, **body: Any) -> Any:
    response = http.post("/v1/tokenize", json=body)
    assert response.status_code == 200, response.text
    return response.json()


def test_it_is_what_the_request_then_costs(
    client: openai.OpenAI, http: httpx.Client, clip_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrackRecord, "trusts", lambda self, kind, raw_ms: True)  # else the time may be untold
    messages: Any = about(image(), video(clip_path))
    told = ask(http, model="default", messages=messages, video_fps=3)
    usage: Any = client.chat.completions.create(
        model="default", messages=messages, max_tokens=1, extra_body={"video_fps": 3}
    ).usage
    assert told["count"] == len(told["tokens"]) == usage.prompt_tokens
    assert told["left"] == told["max_model_len"] - told["count"]
    for before, after in zip(told["media"], usage.media, strict=True):
        own = ("kind", "bytes", "decoded", "seen", "tokens", "sha256", "frames")
        assert {name: before[name] for name in own} == {name: after[name] for name in own}
    again = ask(http, messages=messages, video_fps=3)
    assert again["cached_tokens"] == told["count"] - 1 and again["ttft_ms"] > 0


def test_a_raw_prompt_has_vllms_answer(http: httpx.Client) -> None:
    told = ask(http, prompt="The picture shows")
    assert set(told) >= {"count", "max_model_len", "tokens", "token_strs"} and told["media"] == []
    assert ask(http, prompt=told["tokens"])["tokens"] == told["tokens"]


def test_at_vllms_paths(http: httpx.Client) -> None:
    """Both routes stand at the root, too; tokens come as text where that is asked for, and go back."""
    body = {"prompt": "The picture shows", "return_token_strs": True}
    at_root, under_v1 = (http.post(path, json=body).json() for path in ("/tokenize", "/v1/tokenize"))
    assert at_root["tokens"] == under_v1["tokens"] and "".join(at_root["token_strs"]) == body["prompt"]
    for path in ("/detokenize", "/v1/detokenize"):
        assert http.post(path, json={"model": "demo", "tokens": at_root["tokens"]}).json() == {"prompt": body["prompt"]}
    begin = http.post("/tokenize", json={"prompt": "<|im_start|>user"}).json()["tokens"]
    assert http.post("/detokenize", json={"tokens": begin}).json()["prompt"] == "<|im_start|>user"
    assert http.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/detokenize", {"tokens": [10**6]}, "tokens"),
        ("/detokenize", {"tokens": [-1]}, "tokens[0]"),
        ("/detokenize", {"tokens": "x"}, "tokens"),
        ("/detokenize", {}, "tokens"),
        (
            "/tokenize",
            {"messages": [{"role": "user", "content": "hi"}], "add_special_tokens": True},
            "add_special_tokens",
        ),
        ("/tokenize", {"prompt": "<|image_pad|>"}, "prompt"),
    ],
)
def test_what_is_wrong_is_named(http: httpx.Client, path: str, body: dict[str, Any], param: str) -> None:
    answer = http.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_asking_counts_nowhere(http: httpx.Client, demo_server: Any) -> None:
    wait_until(lambda: not demo_server.engine.snapshot().running, "what an earlier test has left goes on")
    before = http.get("/v1/cache/stats").json(), http.get("/health").json()
    for colour in ("red", "blue"):
        ask(http, messages=about(image(colour)))
    after = http.get("/v1/cache/stats").json(), http.get("/health").json()
    assert before[0] == after[0]
    assert before[1].get("totals") == after[1].get("totals")


def test_more_than_the_context_is_told_not_refused(http: httpx.Client) -> None:
    told = ask(http, messages=[{"role": "user", "content": "word " * 20_000}])
    assert told["left"] < 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "messages"),
        ({"messages": [], "prompt": "x"}, "messages"),
        ({"messages": []}, "messages"),
        ({"prompt": ""}, "prompt"),
        ({"messages": about({"type": "image", "image": "data:,x"})}, "messages[0].content[0].image"),
        ({"messages": about(), "video_fps": -1}, "video_fps"),
    ],
)
def test_errors_are_those_of_the_request(http: httpx.Client, body: dict[str, Any], param: str) -> None:
    response = http.post("/v1/tokenize", json=body)
    assert response.status_code == 400 and response.json()["error"]["param"] == param
