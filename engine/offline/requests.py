"""What is asked of the Python classes -> Request, through the readers of /v1's own bodies: one meaning for each field.

Raises BadRequest and BadMedia that name the field. Any thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from engine.api.bodies.json_body import explain
from engine.api.bodies.parts import MEDIA_TYPES
from engine.api.bodies.refused import extra_of, refuse
from engine.api.chat.convert import ANYBODY, chat_request
from engine.api.chat.schemas import ChatRequest
from engine.api.completions.convert import text_requests
from engine.api.completions.schemas import TextRequest
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.offline.inputs import is_live, medium, of_mapping
from engine.types import Json, Message, Part, Request

Body = TypeVar("Body", bound=BaseModel)
SOURCE = "python"
NOT_FOR_CALLS = ("model", "stream", "stream_options", "cache_salt")
"""Fields of a body that mean nothing to an object that has one model."""
PROMPT_FIELDS = ("prompt", "prompt_token_ids", "multi_modal_data")


def chat(messages: Sequence[Json], fields: Mapping[str, Any], limits: MediaLimits) -> Request:
    """A Request from messages as OpenAI writes them. fields: those of a chat completion, by their names there.

    Media may also be objects of this program: {"type": "image", "image": PIL image, array, bytes or Path}. A text in a
    message never names a file, unless limits.media_root allows it: messages may come from outside.
    """
    live: dict[str, Part] = {}
    plain = [_plain(message, f"messages[{i}]", live) for i, message in enumerate(messages)]
    body = _body(ChatRequest, {"messages": plain, **fields})
    request = chat_request(body, limits, "", ANYBODY)
    return replace(request, messages=tuple(_revived(message, live) for message in request.messages), source=SOURCE)


def question(text: str, parts: Sequence[Part], fields: Mapping[str, Any], limits: MediaLimits) -> Request:
    """A Request of one message: media, then a text about them."""
    request = chat([{"role": "user", "content": text}], fields, limits)
    (message,) = request.messages
    return replace(request, messages=(replace(message, parts=(*parts, *message.parts)),))


def completion(prompt: Any, fields: Mapping[str, Any], param: str = "prompt") -> Request:
    """A Request from a raw prompt: a text, token ids, or {"prompt" | "prompt_token_ids", "multi_modal_data"}. fields:
    those of a text completion."""
    parts: tuple[Part, ...] = ()
    if isinstance(prompt, Mapping):
        for name in prompt:
            if name not in PROMPT_FIELDS:
                where = f"{param}.{name}"
                raise BadRequest(f"{where}: not known here; there are {', '.join(PROMPT_FIELDS)}.", param=where)
        parts = of_mapping(prompt.get("multi_modal_data") or {}, f"{param}.multi_modal_data")
        prompt = prompt.get("prompt") if "prompt" in prompt else prompt.get("prompt_token_ids")
    if not isinstance(prompt, str | list | tuple):
        raise BadRequest(f"{param}: it must be a text, token ids, or a dict with prompt.", param=param)
    content = prompt if isinstance(prompt, str) else list(prompt)
    (request,) = text_requests(_body(TextRequest, {"prompt": content, **fields}), "", ANYBODY)
    return replace(request, messages=(Message("user", parts),) if parts else (), source=SOURCE)


def _body(kind: type[Body], fields: Mapping[str, Any]) -> Body:
    """A body that holds nothing which nobody would read."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        body = kind.model_validate(given)
    except ValidationError as error:
        raise explain([{**e, "loc": ("body", *e["loc"])} for e in error.errors()], given) from error
    refuse(body)
    unread = [*(name for name, _ in extra_of(body)), *(name for name in NOT_FOR_CALLS if name in given)]
    if unread:
        why = "this keyword is not known here"
        raise BadRequest(f"{unread[0]}: {why}.", param=unread[0], code="unknown_parameter")
    return body


def _plain(message: Json, param: str, live: dict[str, Part]) -> Json:
    """A message as JSON may hold it. Objects of this program become URLs that stand for them in `live`."""
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [_plain_part(part, f"{param}.content[{i}]", live) for i, part in enumerate(content)]
    return {**message, "content": parts}


def _plain_part(part: Any, param: str, live: dict[str, Part]) -> Any:
    if not isinstance(part, Mapping):
        return part
    raw = dict(part)
    if raw.get("type") == "image_pil":  # vLLM's
        raw = {**raw, "type": "image", "image": raw.pop("image_pil", None)}
    kind = MEDIA_TYPES.get(str(raw.get("type")))
    for name in (str(raw.get("type")), "url", "path"):
        value = raw.get(name)
        if kind is not None and isinstance(value, Mapping) and is_live(value.get("url")):
            raw[name] = {**value, "url": _stand_in(medium(kind, value["url"], f"{param}.{name}.url"), live)}
        elif kind is not None and name in raw and is_live(value):
            raw[name] = _stand_in(medium(kind, value, f"{param}.{name}"), live)
    return raw


def _stand_in(part: Part, live: dict[str, Part]) -> str:
    url = f"data:,{secrets.token_hex(16)}"
    live[url] = part
    return url


def _revived(message: Message, live: Mapping[str, Part]) -> Message:
    def revived(part: Part) -> Part:
        found = live.get(part.url or "")
        if found is None:
            return part
        frames = found.frames.over(part.frames) if found.frames and part.frames else part.frames or found.frames
        return replace(part, url=found.url, path=found.path, parts=found.parts, frames=frames)

    return replace(message, parts=tuple(map(revived, message.parts)))
