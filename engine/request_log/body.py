"""A logged request as the body that asks any OpenAI server for the same. Pure but for reading its media.

Nothing leaves this file with a secret in it (engine.request_log.redact): texts are redacted before media go in, whose
base64 might look like one. In the body stands for each medium its name, `media/SHA-256`; `filled` puts in its content.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from engine.errors import Conflict
from engine.request_body import openai_body, route, unsayable
from engine.request_log.log import RequestLog, medium_ref
from engine.request_log.record import LoggedRequest
from engine.types import Json, Part

MEDIA_FOLDER = "media/"
_HOLDERS = ("image_url", "video_url", "audio_url", "file")


@dataclass(frozen=True, slots=True)
class SentMedium:
    """One file of a request, as it came."""

    media_type: str
    content: bytes

    @property
    def data_url(self) -> str:
        return f"data:{self.media_type};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True, slots=True)
class RequestBody:
    """path: below the server's /v1. body: JSON with the names of media. media: their contents by these names."""

    path: str
    body: Json
    media: Mapping[str, SentMedium]

    @property
    def media_bytes(self) -> int:
        return sum(len(medium.content) for medium in self.media.values())

    def filled(self) -> Json:
        """The body with every medium in it, as a data: URL."""
        return filled(self.body, {name: medium.data_url for name, medium in self.media.items()})


def request_body(log: RequestLog, record: LoggedRequest) -> RequestBody:
    """Blocks: media are read. Raises Conflict for what the two routes have no words for, and where a medium is not
    here any more."""
    request = record.request
    _check(record)
    media: dict[str, SentMedium] = {}

    def named(part: Part) -> str:
        content = log.content(record, part)
        if content is None:
            raise _cannot("a medium of it is not here any more")
        ref = medium_ref(content)
        name = f"{MEDIA_FOLDER}{ref.sha256}"
        media[name] = SentMedium(ref.media_type, content)
        return name

    body = openai_body(request, request.model or "default", named)
    return RequestBody(route(request), log.redactor.json(body), media)


def filled(body: Json, urls: Mapping[str, str]) -> Json:
    """A body whose media stand in it as the URL that `urls` has for their name. Texts are left as they are."""
    messages = [
        {**message, "content": [_filled(part, urls) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in body.get("messages", ())
    ]
    return {**body, "messages": messages} if messages else body


def _filled(part: Json, urls: Mapping[str, str]) -> Json:
    holder = next((name for name in _HOLDERS if isinstance(part.get(name), dict)), None)
    if holder is not None:
        field = "file_data" if holder == "file" else "url"
        return {**part, holder: {**part[holder], field: urls.get(part[holder][field], part[holder][field])}}
    if part.get("type") == "video":
        return {**part, "video": [urls.get(frame, frame) for frame in part["video"]]}
    return part


def _cannot(why: str) -> Conflict:
    return Conflict(f"This request cannot be sent again: {why}.", code="not_repeatable", param="request_id")


def _check(record: LoggedRequest) -> None:
    request = record.request
    if record.num_texts is not None:
        raise _cannot("only those that are answered with text can")
    if not request.messages and request.prompt is None and not request.questions:
        raise _cannot("it was refused before it was read")
    if why := unsayable(request):
        raise _cannot(why)
    if any(part.description is not None for part in request.media_parts):
        raise _cannot("the page chose its descriptions one by one, and /v1 has no words for that")
