"""workbench.cache.strips: ended requests as prompt strips, and why a prompt was not reused further."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.access.visibility import Caller
from engine.types import CacheTrace, Done, MediaReceipt, Record, Replay, Timing, Usage
from engine.types.prompt import MEDIUM
from workbench.cache.strips import MAX_STRIPS, explain, plain, strip, strips, verdict

OPERATOR, VISITOR = Caller(), Caller("page-1", operator=False)
PICTURE = MediaReceipt("image", 900, (256, 256), (256, 256), 16, "a1" * 32)
TRACE = CacheTrace(20, 12, "diverged", before="user ▣", here="What color is it?", other=" is")
DONE = Done("stop", Usage(32, 5, 20), Timing(ttft_ms=41.2, completion_tokens=5), (PICTURE,), TRACE)
RECORD = Record("r1", "chat", "page-1", 1000.0, DONE, ((3, 19),), tenant="page-1")
REPLAY = Replay("r1", (5, 6, 7), (5, 6, 7), "red", "red", 12.4, 1234.0, 32, 20)


def runs(shown: dict) -> list[tuple[int, str, bool]]:
    return [(part["tokens"], part["how"], part["medium"] is not None) for part in shown["segments"]]


def test_a_follow_up_question_picture_reused_question_computed():
    shown = strip(RECORD, OPERATOR)
    assert runs(shown) == [(3, "reused", False), (16, "reused", True), (1, "reused", False), (12, "computed", False)]
    assert [part["words"] for part in shown["segments"]] == ["", "", "", "What color is it?…"]
    assert shown["segments"][1]["title"] == "picture: 16 tokens reused"
    assert shown["words"] == "20 of 32 tokens reused · first token 41 ms"
    assert "‘What color is it?’" in shown["why"] and "‘is’" in shown["why"]


@pytest.mark.parametrize("reused", range(33))
@pytest.mark.parametrize("from_disk", [0, 7])
def test_segments_are_the_whole_prompt_and_as_much_of_it_reused_as_usage_says(reused, from_disk):
    from_disk = min(from_disk, reused)
    trace = replace(TRACE, reused_tokens=reused, computed_tokens=32 - reused, disk_tokens=from_disk)
    done = replace(DONE, usage=Usage(32, 5, reused), trace=trace)
    parts = runs(strip(replace(RECORD, done=done), OPERATOR))
    tokens = {how: sum(n for n, h, _ in parts if h == how) for how in ("reused", "disk", "computed")}
    assert tokens == {"reused": reused - from_disk, "disk": from_disk, "computed": 32 - reused}
    assert sum(n for n, _, medium in parts if medium) == PICTURE.tokens
    assert all(n > 0 for n, _, _ in parts)


def test_a_stranger_sees_sizes_and_no_word():
    shown = strip(RECORD, Caller("page-2", operator=False))
    assert runs(shown) == [(20, "reused", False), (12, "computed", False)]
    assert shown["source"] == "Another visitor" and shown["words"].startswith("20 of 32")
    assert not shown["checkable"]
    for secret in ("color", "r1", PICTURE.sha256, "is’", "page-1"):
        assert secret not in repr(shown)


def test_the_twin_an_operator_sees_the_words():
    """So that the test above would see a leak."""
    assert all(secret in repr(strip(RECORD, OPERATOR)) for secret in ("color", "r1", PICTURE.sha256, "is’"))


def test_a_visitor_sees_what_their_own_page_sent():
    assert strip(RECORD, VISITOR) == strip(RECORD, OPERATOR)
    assert strip(replace(RECORD, tenant=""), Caller("", operator=False))["source"] == "Another visitor"


def test_latest_first_and_not_too_many_and_no_replays():
    records = [replace(RECORD, id=f"r{i}", source="replay" if i == 1 else "api") for i in range(40)]
    shown = strips(records, OPERATOR, {"r2": {"lamp": "green"}})
    assert [one["key"] for one in shown] == ["r0", *(f"r{i}" for i in range(2, MAX_STRIPS + 1))]
    assert [one["verdict"] for one in shown[:3]] == [None, {"lamp": "green"}, None]


def test_only_what_was_reused_can_be_checked():
    assert strip(RECORD, OPERATOR)["checkable"]
    assert not strip(replace(RECORD, done=replace(DONE, usage=Usage(32, 5))), OPERATOR)["checkable"]


def test_a_prompt_that_was_never_read():
    record = replace(RECORD, done=replace(DONE, usage=Usage(0, 0), media=(), trace=None), spans=(), error="bad_media")
    shown = strip(record, OPERATOR)
    assert (shown["words"], shown["ended"], shown["segments"]) == ("its prompt was not read", "failed", [])
    assert shown["why"] == "It ended before its prompt was read."
    assert strip(replace(RECORD, done=replace(DONE, finish_reason="cancelled")), OPERATOR)["ended"] == "stopped"


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (CacheTrace(0, 9, "first_use"), "First time this was seen"),
        (CacheTrace(5, 4, "first_use", before="Hello", here="there"), "‘there’, was not stored yet"),
        (CacheTrace(5, 4, "evicted", before="Hello", evicted_s=300), "evicted 5 min earlier"),
        (CacheTrace(5, 4, "evicted", before="Hello", evicted_s=8), "evicted 8 s earlier"),
        (CacheTrace(4, 9, "diverged", before="", here="a", other="b"), "with which every chat opens"),
        (CacheTrace(5, 4, "diverged", before="user", here=MEDIUM, other="<other media>"), "another picture or clip"),
        (CacheTrace(5, 4, "diverged", before="Hello", here="a"), "have something else"),
        (CacheTrace(5, 4, "diverged", before="Hello", here="<|im_end|>\n", other="b"), "the end of a turn"),
        (CacheTrace(5, 4, "inside_media", before="Hello"), "read as a whole"),
        (CacheTrace(5, 4, "between_snapshots", before="Hello"), "a few points"),
        (CacheTrace(8, 1, "complete"), "last token is always computed"),
        (CacheTrace(0, 9, "not_cacheable"), "could not be recognised"),
        (CacheTrace(0, 9, "off"), "switched off"),
        (CacheTrace(0, 9, "cold"), "asked to be computed in full"),
    ],
)
def test_every_reason_has_its_sentence(trace, words):
    assert words in explain(trace)


@pytest.mark.parametrize("here", ["<", "<|vision_start|>▣", "▣", "<|im_end|>\n", "<0.3 seconds>"])
def test_what_is_no_text_is_not_written_on_the_strip(here):
    shown = strip(replace(RECORD, done=replace(DONE, trace=replace(TRACE, here=here))), OPERATOR)
    assert {part["words"] for part in shown["segments"]} == {""}


def test_the_format_of_the_chat_is_not_shown():
    assert plain("<|im_start|>user\nHi  there<|im_end|>\n<|im_start|>assistant\n") == "Hi there"
    assert plain("<start_of_turn>model\nHi") == "Hi"
    assert plain("a < b and <b>bold</b>") == "a < b and bold</b>"


def test_a_green_lamp_says_how_much_was_compared():
    said = verdict(REPLAY)
    assert said["lamp"] == "green" and said["sides"] == []
    assert "3 compared" in said["words"] and "20 of 32 prompt tokens" in said["words"]
    assert "12 ms with the cache, 1.23 s without" in said["words"]


def test_a_red_lamp_shows_both_sides():
    said = verdict(replace(REPLAY, warm_tokens=(5, 9, 7), warm_text="blue"))
    assert said["lamp"] == "red" and "from token 2 on" in said["words"]
    assert [side["text"] for side in said["sides"]] == ["blue", "red"]


def test_an_answer_that_ends_early_is_a_difference():
    assert "from token 3 on" in verdict(replace(REPLAY, warm_tokens=(5, 6)))["words"]


def test_a_near_tie_is_neither():
    tie = replace(REPLAY, warm_tokens=(5, 9, 7), margins=((1.0, 1.0), (0.001, 0.0), (1.0, 1.0)), rounding=0.002)
    said = verdict(tie)
    assert said["lamp"] == "even" and "at token 2" in said["words"] and len(said["sides"]) == 2
    assert verdict(replace(tie, rounding=0.0))["lamp"] == "red"


def test_nothing_reused_is_nothing_compared():
    assert verdict(replace(REPLAY, reused_tokens=0))["lamp"] == "unknown"
