"""workbench.video.sheet: what the Video tab asks and draws."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import BadRequest
from engine.types import FrameSampling, MediaReceipt, Preflight
from tests.pictures import encode, numbered_frames, picture
from workbench.video import sheet

FRAMES = ((0, 0.0), (4, 0.5), (9, 1.25), (12, 1.5))
CLIP = MediaReceipt("video", 900, (320, 240), (64, 48), 24, "ab", FRAMES, duration_s=2.0)
FOUND = Preflight(tuple(range(40)), 100, (CLIP,), cached_tokens=4, ttft_ms=250.0)


def test_fields_of_the_page_become_a_sampling():
    asked = {"fps": "1,5", "max_frames": "8", "start_s": "", "end_s": "3", "max_pixels": "50000", "path": "x"}
    assert sheet.sampling(asked) == FrameSampling(fps=1.5, max_frames=8, end_s=3.0, max_pixels=50_000)
    assert sheet.sampling({"indices": [1, 2]}) == FrameSampling(indices=(1, 2))
    assert sheet.sampling({}) == FrameSampling()


@pytest.mark.parametrize(("name", "text"), [("fps", "0"), ("max_frames", "many"), ("end_s", "-1"), ("start_s", "-1")])
def test_a_field_that_is_no_such_number_is_refused_in_words(name, text):
    with pytest.raises(BadRequest, match=f"“{text}” is not"):
        sheet.sampling({name: text})


def test_what_shows_nothing_new_is_found_whatever_noise_it_has():
    moving = [sheet.thumbnail(encode(frame)) for frame in numbered_frames(4)]
    assert sheet.repeats(moving) == [False] * 4
    still = sheet.thumbnail(encode(picture("red")))
    noisy = sheet.thumbnail(encode(picture("red").convert("RGB", dither=None).quantize(64).convert("RGB")))
    assert sheet.repeats([still, noisy, still]) == [False, True, True]
    assert sheet.repeats([still, moving[0], still]) == [False, False, False], "back again is something new"


def test_a_slow_change_is_not_lost_in_small_steps():
    """Against the last frame that was new, not against the one before."""
    steps = [sheet.thumbnail(encode(picture((100 + 8 * i, 30, 30)))) for i in range(12)]
    assert 2 <= sheet.repeats(steps).count(False) <= 6


def test_folding_keeps_what_is_new_in_an_even_number():
    assert sheet.distinct((0, 4, 9, 12), [False, False, True, True]) == (0, 4)
    assert sheet.distinct((0, 4, 9, 12), [False, True, True, True]) == (0, 12)
    assert sheet.distinct((0, 4, 9, 12), [False, True, False, False]) == (0, 4, 9, 12)
    assert sheet.distinct((3, 3), [False, True]) == (3,), "a clip of one frame has no other"


def test_stretches_that_show_nothing_new_are_told_by_their_times():
    assert sheet.still(FRAMES, [False, True, True, False]) == [(0.0, 1.25)]
    assert sheet.still(FRAMES, [False, True, False, True]) == [(0.0, 0.5), (1.25, 1.5)]
    assert sheet.still(FRAMES, [False] * 4) == []


def test_pairs_are_left_out_in_turn():
    assert sheet.without_each_pair((0, 4, 9, 12)) == [(9, 12), (0, 4)]
    assert sheet.without_each_pair((0, 4, 9)) == [(9,), (0, 4)]
    assert sheet.without_each_pair((0, 4)) == []


def test_frames_that_stay_keep_their_size():
    assert sheet.same_size((0, 4), (64, 48)) == FrameSampling(indices=(0, 4), max_pixels=6_205)
    assert sheet.same_size((0, 4, 9), (64, 48)).max_pixels == 12_410, "an odd last frame counts twice"
    assert sheet.same_size((0, 4), (0, 0)).max_pixels is None


def test_the_sheet_says_what_the_engine_said():
    drawn = sheet.sheet(FOUND, [False, True, False, False], ["a", "b", "c", "d"])
    assert [(f["index"], f["time"], f["same"]) for f in drawn["frames"]] == [
        (index, time_s, index == 4) for index, time_s in FRAMES
    ]
    told = {number["name"]: (number["number"], number["words"]) for number in drawn["numbers"]}
    assert told == {
        "Frames": ("4", "of 2 s"),
        "Each seen as": ("64 × 48", "of 320 × 240 pixels"),
        "Tokens": ("24", "6 for each frame"),
        "Prompt": ("40", "tokens, 4 cached; 60 left"),
        "First token": ("about 250 ms", "at the speed measured here"),
    }
    assert drawn["gaps"] == "The longest gap between two frames is 0.75 s. 1 frame shows nothing new."
    assert sheet.gaps(CLIP, 3, 0).endswith("3 frames that showed nothing new were skipped.")


def test_a_speed_that_was_not_measured_is_not_guessed():
    (first,) = (n for n in sheet.numbers(Preflight((1,), 9, (CLIP,))) if n["name"] == "First token")
    assert (first["number"], first["words"]) == ("–", "told once estimates have held here")


def test_the_rate_is_said_as_it_is_taken():
    even = tuple((index, index * 0.5) for index in range(6))
    assert sheet.rate(replace(CLIP, frames=even), FrameSampling()) == "6 frames, one every 0.5 s: 2 a second."
    assert sheet.rate(CLIP, FrameSampling()) == "4 frames at uneven times, 0.5 s apart on average."
    assert sheet.rate(replace(CLIP, frames=((0, 0.0), (0, 0.0))), FrameSampling()) == "One frame is taken."


def test_a_rate_that_is_not_what_was_asked_for_says_why():
    even = replace(CLIP, frames=tuple((index, index * 0.5) for index in range(6)))
    limited = sheet.rate(even, FrameSampling(fps=8.0, max_frames=6))
    assert limited.endswith("2 a second. Asked for: 8 a second, but no more than 6 frames may go in.")
    assert sheet.rate(even, FrameSampling(fps=8.0)).endswith("Asked for: 8 a second, but the clip has no more.")
    assert sheet.rate(even, FrameSampling(fps=8.0, indices=(1, 2))).endswith("2 a second."), "those that were named"
