"""A request of the log, asked again in columns: each column's fields stand in the place of the request's own.

What a column has no field for stays as it was: other sampling, stop texts, a grammar, a seed.
"""

from __future__ import annotations

from dataclasses import replace

from engine.errors import Conflict
from engine.request_log.body import SentMedium
from engine.request_log.log import RequestLog, medium_ref
from engine.request_log.record import LoggedRequest
from engine.types import NO_LIMIT, Json, Message, Part, Request
from workbench.chat.convert import ChatEntry, Entries
from workbench.compare.columns import Column, within
from workbench.language import t

MAX_TEXT = 600
"""Characters of the message that the page shows."""


def asked_again(log: RequestLog, record: LoggedRequest) -> Request:
    """The request, with media from addresses as they came then. Blocks. Raises Conflict where columns cannot ask it."""
    asked = record.request
    if not asked.messages or asked.prompt is not None or asked.questions or record.num_texts is not None:
        raise _cannot(t("Only a chat can be asked again side by side."))
    if asked.tools or asked.forced:
        raise _cannot(t("A request with tools cannot be asked again side by side: columns show only text."))
    messages = tuple(
        replace(message, parts=tuple(_as_it_came(log, record, part) for part in message.parts))
        for message in asked.messages
    )
    return replace(asked, messages=messages, logprobs=None, prompt_logprobs=None, prompt_ids=False, n=1)


def _as_it_came(log: RequestLog, record: LoggedRequest, part: Part) -> Part:
    if part.kind == "text":
        return part
    if part.parts:
        return replace(part, parts=tuple(_as_it_came(log, record, frame) for frame in part.parts))
    content = log.content(record, part)
    if content is None:
        raise _cannot(t("A picture, clip or sound of this request is not here any more."))
    return part if part.url is None else replace(part, url=SentMedium(medium_ref(content).media_type, content).data_url)


def _cannot(words: str) -> Conflict:
    return Conflict(words, code="not_repeatable", param="again")


def fields_of(asked: Request) -> Json:
    """What the fields of a column say of it; see columns.read_column."""
    values = {
        "temperature": asked.sampling.temperature,
        "max_tokens": None if asked.max_tokens == NO_LIMIT else asked.max_tokens,
        "fps": asked.frames.fps,
        "max_pixels": _max_pixels(asked),
    }
    texts = {name: "" if value is None else str(value).removesuffix(".0") for name, value in values.items()}
    return texts | {"model": asked.model or "", "system": _system(asked)[0], "reuse": asked.reuse}


def about(asked: Request) -> Json:
    """What the page says of it: how much it holds, and the beginning of its last message."""
    last = asked.messages[-1]
    text = "\n".join(part.text for part in last.parts if part.kind == "text")
    return {"num_messages": len(asked.messages), "num_media": len(asked.media_parts), "text": text[:MAX_TEXT]}


def media_of(asked: Request) -> Entries:
    """The media of its last message, by which receipts are told from those of earlier ones."""
    return tuple(
        ChatEntry("user", part.kind, path=part.param) for part in asked.messages[-1].parts if part.kind != "text"
    )


def request_again(asked: Request, column: Column, session: str, tenant: str) -> Request:
    """asked: of `asked_again`."""
    settings = column.settings
    _, messages = _system(asked)
    if settings.system.strip():
        messages = (Message("system", (Part("text", settings.system),)), *messages)
    if column.max_pixels != _max_pixels(asked):
        messages = within(messages, column.max_pixels)
    has_no_limit = settings.max_tokens is None and asked.max_tokens == NO_LIMIT
    return replace(
        asked,
        messages=messages,
        sampling=replace(asked.sampling, temperature=settings.sampling.temperature),
        max_tokens=NO_LIMIT if has_no_limit else settings.max_tokens,
        frames=replace(asked.frames, fps=settings.frames.fps),
        model=settings.model,
        reuse=column.reuse,
        source="compare",
        dialect="",
        session=session,
        tenant=tenant,
    )


def _system(asked: Request) -> tuple[str, tuple[Message, ...]]:
    """Its system prompt, where that is one text at the beginning, and the other messages."""
    first, *others = asked.messages
    is_text = first.role == "system" and [part.kind for part in first.parts] == ["text"]
    return (first.parts[0].text, tuple(others)) if is_text else ("", asked.messages)


def _max_pixels(asked: Request) -> int | None:
    """Of its pictures, where all have the same."""
    found = {part.max_pixels for part in asked.media_parts if part.kind != "audio"}
    return found.pop() if len(found) == 1 else None
