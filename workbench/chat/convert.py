"""Entries of a chat -> engine requests. Pure: no Gradio, no MLX, no clock, no files opened.

    composer {"text", "files"} ──> entries ──> Request.messages     what is sent
                                      └──────> turns (display.py)     what is shown

The index that the page reports for edit, retry and undo is an index into the entries. The entries hold the text as it
was typed or written; what the page displays is never read back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Literal

from engine.media.containers import CLIP_SUFFIXES
from engine.types import (
    Description,
    Done,
    FrameSampling,
    Kind,
    MediaReceipt,
    Message,
    PageChoice,
    Part,
    Request,
    Sampling,
)
from workbench.language import catalogued, number, t, tn
from workbench.words import FROM_CACHE, milliseconds

CACHED_THERE = catalogued("{count} cached there")
"""Of an answer that another server gave."""

EntryKind = Literal["text", "image", "video", "audio", "document", "reasoning", "note", "busy", "error"]
SENT: tuple[EntryKind, ...] = ("text", "image", "video", "audio", "document")

VIDEO_SUFFIXES = CLIP_SUFFIXES
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp"),
    *(".heic", ".heif", ".avif", ".ico", ".jp2"),
)
AUDIO_SUFFIXES = (".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac")
DOCUMENT_SUFFIXES = (
    *(
        ".pdf",
        ".tif",
        ".tiff",
        ".txt",
        ".md",
        ".csv",
        ".tsv",
        ".json",
        ".yaml",
        ".yml",
        ".toml",
        ".xml",
        ".html",
        ".log",
        ".tex",
    ),
    *(".py", ".js", ".css", ".c", ".h", ".cpp", ".java", ".go", ".rs", ".swift", ".sh", ".sql", ".r", ".rb", ".php"),
)
MEDIA_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES, *AUDIO_SUFFIXES, *DOCUMENT_SUFFIXES)


@dataclass(frozen=True, slots=True)
class ChatEntry:
    """One part of a chat. Media carry `path`; "reasoning", "note", "busy" and "error" are shown, never sent.

    part: how a medium is sent, where it is not sent as it comes. broken: why a medium cannot be read; it is shown with
    this reason, and no longer sent. A note carries the request that it is about, and what became of each of its media,
    or what another model said about each of them.
    duration_s: how long reasoning took; None while it goes on. num_parts: of an answer that can be continued, how many
    requests it is made of; 0 where it cannot be. has_tokens: the probabilities of its tokens are kept.
    is_imported: what a note says was read of a file.
    """

    role: Literal["user", "assistant"]
    kind: EntryKind
    text: str = ""
    path: str | None = None
    part: Part | None = None
    request: Request | None = None
    media: tuple[MediaReceipt, ...] = ()
    descriptions: tuple[Description, ...] = ()
    broken: str = ""
    duration_s: float | None = None
    num_parts: int = 0
    has_tokens: bool = False
    is_imported: bool = False


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """What the side bar says. None leaves a choice to the server's defaults and the model, as an API request does.

    logprobs: how many of the likeliest tokens are told at each place of an answer; None for no probabilities at all.
    model: the name of the one that answers; None for the default one.
    """

    system: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    frames: FrameSampling = field(default_factory=FrameSampling)
    logprobs: int | None = None
    model: str | None = None


Entries = tuple[ChatEntry, ...]


def media_kind(path: str) -> Kind:
    """What a file is sent as. The bytes decide whether that is true; the engine looks at them."""
    suffix = PurePath(path).suffix.lower()
    if suffix in AUDIO_SUFFIXES:
        return "audio"
    if suffix in DOCUMENT_SUFFIXES:
        return "document"
    return "video" if suffix in VIDEO_SUFFIXES else "image"


def user_entries(
    text: str, paths: Sequence[str], fitted: Mapping[str, Part] | None = None, *, stills: bool = False
) -> Entries:
    """What the composer held, media first: models are trained to see before they are asked.

    fitted: by path, how a file is sent that was made smaller to fit. stills: of pictures that move, only the first
    frame.
    """
    media = tuple(_file_entry(path, (fitted or {}).get(path), stills) for path in paths)
    return media + ((ChatEntry("user", "text", text),) if text.strip() else ())


def _file_entry(path: str, part: Part | None, stills: bool) -> ChatEntry:
    entry = ChatEntry("user", media_kind(path), path=path, part=part)
    if stills and entry.kind == "image" and (as_it_comes := _part(entry)) is not None:
        return replace(entry, part=replace(as_it_comes, animated=False))
    return entry


def to_request(
    entries: Sequence[ChatEntry], settings: ChatSettings, session: str | None = None, tenant: str = ""
) -> Request:
    """Entries -> Request: neighbours of one role become one message, display-only entries are left out."""
    messages: list[Message] = []
    if settings.system.strip():
        messages.append(Message("system", (Part("text", settings.system),)))
    for entry in entries:
        part = _part(entry)
        if part is None:
            continue
        if messages and messages[-1].role == entry.role:
            messages[-1] = Message(entry.role, (*messages[-1].parts, part))
        else:
            messages.append(Message(entry.role, (part,)))
    return Request(
        messages=tuple(messages),
        sampling=settings.sampling,
        max_tokens=settings.max_tokens,
        frames=settings.frames,
        logprobs=settings.logprobs,
        model=settings.model,
        source="chat",
        session=session,
        tenant=tenant,
    )


def _part(entry: ChatEntry) -> Part | None:
    if entry.broken:
        return None
    if entry.kind == "text":
        return Part("text", entry.text, param="message") if entry.text else None
    if entry.part is not None:
        return entry.part
    if entry.kind in SENT:
        name = PurePath(entry.path or "").name
        document = PageChoice(name) if entry.kind == "document" else None
        return Part(entry.kind, path=entry.path, document=document, param=name)  # type: ignore[arg-type]
    return None


def fitted_entries(entries: Sequence[ChatEntry], request: Request) -> Entries:
    """The entries, each medium sent as this request sends it; the request was made from these entries."""
    parts = iter([part for message in request.messages for part in message.parts if part.kind != "text"])
    return tuple(replace(entry, part=next(parts)) if _is_medium(entry) else entry for entry in entries)


def _is_medium(entry: ChatEntry) -> bool:
    return entry.kind in SENT and entry.kind != "text" and not entry.broken


def note(done: Done, num_parts: int = 1) -> str:
    """The quiet line under an answer: the same usage and timing that the API reports for this request. num_parts: how
    many requests they are the sum of.
    """
    usage, timing, by = done.usage, done.timing, done.served_by
    tokens_in = tn("{count} token in", "{count} tokens in", usage.prompt_tokens)
    if usage.cached_tokens:  # what another server has cached is not in the Cache tab, to which these words lead
        tokens_in += f" ({t(CACHED_THERE if by else FROM_CACHE, count=usage.cached_tokens)})"
    tokens = [tokens_in, out(usage.completion_tokens, num_parts)]
    words = [
        *([t("served by {host}", host=by.host)] if by else []),
        *(tokens if by is None or by.tells_usage else [t("it does not tell its tokens")]),
        t("first token {time}", time=milliseconds(timing.ttft_ms)),
    ]
    if by and by.num_media and not by.tells_media:
        words.append(t("it does not tell what it saw"))
    if timing.decode_tps:
        words.append(t("{rate} tokens/s", rate=rate(timing.decode_tps)))
    if done.finish_reason == "length":
        words.append(t("length limit reached"))
    if done.finish_reason == "cancelled":
        words.append(t("stopped"))
    return " · ".join(words)


def stopped_note(num_tokens: int, num_parts: int = 1) -> str:
    """The quiet line of an answer that was stopped: a closed stream sends no Done, so only what was read is known."""
    return f"{out(num_tokens, num_parts)} · {t('stopped')}" if num_tokens else t("stopped before the first token")


def out(num_tokens: int, num_parts: int) -> str:
    """The tokens of an answer, and in how many requests it was written."""
    if num_parts > 1:
        return t("{count} out in {parts} parts", count=num_tokens, parts=num_parts)
    return t("{count} out", count=num_tokens)


def rate(tokens_per_s: float) -> str:
    return number(tokens_per_s, ".1f" if tokens_per_s < 100 else ",.0f")
