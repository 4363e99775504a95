"""Files that conversations are read from: the exports, OpenAI's messages of other programs, Markdown with headings.

What comes in is text and data, never a path and never a request: a URL of another host is kept as words.
"""

from __future__ import annotations

import io
import json
import mimetypes
import re
import secrets
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.api.bodies.parts import read_part
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.media.fetch import is_data_url, read_data_url
from engine.types import Json, Kind, Part
from workbench.conversations.export import MARK
from workbench.conversations.json_forms import sound_text
from workbench.conversations.owned import MAX_TITLE_CHARS
from workbench.conversations.types import Attachment, Conversation, Turn, TurnRole
from workbench.conversations.whole import FILE_NAME as WHOLE_FILE
from workbench.conversations.whole import Add, is_whole, read_whole
from workbench.language import t

MAX_TURNS = 20_000
MAX_ENTRIES = 20_000
MAX_MEDIA = 2000
_ENTRY = b"PK\x01\x02"
"""What each entry of a zip's list begins with: counted before the list is read, which takes ten times its memory."""

HEADINGS: dict[str, TurnRole] = {
    **dict.fromkeys(("you", "user", "me", "human", "prompt", "question"), "user"),
    **dict.fromkeys(("assistant", "ai", "model", "answer", "response", "chatgpt", "claude", "gemini"), "assistant"),
}
KINDS = {"image": "picture", "video": "clip", "audio": "sound", "document": "document"}
_HEADING = re.compile(r"^#{1,4}\s+\**(\w+)\**:?\s*$")


@dataclass
class ReadConversation:
    """What a file holds. settings: the system prompt, if there is one.

    whole: of a file that holds all branches, what it says of the conversation itself.
    """

    title: str = ""
    turns: list[Turn] = field(default_factory=list)
    settings: Json = field(default_factory=dict)
    whole: Conversation | None = None

    def add(self, role: TurnRole, text: str, reasoning: str = "", media: Sequence[Attachment] = ()) -> None:
        parent = self.turns[-1].id if self.turns else None
        if len(self.turns) >= MAX_TURNS:
            raise BadRequest(t("The file holds more than {count} messages.", count=MAX_TURNS), param="file")
        words = sound_text(text), sound_text(reasoning)
        self.turns.append(Turn(secrets.token_hex(8), role, parent, *words, tuple(media)))


def read_conversation(data: bytes, name: str, add: Add, limits: MediaLimits, max_bytes: int) -> ReadConversation:
    """A file's conversation. max_bytes: of all that a zip unpacks to. Raises BadRequest and BadMedia."""
    if data.startswith(b"PK\x03\x04"):
        read = _from_zip(data, add, limits, max_bytes)
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadRequest(t("{name}: this is neither JSON, Markdown nor a zip.", name=name), param="file") from error
        is_json = text.lstrip()[:1] in ("{", "[")
        read = _from_json(text, add, limits, {}) if is_json else from_markdown(text)
    if not read.turns:
        raise BadRequest(t("{name}: no messages were found in it.", name=name), param="file")
    read.title = read.title or name.rpartition(".")[0] or name
    read.title = " ".join(read.title.split())[:MAX_TITLE_CHARS]
    return read


def _from_zip(data: bytes, add: Add, limits: MediaLimits, max_bytes: int) -> ReadConversation:
    if data.count(_ENTRY) > MAX_ENTRIES:
        raise BadRequest(t("The zip holds more than {count} files.", count=MAX_ENTRIES), param="file")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if _is_read(entry.filename)]
            # What is unpacked of an entry ends at the size that it declares, so that the sum is no promise only.
            if sum(entry.file_size for entry in entries) > max_bytes:
                raise BadRequest(t("The zip unpacks to more than {count} bytes.", count=max_bytes), param="file")
            files = {entry.filename: archive.read(entry) for entry in entries}
    except BadRequest:
        raise
    except Exception as error:  # whatever the decoders of its methods raise on damaged data
        raise BadRequest(t("The zip cannot be read ({reason}).", reason=str(error)[:100]), param="file") from error
    text = files.get(WHOLE_FILE) or files.get("messages.json")
    if text is None:
        raise BadRequest(t("The zip holds neither {file} nor messages.json.", file=WHOLE_FILE), param="file")
    return _from_json(text.decode("utf-8", "replace"), add, limits, files)


def _is_read(name: str) -> bool:
    return name in (WHOLE_FILE, "messages.json") or (name.startswith("media/") and not name.endswith("/"))


def _from_json(text: str, add: Add, limits: MediaLimits, files: dict[str, bytes]) -> ReadConversation:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRequest(t("The JSON cannot be read ({reason}).", reason=str(error)[:100]), param="file") from error
    if is_whole(value):
        return _from_whole(value, _Media(add, limits, files))
    raw = value.get("messages") if isinstance(value, dict) else value
    if not isinstance(raw, list):
        raise BadRequest(t("messages: it must be an array, as in a chat completion's request."), param="messages")
    title = value.get("title") if isinstance(value, dict) else None
    read = ReadConversation(title=sound_text(title) if isinstance(title, str) else "")
    media = _Media(add, limits, files)
    for number, message in enumerate(raw):
        _add_message(read, message, f"messages[{number}]", media)
    return read


def _from_whole(value: Json, media: _Media) -> ReadConversation:
    turns = value.get("turns")
    if isinstance(turns, list) and len(turns) > MAX_TURNS:
        raise BadRequest(t("The file holds more than {count} messages.", count=MAX_TURNS), param="turns")
    read = read_whole(value, media.of_whole)
    whole = read.conversation
    return ReadConversation(whole.title, list(read.turns), whole.settings, whole)


