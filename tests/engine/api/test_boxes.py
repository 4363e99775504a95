"""Boxes and points on the API: an answer's coordinates come back in pixels of the picture that was sent, upright.

A grammar makes the model write the numbers, so that the way from its words to the picture is what is tested.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from PIL import Image, ImageOps

from engine.api.app import create_app
from engine.assets import asset
from engine.config import ServerConfig
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
