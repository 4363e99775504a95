"""Two answers to one request: what differs between them, in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.types import Json

_SHOWN_CHARS = 60


def choices(answer: Json, path: str) -> list[Json]:
    """The choices of a server's answer as the log has them."""
    found = []
    for choice in answer.get("choices") or ():
        message = choice.get("message") or {} if path == "/chat/completions" else {}
        calls = [call["function"] for call in message.get("tool_calls") or ()]
        text = (message.get("content") if message else choice.get("text")) or ""
        found.append({"text": text, "finish_reason": choice.get("finish_reason"), "tool_calls": calls})
    return found


def differences(before: Sequence[Json], now: Sequence[Json]) -> list[str]:
    """Of the choices of two answers, as the log has them; none where they are the same."""
    if len(before) != len(now):
        return [f"choices: there were {len(before)}, now there are {len(now)}"]
    found = []
    for place, (one, other) in enumerate(zip(before, now, strict=True)):
        where = f"choice {place}, " if len(now) > 1 else ""
        found += [f"{where}{words}" for words in _of_choice(one, other)]
    return found


def _of_choice(one: Json, other: Json) -> Iterator[str]:
    if one["text"] != other["text"]:
        place = _first_difference(one["text"], other["text"])
        before, after = (repr(choice["text"][place : place + _SHOWN_CHARS]) for choice in (one, other))
        yield f"text: from character {place} on it was {before}, now it is {after}"
    if one["finish_reason"] != other["finish_reason"]:
        yield f"finish_reason: it was {one['finish_reason']}, now it is {other['finish_reason']}"
    if (was := _calls(one)) != (now := _calls(other)):
        yield f"tool_calls: they were {was}, now they are {now}"


def _calls(choice: Json) -> list[tuple[str, str]]:
    return [(call["name"], call["arguments"]) for call in choice["tool_calls"]]


def _first_difference(one: str, other: str) -> int:
    same = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return next(same, min(len(one), len(other)))
