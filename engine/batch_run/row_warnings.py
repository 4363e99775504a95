"""What in an answer a person should look at: fluent answers about nothing, answers cut off, JSON that is none. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from engine.types import Json

LONG_ANSWER_CHARS = 60
"""Two pictures may well both be "a red circle"; not both in the same three lines."""

SAME_ANSWER = "the same long answer as for another picture"
NO_TOKENS = "the model saw nothing of a medium"
CUT_OFF = "the answer was cut off"
NOT_JSON = "the answer is not valid JSON"
SHRUNK = "a picture was shrunk below half its size"


def warnings_of(record: Json) -> list[str]:
    """What one record says by itself; [] for a failure, whose reason stands there."""
    if record.get("error") is not None:
        return []
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


def same_answers(records: Iterable[Json]) -> set[str]:
    """Keys of records that have a long answer in common though they are about other media."""
    keys: defaultdict[str, list[str]] = defaultdict(list)
    media: defaultdict[str, set[tuple[str, ...]]] = defaultdict(set)
    for record in records:
        answer = " ".join(str(record.get("answer", "")).split())
        seen = tuple(one["sha256"] for one in record.get("media", []))
        if record.get("error") is None and "decisions" not in record and seen and len(answer) >= LONG_ANSWER_CHARS:
            keys[answer].append(record["key"])
            media[answer].add(seen)
    return {key for answer, found in keys.items() if len(media[answer]) > 1 for key in found}
