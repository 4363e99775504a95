"""What in an answer a person should look at: fluent answers about nothing, answers cut off, JSON that is none. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict

from engine.types import Json

LONG_ANSWER_CHARS = 60
"""Two pictures may well both be "a red circle"; not both in the same three lines."""

SAME_ANSWER = "the same long answer as for another picture"
NO_TOKENS = "the model saw nothing of a medium"
CUT_OFF = "the answer was cut off"
NOT_JSON = "the answer is not valid JSON"
SHRUNK = "a picture was shrunk below half its size"


def warnings_of(record: Json) -> list[str]:
    """What one record says by itself; [] for a failure, whose reason stands there. At an answer that a person has
    written somebody has looked: only that it is no JSON is said."""
    if record.get("error") is not None:
        return []
    if record.get("edited"):
        return [NOT_JSON] if record.get("valid") is False else []
    media = record.get("media", [])
    found = []
    if any(not one["tokens"] for one in media) or (record["medium"] and not media and not record["described"]):
        found.append(NO_TOKENS)
    if record["finish_reason"] == "length":
        found.append(CUT_OFF)
    if record.get("valid") is False:
        found.append(NOT_JSON)
    if record["medium"] != "document" and any(_is_shrunk(one) for one in media):  # a page has no size of its own
        found.append(SHRUNK)
    return found


def _is_shrunk(receipt: Json) -> bool:
    """By its sides; of a clip too, each of whose frames is a picture."""
    sides = zip(receipt["seen"], receipt["decoded"], strict=True)
    return any(2 * seen < decoded for seen, decoded in sides)


class SameAnswers:
    """Long answers that records about different media have in common. Grows with each record; one loop."""

    def __init__(self) -> None:
        self._by_key: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._media: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)

    def note(self, record: Json) -> None:
        """A record, which takes the place of the one that its key had."""
        key = record["key"]
        if key in self._by_key:
            before, media = self._by_key.pop(key)
            self._media[before] -= Counter([media])
        answer = " ".join(str(record.get("answer", "")).split())
        seen = tuple(one["sha256"] for one in record.get("media", []))
        is_whole = record.get("error") is None and "decisions" not in record and not record.get("edited")
        if is_whole and seen and len(answer) >= LONG_ANSWER_CHARS:
            self._by_key[key] = answer, seen
            self._media[answer][seen] += 1

    def has(self, key: str) -> bool:
        """Whether the answer of this record is another picture's, too."""
        return key in self._by_key and len(self._media[self._by_key[key][0]]) > 1


def all_warnings(record: Json, same: SameAnswers) -> list[str]:
    """What a record says by itself and beside the others."""
    return [*([SAME_ANSWER] if same.has(record["key"]) else []), *warnings_of(record)]
