"""workbench.chat.receipts: what became of each medium, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.types import Description, FeatureUse, MediaReceipt
from workbench.chat import receipts
from workbench.chat.convert import ChatEntry

PICTURE = MediaReceipt(
    "image", 12_288, (640, 480), (128, 96), 12, "ab" * 32, (), 0, 0.25, 3.5, 2.0, 6.5, FeatureUse(misses=1)
)
CLIP = MediaReceipt(
    "video", 900, (320, 240), (64, 48), 1_036, "cd" * 32, ((0, 0.0), (14, 0.583333)), 3, 1, 1, 1, 0, FeatureUse(1, 2)
)


def test_one_medium_is_told_on_the_line():
    assert receipts.summary([PICTURE]) == "picture 640 × 480 → 128 × 96 seen · 12 tokens · encoded · 12 ms"
    assert receipts.summary([CLIP]) == (
        "clip 320 × 240 → 64 × 48 seen · 2 frames, 0 s to 0.58 s · 1,036 tokens · 1 of 3 parts reused · 3.0 ms"
    )


def test_several_media_are_summed_up():
    assert receipts.summary([PICTURE, CLIP, PICTURE]) == "2 pictures, 1 clip · 1,060 tokens"


def test_those_of_earlier_messages_are_only_counted():
    one = receipts.summary([CLIP])
    assert receipts.summary([CLIP], [PICTURE, PICTURE]) == f"{one} · with 2 pictures of earlier messages"
    assert receipts.summary([], [PICTURE, PICTURE]) == "2 pictures of earlier messages · 24 tokens"


def test_notes_are_in_plain_sight():
    noted = replace(PICTURE, notes=("first of 12 frames", "<b>"))
    assert "first of 12 frames · <b> · 12 ms" in receipts.summary([noted])
    assert receipts.summary([noted, PICTURE]) == "2 pictures · 24 tokens · first of 12 frames · <b>"
    pages = [replace(PICTURE, notes=(f"page {number}",)) for number in (1, 2, 3)]
    assert receipts.summary(pages) == "3 pictures · 36 tokens · 3 notes"
    assert "page 2" in receipts.receipt(pages, 3)["items"][1]["line"]


@pytest.mark.parametrize(
    ("use", "words"),
    [(None, ""), (FeatureUse(), "reused"), (FeatureUse(3, 0), "reused"), (FeatureUse(0, 3), "encoded")],
)
def test_whether_it_was_looked_at_anew(use, words):
    assert receipts.reuse_of(replace(PICTURE, features=use)) == words


def test_a_size_that_is_not_known_is_not_told():
    assert receipts.sizes(replace(PICTURE, seen_px=(0, 0))) == "640 × 480"


def test_a_sound_has_a_length_and_no_picture():
    sound = MediaReceipt("audio", 900, (0, 0), (0, 0), 25, "ef" * 32, duration_s=1.25)
    assert receipts.summary([sound]) == "sound 1.25 s · 25 tokens · 0.0 ms"
    assert receipts.receipt([sound], 1)["items"][0]["places"] == []


def test_a_place_for_each_picture_and_frame_and_the_name_of_each():
    assert receipts.receipt([], 0) is None
    named = [replace(PICTURE, param="a/cat.png"), replace(CLIP, param="dog.mp4")]
    first, second = receipts.receipt(named, 2)["items"]
    assert (first["name"], first["places"]) == ("cat.png", [""])
    assert (second["name"], second["places"]) == ("dog.mp4", ["0 s", "0.58 s"])
    assert first["line"] == receipts.line(named[0])
    (alone,) = receipts.receipt(named[:1], 1)["items"]
    assert (alone["name"], alone["line"]) == ("", ""), "the summary says it"


def test_what_another_model_said_is_told_with_its_cost():
    first = Description("image", "a.png", "ab", "<b>red</b>", "eyes", 1_204, 6, seconds=1.5)
    kept = replace(first, kind="video", param="b.mp4", text="blue", cached_tokens=1_000, kept=True)
    asked = (ChatEntry("user", "video", path="/b.mp4"), ChatEntry("user", "text", "Where?"))
    told = receipts.described([first, kept], asked)
    assert told["summary"] == "What the vision model said · 1 picture, 1 clip · eyes"
    assert told["items"] == [
        {"name": "a.png", "text": "<b>red</b>", "line": "1,204 + 6 tokens · 1.5 s", "edits": None},
        {
            "name": "b.mp4",
            "text": "blue",
            "line": "kept: nothing was asked this time · 1,204 + 6 tokens · 1,000 from cache · 1.5 s",
            "edits": -2,
        },
    ]


def test_which_descriptions_can_be_changed():
    """Those of the message's own pictures and clips, not of pages, nor of a medium that was left out."""
    page = Description("image", "two.pdf", "ab", "a page", "eyes", 9, 1)
    drawn = replace(page, param="a.png", edited=True)
    asked = (
        ChatEntry("user", "document", path="/two.pdf"),
        ChatEntry("user", "image", path="/gone.png", broken="it is empty"),
        ChatEntry("user", "image", path="/a.png"),
        ChatEntry("user", "text", "Sum up"),
    )
    items = receipts.described([drawn, page, page, drawn], asked)["items"]
    assert [item["edits"] for item in items] == [None, None, None, -2]
    assert items[-1]["line"] == "edited: nothing was asked"
