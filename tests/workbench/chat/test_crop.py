"""Crop and ask again: a part of a picture is kept with its conversation, shown, and told in its receipt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.errors import BadRequest
from engine.types import Crop, MediaReceipt, Part, Region
from workbench.chat.actions import _crop_px
from workbench.chat.convert import ChatEntry, to_request
from workbench.chat.convert import ChatSettings as Settings
from workbench.chat.display import displayed
from workbench.chat.receipts import sizes
from workbench.chat.regions import regions_of
from workbench.conversations.json_forms import done_from_json, done_json, part_from_json, part_json

SENT = Part("image", path="/a/photo.png", crop_px=(10, 20, 30, 40), detail="high", param="photo.png")
RECEIPT = MediaReceipt("image", 1, (30, 40), (28, 28), 1, "ab", crop=Crop(10, 20, (300, 400)),
                       regions=(Region("box", (16, 20, 40, 40), (0, 0, 1, 1)),))  # fmt: skip


def test_a_part_goes_through_the_file_of_conversations() -> None:
    kept = json.loads(json.dumps(part_json(SENT)))
    assert part_from_json(kept, "image", "/a/photo.png", "photo.png") == SENT


def test_its_receipt_does_too() -> None:
    from engine.types import Done, Timing, Usage

    done = Done("stop", Usage(1, 1), Timing(), media=(RECEIPT,))
    assert done_from_json(json.loads(json.dumps(done_json(done)))).media == (RECEIPT,)


def test_what_is_shown_and_sent() -> None:
    entry = ChatEntry("user", "image", path="/a/photo.png", part=SENT)
    (turn,) = displayed((entry,), [{"turn": "a"}])
    assert turn["parts"][0]["crop"] == [10, 20, 30, 40]
    assert to_request((entry,), Settings()).media_parts == [SENT]
    assert sizes(RECEIPT) == "crop of 300 × 400, 30 × 40 at 10, 20 → 28 × 28 seen"


def test_boxes_are_drawn_over_the_part_and_told_in_the_whole() -> None:
    (region,) = regions_of(RECEIPT)
    assert region["pixels"] == [16, 20, 40, 40] and region["share"] == [20, 0, 80, 50]


@pytest.mark.parametrize(
    "part", [None, [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3.5, 4], [-1, 0, 1, 1], [0, 0, 0, 1], [0] * 5]
)
def test_what_is_no_part_is_refused(part: Any) -> None:
    with pytest.raises(BadRequest):
        _crop_px(part)
