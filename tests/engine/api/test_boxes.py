"""Boxes and points on the API: an answer's coordinates come back in pixels of the picture that was sent, upright.

A grammar makes the model write the numbers, so that the way from its words to the picture is what is tested.
"""

from __future__ import annotations

import io
import json
from asyncio import events
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest
from PIL import Image, ImageOps

from engine.api.app import create_app
from engine.assets import asset
from engine.config import ServerConfig
from engine.runtime.intake import asking
from tests import pictures

UPRIGHT, SHAPE = (300, 400), (60, 120, 180, 360)
PIXELS = [60, 120, 180, 360]
WRITTEN = [200, 300, 600, 900]  # thousandths of 300 x 400


@pytest.fixture(scope="module")
def client(demo_engine: Any, serve: Callable[..., Any]) -> Iterator[openai.OpenAI]:
    with (
        serve(create_app(demo_engine, ServerConfig())) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, timeout=120) as made,
    ):
        yield made


def photo(orientation: int) -> bytes:
    """A picture as a phone stores it: turned, with a tag that says how; upright it is UPRIGHT, with a red SHAPE."""
    upright = Image.new("RGB", UPRIGHT, "white")
    upright.paste((220, 30, 30), SHAPE)
    undo = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    out = io.BytesIO()
    stored.save(out, "PNG", exif=exif)
    return out.getvalue()


def asked(client: openai.OpenAI, answer: str, *parts: dict[str, Any], **settings: Any) -> Any:
    """An answer that must be this text."""
    return client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": [{"type": "text", "text": "Where is it?"}, *parts]}],
        max_completion_tokens=400,
        temperature=0,
        extra_body={"guided_choice": [answer]},
        **settings,
    )


def image(data: bytes) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": pictures.data_url(data)}}


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_box_sits_on_the_shape_of_a_turned_photo(client: openai.OpenAI, orientation: int) -> None:
    data = photo(orientation)
    text = json.dumps({"bbox_2d": WRITTEN, "label": "red bar"})
    answer = asked(client, text, image(data))
    assert answer.choices[0].message.content == text
    (receipt,) = answer.usage.media
    assert receipt["decoded"] == list(UPRIGHT) and receipt["seen"] != receipt["decoded"]
    (box,) = receipt["boxes"]
    expected = {"kind": "box", "label": "red bar", "written": WRITTEN, "time": None, "choice": 0, "cut": False}
    assert box == {**expected, "pixels": [pytest.approx(px, abs=1) for px in PIXELS]}
    cut = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).crop([round(px) for px in box["pixels"]])
    inside = cut.crop((2, 2, cut.width - 2, cut.height - 2))
    assert inside.getcolors() == [(inside.width * inside.height, (220, 30, 30))]


def test_streamed_and_several_choices(client: openai.OpenAI) -> None:
    text = json.dumps([{"point_2d": [500, 500], "label": "middle"}])
    chunks = asked(client, text, image(photo(6)), stream=True, stream_options={"include_usage": True}, n=2)
    usage = list(chunks)[-1].usage
    boxes = usage.media[0]["boxes"]
    assert [(box["kind"], box["pixels"], box["choice"]) for box in boxes] == [
        ("point", [150, 200], 0),
        ("point", [150, 200], 1),
    ]


def test_on_the_frames_of_a_clip(client: openai.OpenAI) -> None:
    url = pictures.data_url(asset("samples/moving-circle.mp4").read_bytes(), "video/mp4")
    clip = {"type": "video_url", "video_url": {"url": url}}
    text = json.dumps({"time": 1.1, "bbox_2d": [0, 0, 500, 500]})
    (receipt,) = asked(client, text, clip).usage.media
    (box,) = receipt["boxes"]
    times = [frame["time"] for frame in receipt["frames"]]
    assert box["time"] == min(times, key=lambda time_s: abs(time_s - 1.1))
    width, height = receipt["decoded"]
    assert box["pixels"] == [0, 0, width / 2, height / 2]


def test_no_place_no_box(client: openai.OpenAI) -> None:
    (receipt,) = asked(client, "nowhere", image(photo(1))).usage.media
    assert receipt["boxes"] == []


ORIGINAL = {"coordinates": "original"}
SAID = json.dumps({"bbox_2d": WRITTEN, "label": "red bar"})
IN_PIXELS = json.dumps({"bbox_2d": PIXELS, "label": "red bar"})


def test_in_pixels_of_the_original_where_a_client_asks_for_them(client: openai.OpenAI) -> None:
    parts = [image(photo(6))]
    whole = in_pixels(client, SAID, *parts)
    assert whole.choices[0].message.content == IN_PIXELS
    assert whole.usage.coordinates == {"given_in": "original", "why": ""}
    (box,) = whole.usage.media[0]["boxes"]
    assert box["written"] == WRITTEN, "what the model wrote stays beside"
    chunks = list(in_pixels(client, SAID, *parts, stream=True, stream_options={"include_usage": True}))
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == IN_PIXELS and len([text for text in texts if text]) > 3, "it streams"
    assert chunks[-1].usage.coordinates == whole.usage.coordinates
    assert asked(client, SAID, *parts).usage.coordinates is None


