"""Turns, drafts and media <-> JSON, as the file of conversations and the exports have them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from engine.types import (
    Crop,
    Description,
    Done,
    FeatureUse,
    FrameSampling,
    Json,
    MediaReceipt,
    PageChoice,
    Part,
    Region,
    ServedBy,
    Timing,
    Usage,
)
from workbench.conversations.types import Attachment, Draft, EndedPart, Turn, WrittenToken

_PLAIN_FIELDS = ("detail", "max_pixels", "min_pixels", "animated", "label", "description")
_SIZES = ("exact_px", "crop_px")
_PART_FIELDS = (*_PLAIN_FIELDS, *_SIZES, "frames", "document")


def part_json(part: Part) -> Json:
    """How a medium is sent, without the file that it is in."""
    return {name: value for name, value in asdict(part).items() if name in _PART_FIELDS and value is not None}


def part_from_json(part: Json, kind: Any, path: str, param: str) -> Part:
    frames = FrameSampling(**_tuples(part["frames"])) if part.get("frames") else None
    document = PageChoice(**part["document"]) if part.get("document") else None
    plain = {name: part[name] for name in _PLAIN_FIELDS if name in part}
    sizes = {name: _tuple(part[name]) for name in _SIZES if part.get(name)}
    return Part(kind, path=path, frames=frames, document=document, param=param, **plain, **sizes)


def done_json(done: Done) -> Json:
    """Usage, times, receipts and descriptions. Not the cache's trace: it tells of what was stored then."""
    return {
        "finish_reason": done.finish_reason,
        "usage": asdict(done.usage),
        "timing": asdict(done.timing),
        "media": [asdict(receipt) for receipt in done.media],
        "descriptions": [asdict(one) for one in done.descriptions],
        **({"served_by": asdict(done.served_by)} if done.served_by else {}),
    }


def done_from_json(done: Json) -> Done:
    return Done(
        finish_reason=done["finish_reason"],
        usage=_known(Usage, done["usage"]),
        timing=_known(Timing, done["timing"]),
        media=tuple(_receipt(receipt) for receipt in done.get("media", ())),
        descriptions=tuple(_known(Description, one) for one in done.get("descriptions", ())),
        served_by=_known(ServedBy, done["served_by"]) if done.get("served_by") else None,
    )


def ended_part_json(part: EndedPart) -> Json:
    return {"num_tokens": part.num_tokens, "done": done_json(part.done) if part.done else None}


def ended_part_from_json(part: Json) -> EndedPart:
    return EndedPart(part["num_tokens"], done_from_json(part["done"]) if part["done"] else None)


def column_text(turn: Turn) -> str:
    """What stands in a turn's own column for text: of an answer that is being written nothing yet."""
    return "" if turn.state == "writing" else turn.text


def body_of(turn: Turn) -> str:
    """What of a turn has no column of its own. An answer's text gets its column, and with it search, at its end."""
    body: Json = {
        "written": turn.text if turn.state == "writing" else "",
        "reasoning": turn.reasoning,
        "reasoning_s": turn.reasoning_s,
        "attachments": attachments_json(turn.attachments),
        "done": done_json(turn.done) if turn.done else None,
        "num_tokens": turn.num_tokens,
        "earlier": [ended_part_json(part) for part in turn.earlier],
        "error": turn.error,
        "settings": turn.settings,
        "is_imported": turn.is_imported,
    }
    return to_text({name: value for name, value in body.items() if value})


def turn_from_row(row: Mapping[str, Any]) -> Turn:
    body = json.loads(row["body"])
    return Turn(
        id=row["id"],
        role=row["role"],
        parent=row["parent"],
        text=row["text"] or body.get("written", ""),
        reasoning=body.get("reasoning", ""),
        reasoning_s=body.get("reasoning_s"),
        attachments=attachments_from_json(body.get("attachments", ())),
        state=row["state"],
        done=done_from_json(body["done"]) if body.get("done") else None,
        num_tokens=body.get("num_tokens", 0),
        earlier=tuple(map(ended_part_from_json, body.get("earlier", ()))),
        error=body.get("error", ""),
        settings=body.get("settings", {}),
        created_s=row["created_s"],
        place=row["place"],
        num_siblings=row["num_siblings"],
        has_tokens=bool(row["has_tokens"]),
        is_imported=bool(body.get("is_imported")),
    )


def tokens_text(tokens: Sequence[WrittenToken]) -> str:
    return to_text([token.json() for token in tokens])


def tokens_from_text(text: str) -> tuple[WrittenToken, ...]:
    return tuple(WrittenToken(words, logprob, _tuple(top)) for words, logprob, top in json.loads(text))


def attachments_json(attachments: Iterable[Attachment]) -> list[Json]:
    return [asdict(attachment) for attachment in attachments]


def attachments_from_json(values: Any) -> tuple[Attachment, ...]:
    return tuple(_known(Attachment, value) for value in values)


def draft_body(draft: Draft) -> str:
    return to_text(asdict(draft))


def draft_from_body(body: str) -> Draft:
    values = json.loads(body)
    return Draft(values["text"], attachments_from_json(values["attachments"]))


def to_text(value: Json | list[Any]) -> str:
    return sound_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def sound_text(text: str) -> str:
    """The text as UTF-8 can hold it. JSON may bring half of a pair of surrogates, which no file and no model takes:
    it becomes a question mark. https://www.rfc-editor.org/rfc/rfc8259#section-8.2
    """
    return text.encode("utf-8", "replace").decode()


def _receipt(values: Json) -> MediaReceipt:
    plain = _tuples(values)
    if plain.get("features"):
        plain["features"] = FeatureUse(**plain["features"])
    plain["crop"] = _known(Crop, _tuples(values["crop"])) if values.get("crop") else None
    plain["regions"] = tuple(_known(Region, _tuples(region)) for region in values.get("regions", ()))
    return _known(MediaReceipt, plain)  # type: ignore[no-any-return]


def _known(kind: Any, values: Mapping[str, Any]) -> Any:
    """A dataclass from JSON; names that this version does not know are left out."""
    names = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names})


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON's lists as the tuples that frozen values hold."""
    return {name: _tuple(value) for name, value in values.items()}


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, list) else value
