"""A conversation to take away: Markdown, JSON (OpenAI messages), a zip of both with its media, a page to print.

The turns that are shown are written: of a question that was edited or an answer that was asked for again, the branch in
view. The zip has the whole conversation too (workbench.conversations.whole). What `workbench.conversations.imported`
reads back is the same text, letter for letter.
"""

from __future__ import annotations

import base64
import html
import io
import json
import mimetypes
import secrets
import time
import zipfile
from collections.abc import Callable, Sequence
from urllib.parse import quote

from engine.types import Json
from workbench.conversations.json_forms import to_text
from workbench.conversations.types import Attachment, Conversation, Turn
from workbench.conversations.whole import FILE_NAME as WHOLE_FILE
from workbench.conversations.whole import whole_json
from workbench.language import catalogued, current, t

NAMES = {"user": catalogued("You"), "assistant": catalogued("Assistant")}
"""Headings, in English in a Markdown file."""

PART_TYPES = {"image": "image_url", "video": "video_url", "audio": "audio_url"}
Read = Callable[[str], bytes | None]
"""The content of a medium by its hash."""

MARK = "mlx-workbench conversation"
"""In the first line of Markdown, with a word that starts the line before each turn: no turn's own text holds it."""


def markdown(conversation: Conversation, turns: Sequence[Turn], folder: str = "") -> str:
    """Markdown with a heading for each turn. folder: where media lie beside it; "" names them only."""
    word = secrets.token_hex(6)
    lines = [
        f"<!-- {MARK} {word} -->",
        f"# {conversation.title or 'Conversation'}",
        "",
        date(conversation.created_s),
        "",
    ]
    for turn in turns:
        lines += [f"<!-- {word} {turn.role} -->", f"## {NAMES[turn.role]}", ""]
        lines += [f"{_link(attachment, folder)}\n" for attachment in turn.attachments]
        if turn.reasoning:
            lines += [f"<!-- {word} reasoning -->", *(f"> {line}" for line in turn.reasoning.splitlines()), ""]
        lines += [f"<!-- {word} text -->", turn.text, ""]
    return "\n".join([*lines, ""])


def _link(attachment: Attachment, folder: str) -> str:
    name = attachment.name.replace("[", "(").replace("]", ")")
    if not folder:
        return f"*[{name}]*"
    sign = "!" if attachment.kind == "image" else ""
    return f"{sign}[{name}]({folder}/{in_folder(attachment)})"


def in_folder(attachment: Attachment) -> str:
    """The name of a medium's file beside the others: no two contents share one, and it needs no quoting."""
    suffix = attachment.name.rpartition(".")[2]
    return f"{attachment.sha256[:16]}.{suffix}" if suffix.isalnum() and suffix.isascii() else attachment.sha256[:16]


def messages(conversation: Conversation, turns: Sequence[Turn], read: Read | None) -> Json:
    """OpenAI's messages. read: media go in as data: URLs; None: as paths in the folder "media"."""
    system = str(conversation.settings.get("system") or "")
    first: list[Json] = [{"role": "system", "content": system}] if system.strip() else []
    return {
        "title": conversation.title,
        "created": int(conversation.created_s),
        "messages": [*first, *(_message(turn, read) for turn in turns if turn.text or turn.attachments)],
    }


def _message(turn: Turn, read: Read | None) -> Json:
    message: Json = {"role": turn.role, "content": turn.text}
    if turn.attachments:
        parts = [_part(attachment, read) for attachment in turn.attachments]
        message["content"] = [*parts, {"type": "text", "text": turn.text}] if turn.text else parts
    if turn.reasoning:
        message["reasoning_content"] = turn.reasoning
    return message


def _part(attachment: Attachment, read: Read | None) -> Json:
    url = f"media/{in_folder(attachment)}"
    if read is not None:
        data = read(attachment.sha256)
        if data is None:
            return {"type": "text", "text": f"[{attachment.name}]"}
        url = data_url(attachment.name, data)
    if attachment.kind == "document":
        return {"type": "file", "file": {"file_data": url, "filename": attachment.name}}
    part_type = PART_TYPES[attachment.kind]
    return {"type": part_type, part_type: {"url": url}}


def data_url(name: str, data: bytes) -> str:
    return f"data:{media_type(name)};base64,{base64.b64encode(data).decode()}"


def media_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def json_text(conversation: Conversation, turns: Sequence[Turn], read: Read) -> str:
    return json.dumps(messages(conversation, turns, read), ensure_ascii=False, indent=1)


def zipped(conversation: Conversation, turns: Sequence[Turn], every: Sequence[Turn], read: Read) -> bytes:
    """conversation.md and messages.json of the turns that are shown, conversation.json of every turn, and media."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("conversation.md", markdown(conversation, turns, "media"))
        archive.writestr("messages.json", json.dumps(messages(conversation, turns, None), ensure_ascii=False, indent=1))
        archive.writestr(WHOLE_FILE, to_text(whole_json(conversation, every, in_folder)))
        media = {in_folder(attachment): attachment.sha256 for turn in every for attachment in turn.attachments}
        for name, sha256 in media.items():
            if (data := read(sha256)) is not None:
                archive.writestr(zipfile.ZipInfo(f"media/{name}"), data)
    return out.getvalue()


def page_to_print(conversation: Conversation, turns: Sequence[Turn], read: Read) -> str:
    """A page of plain text and pictures, without scripts."""
    title = html.escape(conversation.title or t("Conversation"))
    items = "".join(_printed(turn, read) for turn in turns)
    style = (
        "body{font:12pt/1.5 system-ui,sans-serif;max-width:44em;margin:2em auto;padding:0 1em}"
        "h2{font-size:1em;margin:1.6em 0 .3em;break-after:avoid}p{white-space:pre-wrap;overflow-wrap:anywhere;margin:0}"
        "img{max-width:60%;max-height:14em;display:block;margin:.4em 0}time,.file{color:#555}"
    )
    return (
        f'<!doctype html><html lang="{current()}"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
        f"<h1>{title}</h1><time>{date(conversation.created_s)}</time>{items}</html>"
    )


def _printed(turn: Turn, read: Read) -> str:
    media = "".join(_printed_medium(attachment, read) for attachment in turn.attachments)
    return f"<h2>{t(NAMES[turn.role])}</h2>{media}<p>{html.escape(turn.text)}</p>"


def _printed_medium(attachment: Attachment, read: Read) -> str:
    name = html.escape(attachment.name)
    data = read(attachment.sha256) if attachment.kind == "image" else None
    if data is None:
        return f'<div class="file">{name}</div>'
    return f'<img src="{html.escape(data_url(attachment.name, data))}" alt="{name}">'


def date(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_s))


def file_name(conversation: Conversation, suffix: str) -> str:
    """A name for the download: the title without what file systems refuse."""
    words = "".join(c if c.isalnum() or c in " -_" else " " for c in conversation.title)
    return (" ".join(words.split())[:60] or "conversation") + suffix


def quoted(name: str) -> str:
    """For Content-Disposition: https://datatracker.ietf.org/doc/html/rfc8187"""
    return quote(name, safe="")