def in_pixels(client: openai.OpenAI, answer: str, *parts: dict[str, Any], **settings: Any) -> Any:
    return client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": [{"type": "text", "text": "Where is it?"}, *parts]}],
        max_completion_tokens=400,
        temperature=0,
        extra_body={"guided_choice": [answer], **ORIGINAL},
        **settings,
    )


def test_the_last_of_several_pictures_is_meant(client: openai.OpenAI) -> None:
    answer = in_pixels(client, SAID, image(pictures.encode(Image.new("RGB", (64, 64)))), image(photo(1)))
    assert answer.choices[0].message.content == IN_PIXELS


def test_a_click_by_a_tool_call_and_the_next_turn_reads_what_was_written(client: openai.OpenAI) -> None:
    click = {
        "type": "function",
        "function": {
            "name": "click",
            "strict": True,
            "parameters": {"type": "object", "properties": {"coordinate": {"enum": [[500, 900]]}},
                           "required": ["coordinate"], "additionalProperties": False},
        },
    }  # fmt: skip
    question = {"role": "user", "content": [image(photo(1)), {"type": "text", "text": "Click on it."}]}

    def ask(*more: dict[str, Any], **fields: Any) -> Any:
        return client.chat.completions.create(
            model="demo", messages=[question, *more], tools=[click], tool_choice="required", temperature=0,
            parallel_tool_calls=False, max_completion_tokens=200, extra_body=fields,
        )  # fmt: skip

    (call,) = ask(**ORIGINAL).choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"coordinate": [150, 360]}
    (plain,) = ask().choices[0].message.tool_calls
    assert json.loads(plain.function.arguments) == {"coordinate": [500, 900]}

    def again(arguments: str, **fields: Any) -> int:
        sent = {"id": call.id, "type": "function", "function": {"name": "click", "arguments": arguments}}
        said = {"role": "assistant", "tool_calls": [sent]}
        done = {"role": "tool", "tool_call_id": call.id, "content": "clicked"}
        return ask(said, done, **fields).usage.prompt_tokens_details.cached_tokens

    again(plain.function.arguments)
    reused = again(plain.function.arguments)
    assert again(call.function.arguments, **ORIGINAL) == reused, "the same prompt, to the token"


def test_earlier_answers_are_changed_where_no_other_request_waits(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long they are: not in a thread that runs an event loop."""
    loops: list[object] = []
    change = asking.with_own_coordinates

    def seen(*given: Any) -> Any:
        loops.append(events._get_running_loop())
        return change(*given)

    monkeypatch.setattr(asking, "with_own_coordinates", seen)
    where = {"role": "user", "content": [image(photo(1)), {"type": "text", "text": "Where?"}]}
    client.chat.completions.create(
        model="demo",
        messages=[where, {"role": "assistant", "content": IN_PIXELS}, {"role": "user", "content": "And?"}],
        max_completion_tokens=1,
        extra_body=ORIGINAL,
    )
    assert loops == [None]


def test_what_cannot_be_done_is_refused_or_said(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="log-probabilities") as caught:
        in_pixels(client, SAID, image(photo(1)), logprobs=True)
    assert caught.value.body["param"] == "coordinates"
    told = in_pixels(client, SAID).usage.coordinates
    assert told == {"given_in": "model", "why": "the request has no picture or clip"}
    with pytest.raises(openai.BadRequestError, match="coordinates: it must be 'model' or 'original'"):
        client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "Hi"}], extra_body={"coordinates": "screen"}
        )


@pytest.mark.parametrize("logprobs", [None, True])
def test_the_servers_default_and_a_request_that_says_otherwise(
    demo_engine: Any, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, logprobs: bool | None
) -> None:
    """With log-probabilities the default gives way, and says so."""
    serving = demo_engine._serving
    asking = replace(serving.asking, coordinates="original")
    monkeypatch.setattr(demo_engine, "_serving", replace(serving, asking=asking))
    with (
        serve(create_app(demo_engine, ServerConfig())) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, timeout=120) as made,
    ):
        answer = asked(made, SAID, image(photo(1)), logprobs=logprobs)
        assert answer.choices[0].message.content == (SAID if logprobs else IN_PIXELS)
        assert answer.usage.coordinates["given_in"] == ("model" if logprobs else "original")
        assert ("log-probabilities" in answer.usage.coordinates["why"]) == bool(logprobs)
        body = {"guided_choice": [SAID], "coordinates": "model"}
        messages = [{"role": "user", "content": [image(photo(1))]}]
        plain = made.chat.completions.create(model="demo", messages=messages, temperature=0, extra_body=body)
        assert (plain.choices[0].message.content, plain.usage.coordinates) == (SAID, None)
