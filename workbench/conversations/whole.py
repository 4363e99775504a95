"""A whole conversation as JSON of our own: all its branches, with what each answer cost. What is read back is the same.

What comes in is judged field by field, for the page and the engine take it for what they wrote themselves. The hashes
of its media are not believed: they get the hash of the bytes that came with them. What it says of its requests, the
content hashes of their receipts with it, is kept and marked as imported: nothing here can check it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from engine.errors import BadRequest
from engine.types import (
    Description,
    Detail,
    Done,
    FinishReason,
    FrameSampling,
    Json,
    Kind,
    MediaReceipt,
    PageChoice,
    Timing,
    Usage,
)
from workbench.conversations.json_forms import attachments_json, done_json, ended_part_json, part_from_json, to_text
from workbench.conversations.types import (
    Attachment,
    Conversation,
    EndedPart,
    Turn,
    TurnRole,
    TurnState,
    WrittenToken,
)
from workbench.language import catalogued, t

FORMAT = "mlx-workbench conversation"
VERSION = 1
FILE_NAME = "conversation.json"
NO_FILE = catalogued("its file did not come with the conversation")

Add = Callable[[bytes, str, Kind], Attachment]
"""Keeps a medium's content: its bytes, name and kind."""

Attach = Callable[[str, str, Kind], tuple[Attachment, bool]]
"""Keeps a medium by its file in the folder "media", its name and kind; False where the file did not come."""

MediumKind = Literal["image", "video", "audio", "document"]
LongString = Annotated[str, Field(max_length=100_000_000)]
ShortString = Annotated[str, Field(max_length=200)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Size = Annotated[int, Field(ge=1, le=2**53)]
Number = Annotated[float, Field(allow_inf_nan=False)]
_SHA256 = re.compile("[0-9a-f]{64}")


def _check_hash(receipt: MediaReceipt) -> MediaReceipt:
    if not _SHA256.fullmatch(receipt.sha256):
        raise PydanticCustomError("sha256", "sha256: it must be 64 hexadecimal digits, in lower case")
    return receipt


Receipt = Annotated[MediaReceipt, AfterValidator(_check_hash)]


class _Kept(BaseModel):
    """What another version wrote beside the fields of this one is left out."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False, strict=False)


class KeptPart(_Kept):
    """As json_forms.part_json."""

    detail: Detail = "auto"
    max_pixels: Size | None = None
    min_pixels: Size | None = None
    exact_px: tuple[Size, Size] | None = None
    crop_px: tuple[Count, Count, Size, Size] | None = None
    frames: FrameSampling | None = None
    animated: bool | None = None
    document: PageChoice | None = None
    label: ShortString = ""
    description: LongString | None = None


class KeptAttachment(_Kept):
    """file: the name of its content in the folder "media"."""

    kind: MediumKind
    name: ShortString
    file: ShortString
    part: KeptPart | None = None
    broken: LongString = ""


class KeptDone(_Kept):
    finish_reason: FinishReason
    usage: Usage
    timing: Timing
    media: tuple[Receipt, ...] = ()
    descriptions: tuple[Description, ...] = ()


class KeptEndedPart(_Kept):
    num_tokens: Count
    done: KeptDone | None = None


class KeptTurn(_Kept):
    id: Annotated[str, Field(min_length=1, max_length=64)]
    parent: str | None
    role: TurnRole
    state: TurnState = "done"
    created_s: Number = 0.0
    text: LongString = ""
    reasoning: LongString = ""
    reasoning_s: Number | None = None
    attachments: tuple[KeptAttachment, ...] = ()
    done: KeptDone | None = None
    num_tokens: Count = 0
    earlier: tuple[KeptEndedPart, ...] = ()
    error: LongString = ""
    settings: dict[ShortString, LongString] = {}
    tokens: tuple[tuple[LongString, Number | None, tuple[tuple[LongString, Number], ...]], ...] = ()


class KeptConversation(_Kept):
    title: LongString = ""
    created_s: Number = 0.0
    is_pinned: bool = False
    settings: dict[ShortString, LongString] = {}
    head: str | None = None
    turns: tuple[KeptTurn, ...]


@dataclass(frozen=True)
class WholeConversation:
    """What was read. Its turns have ids of their own: the same file may be read twice."""

    conversation: Conversation
    turns: tuple[Turn, ...]


def whole_json(conversation: Conversation, turns: Sequence[Turn], file_of: Callable[[Attachment], str]) -> Json:
    """turns: all of them, parents first. file_of: the name of a medium's file in the folder "media"."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "title": conversation.title,
        "created_s": conversation.created_s,
        "is_pinned": conversation.is_pinned,
        "settings": conversation.settings,
        "head": conversation.head,
        "turns": [_turn_json(turn, file_of) for turn in turns],
    }


