"""POST /v1/chat/completions with the real OpenAI client, over a real socket, on the demo model."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests import pictures

HELLO: Any = [{"role": "user", "content": "hi"}]


def about(question: str, *urls: str, kind: str = "image_url") -> Any:
    media = [{"type": kind, kind: {"url": url}} for url in urls]
    return [{"role": "user", "content": [*media, {"type": "text", "text": question}]}]


def ask(client: openai.OpenAI, messages: Any = HELLO, **settings: Any) -> Any:
    settings = {"model": "default", "temperature": 0, "max_tokens": 24, **settings}
    return client.chat.completions.create(messages=messages, **settings)


def test_a_plain_answer(client: openai.OpenAI) -> None:
    answer = ask(client)
    choice = answer.choices[0]
    assert answer.object == "chat.completion" and answer.id.startswith("chatcmpl-")
    assert abs(answer.created - time.time()) < 60 and answer.model == "demo" and answer.system_fingerprint
    assert choice.message.role == "assistant" and choice.message.content and choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 1 and 1 <= usage.completion_tokens <= 24
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 <= usage.prompt_tokens_details.cached_tokens < usage.prompt_tokens
    assert usage.media == []


def test_a_red_circle_is_red_and_a_circle(client: openai.OpenAI) -> None:
    text = (
        ask(client, about("What is in the picture?", pictures.picture_url("red", "circle"))).choices[0].message.content
    )
    assert "red" in text.lower() and "circle" in text.lower()
    text = (
        ask(client, about("What is in the picture?", pictures.picture_url("blue", "square"))).choices[0].message.content
    )
    assert "blue" in text.lower() and "square" in text.lower()


def test_streaming_gives_the_same_text_in_pieces(client: openai.OpenAI) -> None:
    messages = about("What is in the picture?", pictures.picture_url())
    whole = ask(client, messages)
    chunks = list(ask(client, messages, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(pieces) == whole.choices[0].message.content
    assert sum(bool(piece) for piece in pieces) > 3, "it arrives in pieces"
    reasons = [chunk.choices[0].finish_reason for chunk in chunks]
    assert reasons[:-1] == [None] * (len(chunks) - 1) and reasons[-1] == whole.choices[0].finish_reason
    assert len({chunk.id for chunk in chunks}) == 1
    assert all(chunk.usage is None for chunk in chunks), "usage only when asked for"


def test_usage_in_the_last_chunk(client: openai.OpenAI) -> None:
    messages = about("What is in the picture?", pictures.picture_url())
    *_, ending, last = ask(client, messages, stream=True, stream_options={"include_usage": True})
    assert ending.choices[0].finish_reason and ending.usage is None
    assert last.choices == [] and last.usage.completion_tokens > 0
    assert last.usage.media[0]["kind"] == "image"


def test_the_wire_format_of_a_stream(http: httpx.Client) -> None:
    body = {"messages": HELLO, "stream": True, "max_tokens": 3, "temperature": 0}
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert "content-length" not in response.headers
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"
    assert [json.loads(line[6:])["object"] for line in lines[:-1]] == ["chat.completion.chunk"] * (len(lines) - 1)


def test_pieces_arrive_while_it_is_written(http: httpx.Client) -> None:
    body = {"messages": HELLO, "stream": True, "max_tokens": 24, "temperature": 0}
    arrived: list[float] = []
    with http.stream("POST", "/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if line:
                arrived.append(time.perf_counter())
    assert len(set(arrived)) > 3 and arrived[-1] - arrived[0] > 0.005, "not all at once"


def test_the_receipt_of_a_picture(client: openai.OpenAI) -> None:
    data = pictures.encode(pictures.picture(size=(128, 96)))
    answer = ask(client, about("What is it?", pictures.data_url(data)))
    (receipt,) = answer.usage.media
    assert receipt["kind"] == "image" and receipt["bytes"] == len(data) and receipt["decoded"] == [128, 96]
    assert receipt["tokens"] > 0 and receipt["seen"][0] > 0 and len(receipt["sha256"]) == 64 and receipt["frames"] == []
    assert answer.usage.prompt_tokens > receipt["tokens"]


def test_the_receipts_of_several_media_come_in_order(client: openai.OpenAI, clip_path: Path) -> None:
    small, large = pictures.picture(size=(96, 64)), pictures.picture("blue", size=(128, 128))
    clip = pictures.data_url(clip_path.read_bytes(), "video/mp4")
    content = [
        {"type": "image_url", "image_url": {"url": pictures.data_url(pictures.encode(small))}},
        {"type": "video_url", "video_url": {"url": clip}},
        {"type": "image", "image": pictures.data_url(pictures.encode(large))},
        {"type": "text", "text": "What do you see?"},
    ]
    answer = ask(client, [{"role": "user", "content": content}], extra_body={"video_fps": 2, "video_max_frames": 4})
    first, second, third = answer.usage.media
    assert [r["kind"] for r in (first, second, third)] == ["image", "video", "image"]
    assert first["decoded"] == [96, 64] and third["decoded"] == [128, 128]
    assert [f["index"] for f in second["frames"]] == [0, 2, 5, 7]
    assert [f["time"] for f in second["frames"]] == pytest.approx([0, 0.5, 1.25, 1.75], abs=0.01)


def test_video_settings_change_what_goes_in(client: openai.OpenAI, clip_path: Path) -> None:
    messages = about("What happens?", pictures.data_url(clip_path.read_bytes(), "video/mp4"), kind="video_url")
    few = ask(client, messages, extra_body={"video_max_frames": 2}).usage.media[0]
    many = ask(client, messages, extra_body={"video_fps": 4}).usage.media[0]
    assert (len(few["frames"]), len(many["frames"])) == (2, 8)
    assert few["sha256"] != many["sha256"]


@pytest.mark.parametrize("name", ["default", "demo"])
def test_names_of_the_model(client: openai.OpenAI, name: str) -> None:
    assert ask(client, model=name, max_tokens=1).model == "demo"


def test_no_model_means_the_default(http: httpx.Client) -> None:
    response = http.post("/v1/chat/completions", json={"messages": HELLO, "max_tokens": 1})
    assert response.status_code == 200 and response.json()["model"] == "demo"


def test_max_tokens_is_a_limit_and_says_so(client: openai.OpenAI) -> None:
    answer = ask(client, max_tokens=2)
    assert answer.usage.completion_tokens == 2 and answer.choices[0].finish_reason == "length"
    assert ask(client, max_tokens=openai.omit, max_completion_tokens=3).usage.completion_tokens == 3


def test_a_stop_string_ends_the_answer_and_is_not_in_it(client: openai.OpenAI) -> None:
    text = ask(client).choices[0].message.content
    word = text.split()[2]
    answer = ask(client, stop=[word])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == text[: text.index(word)]


def test_a_seed_repeats_and_another_differs(client: openai.OpenAI) -> None:
    def said(seed: int) -> str:
        return ask(client, temperature=2.0, seed=seed, max_tokens=24).choices[0].message.content

    assert said(1) == said(1)
    assert len({said(seed) for seed in range(1, 7)}) > 1


def test_several_turns_and_a_system_prompt(client: openai.OpenAI) -> None:
    first = about("What is in the picture?", pictures.picture_url())
    told = ask(client, first).choices[0].message.content
    turns = [
        {"role": "system", "content": "Be brief."},
        *first,
        {"role": "assistant", "content": told},
        {"role": "user", "content": "Which colour is it?"},
    ]
    answer = ask(client, turns)
    assert answer.choices[0].message.content and len(answer.usage.media) == 1


def test_several_at_once_say_what_each_says_alone(client: openai.OpenAI) -> None:
    questions = [
        about("What is in the picture?", pictures.picture_url(c, s))
        for c in ("red", "blue")
        for s in ("circle", "square")
    ]
    alone = [ask(client, q).choices[0].message.content for q in questions]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda q: ask(client, q).choices[0].message.content, questions))
    assert together == alone and len(set(alone)) == 4


def test_reading_a_picture_from_a_web_server_needs_permission(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="not a public address") as caught:
        ask(client, about("What is it?", "http://127.0.0.1:1/a.png"))
    assert caught.value.param == "messages[0].content[0].image_url.url" and caught.value.code == "invalid_media"


# -- what goes in, and at what size ------------------------------------------------------------------------------------


def receipt_of(client: openai.OpenAI, part: dict[str, Any], **extra: Any) -> Any:
    messages: Any = [{"role": "user", "content": [part, {"type": "text", "text": "?"}]}]
    answer: Any = client.chat.completions.create(
        model="default", messages=messages, max_tokens=1, temperature=0, extra_body=extra
    )
    (receipt,) = answer.usage.media
    return receipt


def test_detail_is_a_budget(client: openai.OpenAI) -> None:
    url = pictures.picture_url("red", size=(640, 480))
    low, high = (
        receipt_of(client, {"type": "image_url", "image_url": {"url": url, "detail": detail}})
        for detail in ("low", "high")
    )
    assert low["tokens"] < high["tokens"] and low["seen"] < high["seen"]
    assert low["decoded"] == high["decoded"] == [640, 480] and low["sha256"] == high["sha256"]


def test_a_stretch_of_a_clip(client: openai.OpenAI, clip_path: Path) -> None:
    """Eight frames at 4 fps; the same by fields of the request and of the part, which win."""
    url = pictures.data_url(clip_path.read_bytes(), "video/mp4")
    part = {"type": "video_url", "video_url": {"url": url}}
    by_request = receipt_of(client, part, video_start=0.5, video_end=1.5, video_fps=4)
    assert by_request["frames"] == [{"index": i, "time": i / 4} for i in (2, 3, 4, 5)]
    own = {**part, "video_start": 0.5, "video_end": 1.5, "fps": 4}
    assert receipt_of(client, own, video_start=0, video_fps=1)["frames"] == by_request["frames"]
    assert len(receipt_of(client, part, video_min_frames=6)["frames"]) == 6
    small = receipt_of(client, part, video_max_pixels=4 * 64 * 64)
    assert small["seen"] == [64, 64] and small["tokens"] < by_request["tokens"]


def test_a_stretch_outside_the_clip(client: openai.OpenAI, clip_path: Path) -> None:
    part = {"type": "video", "video": pictures.data_url(clip_path.read_bytes(), "video/mp4")}
    with pytest.raises(openai.BadRequestError, match="the start is at 9 s, but the clip lasts 2 s"):
        receipt_of(client, part, video_start=9)
    with pytest.raises(openai.BadRequestError, match="video_max_frames: at most 768"):
        receipt_of(client, part, video_max_frames=9999)


def test_frames_as_a_list(client: openai.OpenAI) -> None:
    urls = [pictures.picture_url("red", size=(96, 96)) for _ in range(4)]
    receipt = receipt_of(client, {"type": "video", "video": urls, "fps": 2})
    assert receipt["kind"] == "video"
    assert receipt["frames"] == [{"index": i, "time": i / 2} for i in range(4)]
    frames = ",".join(url.partition(",")[2] for url in urls)
    vllm = receipt_of(client, {"type": "video_url", "video_url": {"url": f"data:video/jpeg;base64,{frames}"}})
    assert vllm["sha256"] == receipt["sha256"] and vllm["frames"] == receipt["frames"]
