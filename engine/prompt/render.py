"""Messages -> the text of the chat as the model's own template writes it, for text models and multimodal ones.

Parts keep the order in which they were sent. No MLX, nothing shared is changed: safe in any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from engine.errors import BadRequest
from engine.models.registry import Loaded
from engine.prompt.outside_text import set_aside
from engine.prompt.tool_prompt import call_json, has_tools, tool_json, with_plain_tools
from engine.types import Json, Message, Part, Request
from engine.types.media import Media

_NUMBERED_PICTURE = re.compile(r"<\|image_\d+\|>\n?")


@dataclass(frozen=True, slots=True)
class RenderedChat:
    """A chat as its template writes it. aside: what private characters in the text stand for, see
    engine.models.control_tokens. starts_in_reasoning: it ends inside a think block."""

    text: str
    aside: tuple[str, ...] = ()
    starts_in_reasoning: bool = False


def render(loaded: Loaded, request: Request, media: Sequence[Media] = ()) -> RenderedChat:
    """The text of a chat, with a placeholder for every medium. media: one entry per media part, in order. A raw prompt
    with media is its own text.

    Raises BadRequest with the template's own complaint (roles must alternate, no system role), for media that it
    leaves out of a message of some role, and for a raw prompt without the placeholders of its media.
    """
    if request.prompt is not None:
        return RenderedChat(_with_placeholders(loaded, request, request.prompt, media))
    safe, aside = set_aside(loaded, request)
    if loaded.tools.is_native or not has_tools(request):
        text = _text_of(loaded, safe, media)
    else:
        text = _text_with_plain_tools(loaded, safe, media)
    return RenderedChat(text, aside, _ends_in_reasoning(loaded, request, text))


def _with_placeholders(loaded: Loaded, request: Request, prompt: str | tuple[int, ...], media: Sequence[Media]) -> str:
    """A raw prompt. Raises BadRequest unless it holds what this model's template writes for its media, in their
    order."""
    if not isinstance(prompt, str):
        raise BadRequest("prompt: media go with a text, not with token ids.", param="prompt")
    parts = tuple(part for message in request.messages for part in message.parts)
    words = render(loaded, Request((Message("user", (Part("text", text="x"),)),)))
    shown = render(loaded, Request((Message("user", parts),)), media)
    others = set(_control_tokens(loaded, words.text))
    wanted = [token for token in _control_tokens(loaded, shown.text) if token not in others]
    found = [token for token in _control_tokens(loaded, prompt) if token in wanted]
    if found != wanted:
        why = f"for its media this model wants {' '.join(wanted)} in the text, in this order, and it holds "
        raise BadRequest(f"prompt: {why}{' '.join(found) or 'none of them'}.", param="prompt")
    return prompt


def _control_tokens(loaded: Loaded, text: str) -> list[str]:
    return [text[start:end] for start, end in loaded.control.spans(text)]


def adds_special_tokens(loaded: Loaded) -> bool:
    """Whether the tokenizer writes what begins a rendered chat (the begin-of-sequence token), not the template."""
    if loaded.processor is None:
        return not loaded.tokenizer.has_chat_template
    from mlx_vlm.utils import should_add_special_tokens

    return bool(should_add_special_tokens(loaded.card.model_type, loaded.processor))


def _text_with_plain_tools(loaded: Loaded, request: Request, media: Sequence[Media]) -> str:
    """The tools stand in the system message; in the first of the user where the template knows no other."""
    try:
        return _text_of(loaded, with_plain_tools(request), media)
    except BadRequest:
        if any(message.role == "system" for message in request.messages):
            raise
        return _text_of(loaded, with_plain_tools(request, role="user"), media)


def _text_of(loaded: Loaded, request: Request, media: Sequence[Media]) -> str:
    in_order = iter(media)
    messages = [_message(loaded, message, in_order) for message in request.messages]
    text = _templated(loaded, messages, request)
    for i, message in enumerate(request.messages):
        shown = next((part for part in message.parts if part.kind != "text"), None)
        if shown is not None and message.role != "user":
            words = replace(message, parts=tuple(part for part in message.parts if part.kind == "text"))
            blind = [*messages[:i], _message(loaded, words, iter(())), *messages[i + 1 :]]
            if _templated(loaded, blind, request) == text:
                why = f"this model's chat template shows no media in messages of role {message.role}"
                raise BadRequest(f"{shown.param}: {why}; send it in one of role user.", param=shown.param)
    return _numbered(text) if loaded.family.numbered else text


def _numbered(text: str) -> str:
    """A rendered chat with its pictures numbered over all messages, each on a line of its own: mlx-vlm begins anew in
    every message, and its processor loses the first token of what follows a picture, which is then the one before the
    line break. Nothing from outside is numbered: it was set aside."""
    numbers = count(1)
    return _NUMBERED_PICTURE.sub(lambda _: f"<|image_{next(numbers)}|>\n", text)


def _templated(loaded: Loaded, messages: list[Json], request: Request) -> str:
    from jinja2 import TemplateError

    settings = _settings(loaded, request)
    try:
        try:
            return _apply_template(loaded, messages, settings)
        except TypeError:  # a template that joins what it takes for text: some want a call's arguments so
            if not any(message.tool_calls for message in request.messages):
                raise
            return _apply_template(loaded, _with_arguments_as_text(messages, request), settings)
    except TemplateError as e:
        raise BadRequest(f"The model's chat template refused the messages: {e}", param="messages") from e
    except TypeError as e:
        raise BadRequest(f"The model's chat template cannot write these messages: {e}", param="messages") from e
    except ValueError as e:
        if not request.continue_final_message:
            raise
        why = "the model's chat template does not show the last message so that it can be continued"
        raise BadRequest(f"continue_final_message: {why}.", param="continue_final_message") from e


def _with_arguments_as_text(messages: list[Json], request: Request) -> list[Json]:
    calls = [[call_json(call, arguments_as_text=True) for call in message.tool_calls] for message in request.messages]
    return [m | {"tool_calls": own} if own else m for m, own in zip(messages, calls, strict=True)]


def _settings(loaded: Loaded, request: Request) -> Json:
    """What the template is given beside the messages."""
    settings: Json = dict(request.template_kwargs)
    reasoning, variables = request.reasoning, loaded.card.template_variables
    if reasoning.enabled is not None:
        settings.setdefault("enable_thinking", reasoning.enabled)
    if reasoning.effort is not None and "reasoning_effort" in variables:
        settings.setdefault("reasoning_effort", reasoning.effort)
    if tools := request.offered_tools:
        settings["tools"] = [tool_json(tool) for tool in tools]
    if request.continue_final_message:
        settings["continue_final_message"] = True
    settings["add_generation_prompt"] = request.add_generation_prompt and not request.continue_final_message
    return settings


def _ends_in_reasoning(loaded: Loaded, request: Request, text: str) -> bool:
    """Whether a rendered chat ends inside a think block, opened by the template or by the message it goes on from."""
    tokenizer = loaded.tokenizer
    if not tokenizer.has_thinking:
        return False
    if request.continue_final_message:
        return text.rfind(tokenizer.think_start) > text.rfind(tokenizer.think_end)
    return text.rstrip().endswith(tokenizer.think_start)


def _apply_template(loaded: Loaded, messages: list[Json], settings: Json) -> str:
    """The tokenizer renders it: some processors (gemma4) rewrite the messages first and lose a clip on the way."""
    tokenizer = loaded.tokenizer
    if tokenizer.has_chat_template:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **settings))
    if loaded.processor is None:
        return "\n".join(message["content"] for message in messages)
    from mlx_vlm.prompt_utils import get_chat_template

    # Old checkpoints keep the template in the processor's files only; without any, mlx-vlm writes a plain prompt.
    return str(get_chat_template(loaded.processor, messages, **settings))


def _message(loaded: Loaded, message: Message, media: Iterator[Media]) -> Json:
    """One message as the family's template wants it."""
    out = _content(loaded, message, media)
    if message.tool_calls:
        out["tool_calls"] = [call_json(call) for call in message.tool_calls]
    said = {"tool_call_id": message.tool_call_id, "name": message.name, "reasoning_content": message.reasoning}
    return out | {name: text for name, text in said.items() if text}


