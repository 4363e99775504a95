"""Documents: a PDF or a TIFF becomes a picture per page, a text becomes text, before the prompt is built.

    Part(kind="document") ── bytes ── what they really are ──> Parts of kind "image" and "text"

Everything behind this sees pictures and texts as if they had been sent so: limits count pages, each page has a receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.config import MediaLimits
from engine.media.medium import bad_media, data_url
from engine.media.pdf import DocumentPages, Wanted, render_apart
from engine.media.sniff import OTHER_TEXT, PDF, TEXT_MARKS, WORDS, sniff
from engine.media.tiff_pages import num_pages, tiff_pages
from engine.types import PageChoice, Part, Request

if TYPE_CHECKING:
    from engine.types.media import Media

PAGE_PIXELS = 2_200_000
"""Of a page where the request names no number: A4 at 150 dots per inch, where small print can be read. The model's own
budget makes less of it, as of any picture."""

Renderer = Callable[[Part, bytes, Wanted, MediaLimits], DocumentPages]


def document_parts(part: Part, data: bytes, limits: MediaLimits, render: Renderer = render_apart) -> tuple[Part, ...]:
    """The pictures and texts that stand for a document. Thread: the media pool; blocks while pages are drawn.

    Raises BadMedia: neither a PDF nor text nor a picture, damaged, encrypted, no such page, too many pages.
    """
    choice = part.document or PageChoice()
    if not data:
        raise bad_media(part, "the document is empty (0 bytes)")
    found = sniff(data)
    most = min(limits.max_pages, limits.max_images or limits.max_pages)
    wanted = Wanted(choice.pages, most, part.max_pixels or PAGE_PIXELS, choice.with_text)
    if found.name == PDF:
        return tuple(_of_pages(part, choice, render(part, data, wanted, limits)))
    if found.name == "TIFF" and (choice.pages or num_pages(part, data) > 1):
        return tuple(_of_pages(part, choice, tiff_pages(part, data, wanted, limits)))
    if choice.pages:
        raise bad_media(part, "pages can be chosen of a PDF or a TIFF only")
    text = _text(data)
    if text is not None:
        return (Part("text", text=f"{choice.name or 'File'}:\n{text}", param=part.param),)
    if found.kind == "image":
        url = part.url if part.path is None else None
        return (replace(part, kind="image", url=url, document=None, label=choice.name),)
    if found.kind is not None:
        why = f"this is a {WORDS[found.kind]} ({found.name}); send it as {found.kind}_url"
        raise bad_media(part, why)
    if found.name == OTHER_TEXT:
        raise bad_media(part, f"{found.name}: it is neither UTF-8 nor marked as UTF-16; save it as UTF-8")
    raise bad_media(part, f"{found.name} is not read; send a PDF, or text in UTF-8")


def with_documents(request: Request, opened: Sequence[tuple[Part, ...]]) -> Request:
    """The request with each document replaced by its parts, in order."""
    in_order = iter(opened)
    messages = []
    for message in request.messages:
        parts = [next(in_order) if part.kind == "document" else (part,) for part in message.parts]
        messages.append(replace(message, parts=tuple(part for group in parts for part in group)))
    return replace(request, messages=tuple(messages))


def with_kinds(request: Request, media: Sequence[Media]) -> Request:
    """The request with its media called what they turned out to be: a picture that moves is a clip. The same object
    where nothing is other than it was called."""
    if all(part.kind == medium.kind for part, medium in zip(request.media_parts, media, strict=True)):
        return request
    in_order = iter(media)
    messages = tuple(
        replace(m, parts=tuple(p if p.kind == "text" else replace(p, kind=next(in_order).kind) for p in m.parts))
        for m in request.messages
    )
    return replace(request, messages=messages)


def _of_pages(part: Part, choice: PageChoice, document: DocumentPages) -> Iterator[Part]:
    """Each page: where it stands, its picture, and its text where that was asked for."""
    name = choice.name or "Document"
    for page in document.pages:
        label = f"{name}, page {page.number} of {document.num_pages}"
        yield Part("text", text=f"{label}:", param=part.param)
        url = data_url(page.png, "image/png")
        yield Part("image", url=url, max_pixels=part.max_pixels, detail=part.detail, label=label, param=part.param)
        if page.text.strip():
            yield Part("text", text=f"Text of page {page.number}:\n{page.text.strip()}", param=part.param)


def _text(data: bytes) -> str | None:
    """UTF-8, or UTF-16 and UTF-32 that say so; None for what is not text."""
    encoding = next((name for mark, name in TEXT_MARKS.items() if data.startswith(mark)), "utf-8-sig")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text
