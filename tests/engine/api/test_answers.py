"""Events to OpenAI's JSON."""

from __future__ import annotations

from engine.api.answering.envelope import Envelope
from engine.api.answering.logprobs import LEAST, LogprobsWriter
from engine.api.chat.answers import ChatAnswer
from engine.types import Completion, Delta, Done, GeneratedToken, MediaReceipt, Timing, TokenText, Usage

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
    (opening,) = answer.opening()
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    (thought,) = answer.pieces(DELTAS[0])
    assert thought["choices"][0]["delta"] == {"reasoning_content": "Let me "}
    (piece,) = answer.pieces(DELTAS[2])
    assert piece.items() >= {**HEAD, "object": "chat.completion.chunk"}.items()
    assert piece["choices"][0]["delta"] == {"content": "A red "} and piece["choices"][0]["finish_reason"] is None
    last, ending = (chunk["choices"][0] for chunk in answer.pieces(Delta(".", index=1, finish_reason="stop")))
    assert last["delta"] == {"content": "."} and last["finish_reason"] is None
    assert ending["delta"] == {} and ending["finish_reason"] == "stop" and ending["index"] == last["index"] == 1
    usage = answer.usage(DONE)
    assert usage["choices"] == [] and usage["usage"]["total_tokens"] == 154


def test_choices_by_their_index() -> None:
    deltas = [Delta("a", index=1, finish_reason="length"), Delta("b"), Delta("c", finish_reason="stop")]
    choices = ChatAnswer(ENVELOPE, n=2).whole(Completion.of(deltas, DONE))["choices"]
    assert [(c["index"], c["message"]["content"], c["finish_reason"]) for c in choices] == [
        (0, "bc", "stop"),
        (1, "a", "length"),
    ]
    assert [chunk["choices"][0]["index"] for chunk in ChatAnswer(ENVELOPE, n=2).opening()] == [0, 1]


# -- log-probabilities -------------------------------------------------------------------------------------------------

WORDS = {1: b"A ", 2: b"r\xc3", 3: b"\xa9d", 4: b" dot. E", 5: b"nd"}


def token_text(id: int) -> TokenText:
    raw = WORDS.get(id)
    return TokenText("<end>" if raw is None else raw.decode(errors="replace"), raw)


def generated(*ids: int) -> tuple[GeneratedToken, ...]:
    return tuple(GeneratedToken(id, -0.5 * id, ((id, -0.5 * id), (9, float("-inf")))) for id in ids)


LOGGED = [
    Delta("Hm. ", "reasoning", generated(5)),
    Delta("A ", tokens=generated(1, 2)),  # half a character waits
    Delta("réd", tokens=generated(3)),
    Delta(" dot.", tokens=generated(4, 5, 9), finish_reason="stop"),  # cut at a stop text, then an end
]


def test_log_probabilities_are_those_of_the_text() -> None:
    whole = ChatAnswer(ENVELOPE, logprobs=LogprobsWriter(token_text)).whole(Completion.of(LOGGED, DONE))
    content = whole["choices"][0]["logprobs"]["content"]
    assert [entry["logprob"] for entry in content] == [-0.5, -1.0, -1.5, -2.0], "no reasoning, nothing behind the cut"
    assert b"".join(bytes(entry["bytes"]) for entry in content) == "A réd dot. E".encode()
    assert content[1]["token"] == "r\ufffd" and content[1]["bytes"] == [0x72, 0xC3]
    assert content[0]["top_logprobs"] == [
        {"token": "A ", "logprob": -0.5, "bytes": [65, 32]},
        {"token": "<end>", "logprob": LEAST, "bytes": None},
    ]


def test_log_probabilities_in_pieces_are_the_same() -> None:
    whole = ChatAnswer(ENVELOPE, logprobs=LogprobsWriter(token_text)).whole(Completion.of(LOGGED, DONE))
    answer = ChatAnswer(ENVELOPE, logprobs=LogprobsWriter(token_text))
    chunks = [chunk["choices"][0] for delta in LOGGED for chunk in answer.pieces(delta)]
    pieces = [entry for chunk in chunks if chunk["logprobs"] for entry in chunk["logprobs"]["content"]]
    assert pieces == whole["choices"][0]["logprobs"]["content"]
    assert ChatAnswer(ENVELOPE).pieces(LOGGED[1])[0]["choices"][0]["logprobs"] is None