def _content(loaded: Loaded, message: Message, media: Iterator[Media]) -> Json:
    """Role and content: a list of typed parts, or text with image tokens in it."""
    pieces = [piece for part in message.parts for piece in _pieces(loaded, part, media)]
    text = "".join(piece.get("text", "") for piece in pieces)
    if loaded.processor is None:
        return {"role": message.role, "content": text}
    from mlx_vlm.prompt_utils import MODEL_CONFIG

    style = MODEL_CONFIG.get(loaded.card.model_type)
    if style is None or style.value.startswith("list_with") or _reads_parts(loaded):
        has_media = any(piece["type"] != "text" for piece in pieces)
        is_plain = message.role == "assistant" and style is not None and "type" in style.value
        is_plain = not has_media and (is_plain or message.role == "tool")
        return {"role": message.role, "content": text if is_plain else pieces}
    return _inline_message(loaded.card.model_type, message.role, pieces)


def _inline_message(model_type: str, role: str, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    """A message whose text has image tokens in it, as mlx-vlm writes them for this family."""
    from mlx_vlm.prompt_utils import get_message_json

    num_images = sum(piece["type"] == "image" for piece in pieces)
    num_sounds = sum(piece["type"] == "audio" for piece in pieces)
    rendered = get_message_json(
        model_type,
        pieces,
        role,
        skip_image_token=num_images == 0,
        skip_audio_token=num_sounds == 0,
        num_images=num_images,
        num_audios=num_sounds,
    )
    return rendered if isinstance(rendered, dict) else {"role": role, "content": rendered}


def _reads_parts(loaded: Loaded) -> bool:
    """Whether the chat template itself tells parts apart; mlx-vlm's own rendering strips the text around pictures."""
    template = getattr(loaded.tokenizer, "chat_template", None)
    return isinstance(template, str) and ("'image'" in template or '"image"' in template)


def _pieces(loaded: Loaded, part: Part, media: Iterator[Media]) -> list[dict[str, Any]]:
    """A part as template pieces. A clip becomes labelled pictures where the family has no video of its own."""
    if part.kind == "text":
        return [_text_piece(part.text)]
    medium = next(media)
    if part.kind == "audio" and loaded.family.sound_marker and not _reads_parts(loaded):
        return [_text_piece(loaded.family.sound_marker)]  # mlx-vlm would put it before all else, or not write it
    if part.kind != "video" or loaded.card.native_video:
        return [{"type": part.kind}]
    return [
        piece for _, time_s in medium.frames for piece in (_text_piece(f"Frame at {time_s:.1f} s:"), {"type": "image"})
    ]


def _text_piece(text: str) -> dict[str, Any]:
    """Templates read either key."""
    return {"type": "text", "text": text, "content": text}