@dataclass
class _Media:
    """Where a file's media come from, and where they go. kept: those of the zip, by path, name and kind, so that one
    that is named a thousand times is not copied as often.
    """

    add: Add
    limits: MediaLimits
    files: dict[str, bytes]
    kept: dict[tuple[str, str, Kind], Attachment] = field(default_factory=dict)
    num_media: int = 0

    def count(self) -> None:
        self.num_media += 1
        if self.num_media > MAX_MEDIA:
            raise BadRequest(
                t("The file holds more than {count} pictures and other media.", count=MAX_MEDIA), param="file"
            )

    def from_zip(self, url: str, name: str, kind: Kind) -> Attachment:
        self.count()
        key = (url, name, kind)
        if key not in self.kept:
            self.kept[key] = self.add(self.files[url], name, kind)
        return self.kept[key]

    def of_whole(self, file: str, name: str, kind: Kind) -> tuple[Attachment, bool]:
        """A medium of a whole conversation, and whether its content came with it."""
        url = f"media/{file}"
        if url in self.files:
            return self.from_zip(url, name, kind), True
        self.count()
        return self.add(b"", name, kind), False


def _add_message(read: ReadConversation, message: Any, param: str, media: _Media) -> None:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("system", "developer", "user", "assistant"):
        raise BadRequest(t("{param}.role: it must be system, user or assistant.", param=param), param=f"{param}.role")
    content = message.get("content")
    if isinstance(content, str) or content is None:
        content = [{"type": "text", "text": content or ""}]
    if not isinstance(content, list):
        raise BadRequest(
            t("{param}.content: it must be a string or an array of parts.", param=param), param=f"{param}.content"
        )
    texts: list[str] = []
    attachments: list[Attachment] = []
    for number, part in enumerate(content):
        found = _read(part, f"{param}.content[{number}]", media)
        if isinstance(found, str):
            texts.append(found)
        else:
            attachments.append(found)
    text = "\n\n".join(texts)
    if role in ("system", "developer"):
        read.settings["system"] = "\n\n".join(filter(None, (read.settings.get("system"), sound_text(text))))
        return
    reasoning = message.get("reasoning_content")
    read.add(role, text, reasoning if isinstance(reasoning, str) else "", attachments)


def _read(raw: Any, param: str, media: _Media) -> str | Attachment:
    """The words of a part, or its medium."""
    url, name = _url_and_name(raw)
    if url.startswith("media/") and url in media.files:
        # The reader of the API knows no such path: a stand-in of the same kind takes its place.
        inner = {key: "data:,x" if value == url else value for key, value in raw[raw["type"]].items()}
        part = read_part({**raw, raw["type"]: inner}, param, media.limits)
        return media.from_zip(url, name or url.removeprefix("media/"), part.kind)
    part = read_part(raw, param, media.limits)
    if part.kind == "text":
        return part.text
    if part.url is None or not is_data_url(part.url):
        return f"[{KINDS[part.kind]}: {(part.url or param)[:2000]}]"
    media.count()
    data = read_data_url(part, part.url, media.limits)
    return media.add(data, name or _name(part), part.kind)


def _url_and_name(raw: Any) -> tuple[str, str]:
    """The URL and the file name of a part, "" where it has none."""
    inner = raw.get(raw.get("type")) if isinstance(raw, dict) and isinstance(raw.get("type"), str) else None
    if not isinstance(inner, dict):
        return "", ""
    url, name = inner.get("url") or inner.get("file_data"), inner.get("filename")
    return (url if isinstance(url, str) else ""), (name if isinstance(name, str) else "")


def _name(part: Part) -> str:
    declared = (part.url or "")[5:100].split(",")[0].split(";")[0]
    return KINDS[part.kind] + (mimetypes.guess_extension(declared) or "")


def from_markdown(text: str) -> ReadConversation:
    """Our own export by its marks; of other programs, what stands under headings such as "## User"."""
    opening = re.match(rf"\s*<!-- {MARK} ([0-9a-f]{{12}}) -->", text)
    return _marked(text, opening[1]) if opening else _headed(text)


def _marked(text: str, word: str) -> ReadConversation:
    head, *pieces = re.split(rf"^<!-- {word} (user|assistant) -->$\n", text, flags=re.MULTILINE)
    title = re.search(r"^# (.*)$", head, flags=re.MULTILINE)
    read = ReadConversation(title=title[1] if title else "")
    for role, piece in zip(pieces[::2], pieces[1::2], strict=True):
        before, _, words = piece.partition(f"<!-- {word} text -->\n")
        _, _, quoted = before.partition(f"<!-- {word} reasoning -->\n")
        reasoning = "\n".join(line.removeprefix("> ") for line in quoted.strip("\n").splitlines())
        media = re.findall(r"^(?:!?\[([^\]]*)\]\(media/\S+\)|\*\[([^\]]*)\]\*)$", before, flags=re.MULTILINE)
        names = "".join(f"[{name or other}]\n" for name, other in media)
        read.add(role, names + words.removesuffix("\n\n"), reasoning)  # type: ignore[arg-type]
    return read


def _headed(text: str) -> ReadConversation:
    read = ReadConversation()
    role: TurnRole | None = None
    lines: list[str] = []
    for line in text.splitlines():
        heading = _HEADING.match(line)
        if heading and heading[1].lower() in HEADINGS:
            _end_turn(read, role, lines)
            role, lines = HEADINGS[heading[1].lower()], []
        elif role is None and line.startswith("# ") and not read.title:
            read.title = line[2:].strip()
        else:
            lines.append(line)
    _end_turn(read, role, lines)
    return read


def _end_turn(read: ReadConversation, role: TurnRole | None, lines: list[str]) -> None:
    if role is not None:
        read.add(role, "\n".join(lines).strip("\n"))
