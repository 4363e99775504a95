"""A part of a picture: what goes in is that part of it upright, and its coordinates are the whole picture's."""

from __future__ import annotations

import io
import json
from typing import Any

import openai
import pytest
from PIL import Image

from tests import pictures
from tests.engine.api.test_boxes import PIXELS, SHAPE, UPRIGHT, asked, client, in_pixels, photo

__all__ = ["client"]

SHAPE_PART = [SHAPE[0], SHAPE[1], SHAPE[2] - SHAPE[0], SHAPE[3] - SHAPE[1]]
AROUND = [30, 100, 180, 280]  # of 300 x 400: holds the shape
ON_SHAPE = [round(1000 * n) for n in (30 / 180, 20 / 280, 150 / 180, 260 / 280)]


def part(data: bytes, crop: Any, **more: Any) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": pictures.data_url(data), "crop": crop, **more}}


def jpeg(orientation: int) -> bytes:
    """The same photo as a phone's JPEG."""
    stored = Image.open(io.BytesIO(photo(orientation)))
    out = io.BytesIO()
    stored.save(out, "JPEG", exif=stored.getexif(), quality=95)
    return out.getvalue()


@pytest.mark.parametrize("form", [photo, jpeg])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_part_is_cut_from_the_upright_picture(client: openai.OpenAI, orientation: int, form: Any) -> None:
    """The shape alone has the hash of a picture that is nothing but the shape, where no JPEG has changed it."""
    answer = asked(client, "yes", part(form(orientation), SHAPE_PART))
    (receipt,) = answer.usage.media
    assert receipt["crop"] == {"part": SHAPE_PART, "of": list(UPRIGHT)}
    assert receipt["decoded"] == SHAPE_PART[2:]
    if form is photo:
        alone = Image.new("RGB", (SHAPE_PART[2], SHAPE_PART[3]), (220, 30, 30))
        whole = {"type": "image_url", "image_url": {"url": pictures.data_url(pictures.encode(alone))}}
        (same,) = asked(client, "yes", whole).usage.media
        assert same["sha256"] == receipt["sha256"] and same["crop"] is None


def test_boxes_of_a_part_are_the_whole_pictures(client: openai.OpenAI) -> None:
    text = json.dumps({"bbox_2d": ON_SHAPE, "label": "bar"})
    (receipt,) = asked(client, text, part(photo(6), AROUND)).usage.media
    (box,) = receipt["boxes"]
    assert box["pixels"] == [pytest.approx(px, abs=1) for px in PIXELS] and box["written"] == ON_SHAPE
    original = in_pixels(client, text, part(photo(6), AROUND)).choices[0].message.content
    assert json.loads(original)["bbox_2d"] == [pytest.approx(px, abs=1) for px in PIXELS]
    outside = json.dumps({"point_2d": [1200, 500]})
    (receipt,) = asked(client, outside, part(photo(1), AROUND)).usage.media
    assert receipt["boxes"][0]["pixels"] == [210, 240] and receipt["boxes"][0]["cut"]


def test_the_whole_picture_and_its_part_side_by_side(client: openai.OpenAI) -> None:
    whole = {"type": "image_url", "image_url": {"url": pictures.data_url(photo(1))}}
    for _ in range(2):  # the second time from what is kept
        media = asked(client, "yes", whole, part(photo(1), SHAPE_PART), part(photo(1), [0, 0, 50, 60])).usage.media
        assert [one["decoded"] for one in media] == [list(UPRIGHT), SHAPE_PART[2:], [50, 60]]
        assert len({one["sha256"] for one in media}) == 3


@pytest.mark.parametrize(
    ("crop", "more", "why"),
    [
        ([0, 0, 301, 10], {}, "301 x 10 pixels at 0, 0 does not lie inside of the picture, which is 300 x 400 pixels"),
        ([290, 390, 20, 20], {}, "does not lie inside"),
        ([0, 0, 0, 10], {}, "width and height must be at least 1, got 0 and 10"),
        ([-1, 0, 10, 10], {}, "greater than or equal to 0"),
        ([0, 0, 10], {}, "at least 4 items"),
        ([0, 0, 10.5, 10], {}, "valid integer"),
        ("all", {}, "valid list"),
        ([0, 0, 10, 10], {"animated": True}, "a part of one picture"),
    ],
)
def test_what_is_no_part_is_refused_in_words(client: openai.OpenAI, crop: Any, more: Any, why: str) -> None:
    with pytest.raises(openai.BadRequestError, match=why) as caught:
        asked(client, "yes", part(photo(1), crop, **more))
    assert "content[1]" in str(caught.value.body["param"])


def test_a_moving_picture_gives_a_part_of_its_first_frame(client: openai.OpenAI) -> None:
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue")]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    (receipt,) = asked(client, "yes", part(out.getvalue(), [4, 4, 32, 40])).usage.media
    assert (receipt["kind"], receipt["decoded"]) == ("image", [32, 40])


def test_other_kinds_of_media_have_no_such_option(client: openai.OpenAI) -> None:
    clip = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA==", "crop": [0, 0, 1, 1]}}
    with pytest.raises(openai.BadRequestError, match="not known here"):
        asked(client, "yes", clip)
