"""workbench.chat.parts: what an answer of several requests cost as a whole; and how the rest of one is asked for."""

from __future__ import annotations

from dataclasses import replace

from engine.types import Done, FeatureUse, MediaReceipt, Timing, Usage
from workbench.chat import parts, turns
from workbench.chat.convert import ChatSettings
from workbench.conversations.types import EndedPart, Turn

PICTURE = MediaReceipt(
    "image", 9, (8, 8), (8, 8), 12, "ab" * 32, decode_ms=2, encode_ms=30, features=FeatureUse(0, 1), param="cat.png"
)
REUSED = replace(PICTURE, decode_ms=1, encode_ms=0, features=FeatureUse())
FIRST = Done(
    "length",
    Usage(100, 11, 64),
    Timing(ttft_ms=40, prefill_ms=30, decode_ms=100, total_ms=140, completion_tokens=11, prompt_tokens=100),
    media=(PICTURE,),
)
SECOND = Done(
    "stop",
    Usage(111, 6, 110),
    Timing(ttft_ms=8, prefill_ms=5, decode_ms=50, total_ms=58, completion_tokens=6, prompt_tokens=111),
    media=(REUSED,),
)
CUT = Turn("a", "assistant", "q", "One two \n", "Hm.", done=FIRST, reasoning_s=1.5, settings={"max_tokens": "11"})
QUESTION = Turn("q", "user", None, "Count.")


def path_of(attachment):
    return "/" + attachment.name


def test_usage_and_times_add_up_and_the_first_token_is_the_firsts():
    whole = parts.summed([FIRST, SECOND])
    assert whole.usage == Usage(211, 17, 174)
    assert (whole.timing.ttft_ms, whole.timing.decode_ms, whole.timing.total_ms) == (40, 150, 198)
    assert whole.timing.decode_tps == 1000 * (10 + 5) / 150  # steps between tokens: no step leads from one to the next
    assert whole.finish_reason == "stop"


def test_the_line_says_of_how_many_requests_it_is():
    turn = replace(CUT, done=SECOND, earlier=CUT.ended_parts)
    assert parts.cost_note(turn) == (
        "211 tokens in (174 from cache) · 17 out in 2 parts · first token 40 ms · 100 tokens/s"
    )
    assert parts.cost_note(CUT).endswith("11 out · first token 40 ms · 100 tokens/s · length limit reached")


def test_where_a_request_was_stopped_only_the_tokens_are_known():
    after_a_stop = replace(CUT, earlier=(EndedPart(7),))
    assert parts.cost_note(after_a_stop) == "18 out in 2 parts · length limit reached"
    stopped = replace(CUT, state="stopped", done=None, num_tokens=3, earlier=CUT.ended_parts)
    assert parts.cost_note(stopped) == "14 out in 2 parts · stopped"
    assert parts.receipts_of(stopped) == ()


def test_a_receipt_has_the_work_of_all_requests():
    (receipt,) = parts.receipts_of(replace(CUT, done=SECOND, earlier=CUT.ended_parts))
    assert (receipt.tokens, receipt.decode_ms, receipt.encode_ms, receipt.features) == (12, 3, 30, FeatureUse(0, 1))
    again = replace(SECOND, media=(replace(PICTURE, encode_ms=20),))  # the cache had forgotten it
    (receipt,) = parts.receipts_of(replace(CUT, done=again, earlier=CUT.ended_parts))
    assert (receipt.encode_ms, receipt.features) == (50, FeatureUse(0, 2))


def test_receipts_of_other_media_are_not_added():
    other = replace(SECOND, media=(replace(REUSED, sha256="cd" * 32),))
    assert parts.summed([FIRST, other]).media == other.media


def test_which_answers_can_be_continued():
    assert CUT.can_continue
    for state in ("stopped", "cut_off", "failed"):
        assert replace(CUT, state=state, done=None).can_continue
    assert not replace(CUT, done=SECOND).can_continue
    assert not replace(CUT, text=" ").can_continue
    assert not replace(CUT, state="writing").can_continue
    assert not QUESTION.can_continue


def test_the_page_is_told_of_how_many_requests_an_answer_is_made():
    assert turns.entries(CUT, path_of)[-1].num_parts == 1
    longer = replace(CUT, earlier=CUT.ended_parts)
    last = turns.entries(longer, path_of)[-1]
    assert (last.num_parts, last.request.id) == (2, "chat-a.2")
    assert turns.turn_of_request(last.request.id) == "a"
    assert turns.entries(replace(CUT, done=SECOND), path_of)[-1].num_parts == 0


def test_the_rest_is_asked_for_with_what_is_written():
    longer = turns.written_on(CUT, "b", {"max_tokens": "5"})
    assert (longer.id, longer.text, longer.state, longer.done) == ("b", "One two", "writing", None)
    assert (longer.earlier, longer.settings) == ((EndedPart(11, FIRST),), {"max_tokens": "5"})
    request = turns.request_to_go_on(longer, [QUESTION], path_of, ChatSettings(max_tokens=5))
    assert [(message.role, message.parts[0].text) for message in request.messages] == [
        ("user", "Count."),
        ("assistant", "One two"),
    ]
    assert (request.messages[-1].reasoning, request.continue_final_message) == ("Hm.", True)
    assert (request.id, request.max_tokens) == ("chat-b.2", 5)
