"""Media first: a question typed before its picture is read after it, so that another question can reuse the picture.

Only where nothing is lost by it: one leading text and then media, nothing else, in a user's message. Interleaved order
stays as it was sent. Pure; any thread.
"""

from __future__ import annotations

from dataclasses import replace

from engine.types import Message, Request


def in_read_order(request: Request, media_first: bool) -> Request:
    """The request as its prompt is built: as it was sent, or media first where the server says so."""
    return put_media_first(request) if media_first else request


def put_media_first(request: Request) -> Request:
    """The request with such questions moved behind their media; the same object when there are none."""
    messages = tuple(_moved(message) for message in request.messages)
    return request if messages == request.messages else replace(request, messages=messages)


def _moved(message: Message) -> Message:
    first, *rest = message.parts or (None,)
    if message.role != "user" or first is None or first.kind != "text" or not rest:
        return message
    if any(part.kind == "text" for part in rest):
        return message
    return replace(message, parts=(*rest, first))
