"""workbench.chat.cost: what a message would cost, in words; and how a fitted file is sent."""

from __future__ import annotations

from dataclasses import replace

from engine.errors import MemoryExceeded
from engine.types import FrameSampling, MediaReceipt, Message, Part, Preflight, Request
from workbench.chat.convert import ChatEntry, ChatSettings, fitted_entries, to_request, user_entries
from workbench.chat.cost import line, refused
from workbench.chat.receipts import num_receipts

PICTURE = MediaReceipt("image", 1, (9, 9), (9, 9), 1_024, "ab")
CLIP = replace(PICTURE, kind="video", tokens=3_000, frames=((0, 0.0), (9, 1.0)))


def found(num_tokens: int, *media: MediaReceipt, context: int = 8_192, ttft_ms: float | None = None) -> Preflight:
    return Preflight(tuple(range(num_tokens)), context, media, ttft_ms=ttft_ms)


def test_a_picture_is_told_by_its_tokens_and_what_is_left():
    told = line(Request(), found(1_024, PICTURE, ttft_ms=480.0), [[PICTURE]])
    assert told["words"] == "picture 1,024 tokens · 7,168 left"
    assert told["more"] == "first token in about 480 ms"
    assert (told["state"], told["can_fit"]) == ("fits", False)


def test_of_a_longer_chat_only_the_new_media_are_named():
    assert line(Request(), found(6_000, CLIP, PICTURE), [[PICTURE]])["words"] == "picture 1,024 tokens · 2,192 left"
    assert (
        line(Request(), found(6_000, CLIP, PICTURE), [[CLIP], [PICTURE]])["words"]
        == "1 clip, 1 picture 4,024 tokens · 2,192 left"
    )
    assert line(Request(), found(6_000, CLIP, PICTURE), [])["words"] == "6,000 tokens · 2,192 left"


def test_it_says_before_sending_that_it_does_not_fit():
    told = line(Request(), found(9_000, PICTURE, ttft_ms=480.0), [[PICTURE]])
    assert told["state"] == "over"
    assert not told["more"], "what is refused has no first token"
    assert told["can_fit"]
    assert "does not fit: 9,000 tokens in a context of 8,192" in told["words"]
    asked = line(Request(max_tokens=500), found(8_000, PICTURE), [[PICTURE]])
    assert asked["state"] == "over"
    assert "192 left, but 500 are asked for" in asked["words"]
    assert not line(Request(), found(9_000), [])["can_fit"], "words alone cannot be made smaller"


def test_what_memory_has_no_room_for_can_be_made_smaller_where_it_has_media():
    error = MemoryExceeded("It does not fit into memory.")
    for cost, can_fit in ((None, False), (found(40), False), (found(40, PICTURE), True)):
        error.cost = cost
        assert refused(error) == {"words": error.message, "state": "over", "can_fit": can_fit}


def test_a_clip_says_its_frames_and_each_file_its_tokens():
    assert line(Request(), found(3_100, CLIP), [[CLIP]])["words"] == "clip 3,000 tokens in 2 frames · 5,092 left"
    assert line(Request(), found(6_000, CLIP, PICTURE), [[CLIP], [PICTURE, PICTURE]])["files"] == [3_000, 2_048]


def test_little_room_for_an_answer_is_told_too():
    told = line(Request(), found(8_000, PICTURE), [[PICTURE]])
    assert (told["state"], told["can_fit"]) == ("tight", True)


def test_a_fitted_file_is_sent_as_it_was_fitted():
    entries = (*user_entries("What?", ["/up/a.png", "/up/b.mp4"]), ChatEntry("assistant", "note", "9 out"))
    request = to_request(entries, ChatSettings())
    small = [
        replace(part, max_pixels=64, frames=FrameSampling(max_frames=2)) if part.kind != "text" else part
        for part in request.messages[0].parts
    ]
    fitted = fitted_entries(entries, replace(request, messages=(Message("user", tuple(small)),)))
    assert to_request(fitted, ChatSettings()).messages[0].parts == tuple(small)
    by_path = {entry.path: entry.part for entry in fitted if entry.path and entry.part}
    assert user_entries("What?", ["/up/a.png", "/up/b.mp4"], by_path) == fitted[:3]
    assert user_entries("", ["/up/c.png"], by_path) == (ChatEntry("user", "image", path="/up/c.png"),)


def test_a_file_nobody_fitted_is_sent_as_it_comes():
    request = to_request(user_entries("", ["/up/a.png"]), ChatSettings())
    assert request.messages[0].parts == (Part("image", path="/up/a.png", param="a.png"),)


def test_a_document_counts_with_all_of_its_pages():
    page = replace(PICTURE, param="a.pdf")
    draft = (ChatEntry("user", "image", path="x/b.png"), ChatEntry("user", "document", path="x/a.pdf"))
    assert num_receipts(draft, found(9, PICTURE, PICTURE, page, page, page).media) == 4
    assert num_receipts(draft[1:], found(9, PICTURE).media) == 0, "a text has no receipt"
    assert num_receipts(draft[1:], found(9, page).media) == 1
    assert num_receipts((ChatEntry("user", "text", "?"),), found(9, page).media) == 0