def _turn_json(turn: Turn, file_of: Callable[[Attachment], str]) -> Json:
    media = zip(turn.attachments, attachments_json(turn.attachments), strict=True)
    fields: Json = {
        "text": turn.text,
        "reasoning": turn.reasoning,
        "reasoning_s": turn.reasoning_s,
        "attachments": [{**values, "file": file_of(attachment)} for attachment, values in media],
        "done": done_json(turn.done) if turn.done else None,
        "num_tokens": turn.num_tokens,
        "earlier": [ended_part_json(part) for part in turn.earlier],
        "error": turn.error,
        "settings": turn.settings,
        "tokens": [token.json() for token in turn.tokens],
    }
    first = {"id": turn.id, "parent": turn.parent, "role": turn.role, "state": turn.state, "created_s": turn.created_s}
    return {**first, **{name: value for name, value in fields.items() if value}}


def is_whole(value: Any) -> bool:
    """Whether JSON says that it is of this form, of whichever version."""
    return isinstance(value, dict) and value.get("format") == FORMAT


def read_whole(value: Json, attach: Attach) -> WholeConversation:
    """Raises BadRequest with the name of the field."""
    version = value.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise BadRequest(
            t(
                "version: {version} is not one that is read here, up to {known}.",
                version=repr(version),
                known=VERSION,
            ),
            param="version",
        )
    try:
        kept = KeptConversation.model_validate_json(to_text(value))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BadRequest(f"{where}: {first['msg']}.", param=where) from error
    ids: dict[str | None, str | None] = {None: None}
    turns = []
    for number, turn in enumerate(kept.turns):
        if turn.id in ids or turn.parent not in ids:
            which, why = (
                ("id", t("is there already")) if turn.id in ids else ("parent", t("is no turn before this one"))
            )
            where = f"turns.{number}.{which}"
            raise BadRequest(f"{where}: {getattr(turn, which)!r} {why}.", param=where)
        ids[turn.id] = secrets.token_hex(8)
        media = tuple(_attachment(medium, attach) for medium in turn.attachments)
        turns.append(_turn(turn, str(ids[turn.id]), ids[turn.parent], media))
    if kept.head not in ids:
        raise BadRequest(t("head: {head} is none of the turns.", head=repr(kept.head)), param="head")
    conversation = Conversation(
        "", kept.title, kept.created_s, kept.created_s, kept.is_pinned, head=ids[kept.head], settings=kept.settings
    )
    return WholeConversation(conversation, tuple(turns))


def _turn(kept: KeptTurn, id_: str, parent: str | None, media: tuple[Attachment, ...]) -> Turn:
    state: TurnState = "cut_off" if kept.state == "writing" else kept.state
    return Turn(
        id=id_,
        role=kept.role,
        parent=parent,
        text=kept.text,
        reasoning=kept.reasoning,
        attachments=media,
        state="done" if kept.role == "user" else state,
        done=_done(kept.done),
        num_tokens=kept.num_tokens,
        error=kept.error,
        settings=kept.settings,
        created_s=kept.created_s,
        reasoning_s=kept.reasoning_s,
        earlier=tuple(EndedPart(part.num_tokens, _done(part.done)) for part in kept.earlier),
        tokens=tuple(WrittenToken(*token) for token in kept.tokens),
        is_imported=True,
    )


def _done(kept: KeptDone | None) -> Done | None:
    if kept is None:
        return None
    return Done(kept.finish_reason, kept.usage, kept.timing, kept.media, descriptions=kept.descriptions)


def _attachment(kept: KeptAttachment, attach: Attach) -> Attachment:
    added, has_come = attach(kept.file, kept.name, kept.kind)
    part = kept.part.model_dump(exclude_none=True) if kept.part else None
    if part is not None:
        part_from_json(part, kept.kind, "", kept.name)  # as it will be when the message is sent
    broken = kept.broken or ("" if has_come else t(NO_FILE))
    return Attachment(added.kind, added.name, added.sha256, added.num_bytes, part, broken)
