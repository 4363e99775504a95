"""Events to OpenAI's JSON."""

from __future__ import annotations

from engine.api.answers import ChatAnswer, Envelope, TextAnswer
from engine.types import Completion, Delta, Done, MediaReceipt, Timing, Usage

ENVELOPE = Envelope("id-1", 1700000000, "demo", "mlx-0-cpu")
CLIP = MediaReceipt("video", 1234, (640, 480), (320, 224), 140, "ab" * 32, ((0, 0.0), (15, 0.5)), 1.23456, 7.0)
DONE = Done("stop", Usage(150, 4, cached_tokens=64), Timing(), (CLIP,))
DELTAS = [Delta("Let me ", "reasoning"), Delta("see.", "reasoning"), Delta("A red "), Delta("circle")]
HEAD = {"id": "id-1", "created": 1700000000, "model": "demo", "system_fingerprint": "mlx-0-cpu"}


def test_a_whole_chat_answer() -> None:
    answer = ChatAnswer(ENVELOPE).whole(Completion.of(DELTAS, DONE))
    assert answer.items() >= {**HEAD, "object": "chat.completion"}.items()
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "stop" and choice["index"] == 0 and choice["logprobs"] is None
    assert choice["message"]["content"] == "A red circle"
    assert choice["message"]["reasoning_content"] == "Let me see."


def test_no_reasoning_field_without_reasoning() -> None:
    message = ChatAnswer(ENVELOPE).whole(Completion.of([Delta("hi")], DONE))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "hi", "refusal": None}


def test_usage_and_receipts() -> None:
    usage = ChatAnswer(ENVELOPE).whole(Completion.of(DELTAS, DONE))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (150, 4, 154)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 64}
    (receipt,) = usage["media"]
    assert receipt["kind"] == "video" and receipt["bytes"] == 1234 and receipt["tokens"] == 140
    assert receipt["decoded"] == [640, 480] and receipt["seen"] == [320, 224] and receipt["sha256"] == "ab" * 32
    assert receipt["frames"] == [{"index": 0, "time": 0.0}, {"index": 15, "time": 0.5}]


def test_chat_chunks() -> None:
    answer = ChatAnswer(ENVELOPE)
    assert answer.opening()["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert answer.piece(DELTAS[0])["choices"][0]["delta"] == {"reasoning_content": "Let me "}
    piece = answer.piece(DELTAS[2])
    assert piece.items() >= {**HEAD, "object": "chat.completion.chunk"}.items()
    assert piece["choices"][0]["delta"] == {"content": "A red "} and piece["choices"][0]["finish_reason"] is None
    ending = answer.ending(DONE)["choices"][0]
    assert ending["delta"] == {} and ending["finish_reason"] == "stop"
    usage = answer.usage(DONE)
    assert usage["choices"] == [] and usage["usage"]["total_tokens"] == 154


def test_text_answers() -> None:
    answer = TextAnswer(ENVELOPE)
    whole = answer.whole(Completion.of([Delta("a"), Delta("b")], DONE))
    assert whole.items() >= {**HEAD, "object": "text_completion"}.items()
    assert whole["choices"][0]["text"] == "ab" and whole["choices"][0]["finish_reason"] == "stop"
    assert answer.opening() is None
    assert answer.piece(Delta("x"))["choices"][0]["text"] == "x"
    assert answer.ending(DONE)["choices"][0] == {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
