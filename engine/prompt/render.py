"""Messages -> the text of the chat as the model's own template writes it, for text models and multimodal ones.

Parts keep the order in which they were sent. No MLX, nothing shared is changed: safe in any thread.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from engine.errors import BadRequest
from engine.models.registry import Loaded
from engine.types import Message, Part, Request
from engine.types.media import Media


def render(loaded: Loaded, request: Request, media: Sequence[Media] = ()) -> str:
    """The text of a chat, with a placeholder for every medium. media: one entry per media part, in order.

    Raises BadRequest with the template's own complaint (roles must alternate, no system role), and for media that it
    leaves out of a message of some role.
    """
    in_order = iter(media)
    messages = [_message(loaded, message, in_order) for message in request.messages]
    text = _text_of(loaded, messages, request)
    for i, message in enumerate(request.messages):
        shown = next((part for part in message.parts if part.kind != "text"), None)
        if shown is not None and message.role != "user":
            words = replace(message, parts=tuple(part for part in message.parts if part.kind == "text"))
            blind = [*messages[:i], _message(loaded, words, iter(())), *messages[i + 1 :]]
            if _text_of(loaded, blind, request) == text:
                why = f"this model's chat template shows no media in messages of role {message.role}"
                raise BadRequest(f"{shown.param}: {why}; send it in one of role user.", param=shown.param)
    return text


def _text_of(loaded: Loaded, messages: list[dict[str, Any]], request: Request) -> str:
    from jinja2 import TemplateError

    try:
        return _apply_template(loaded, messages, dict(request.template_kwargs))
    except TemplateError as e:
        raise BadRequest(f"The model's chat template refused the messages: {e}", param="messages") from e
    except TypeError as e:  # a template that joins what it takes for text
        raise BadRequest(f"The model's chat template cannot write these messages: {e}", param="messages") from e


def opens_reasoning(loaded: Loaded, text: str) -> bool:
    """Whether a rendered chat ends inside a think block that the template has opened."""
    tokenizer = loaded.tokenizer
    return bool(tokenizer.has_thinking) and text.rstrip().endswith(tokenizer.think_start)


def refuse_reserved(loaded: Loaded, messages: Sequence[Message]) -> None:
    """Raise BadRequest for text that spells a placeholder: it would be counted as a medium."""
    reserved = [loaded.tokenizer.convert_ids_to_tokens(i) for i in loaded.placeholder_ids().values() if i >= 0]
    reserved.append(loaded.family.marker)
    for part in (part for message in messages for part in message.parts):
        for token in reserved:
            if token and token in part.text:
                raise BadRequest(f"{part.param} contains {token}, which is reserved for media.", param=part.param)


def _apply_template(loaded: Loaded, messages: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """The tokenizer renders it: some processors (gemma4) rewrite the messages first and lose a clip on the way."""
    tokenizer = loaded.tokenizer
    if tokenizer.has_chat_template:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **settings))
    if loaded.processor is None:
        return "\n".join(message["content"] for message in messages)
    from mlx_vlm.prompt_utils import get_chat_template

    # Old checkpoints keep the template in the processor's files only; without any, mlx-vlm writes a plain prompt.
    return str(get_chat_template(loaded.processor, messages, True, **settings))


def _message(loaded: Loaded, message: Message, media: Iterator[Media]) -> dict[str, Any]:
    """One message as the family's template wants it: a list of typed parts, or text with image tokens in it."""
    pieces = [piece for part in message.parts for piece in _pieces(loaded, part, media)]
    text = "".join(piece.get("text", "") for piece in pieces)
    if loaded.processor is None:
        return {"role": message.role, "content": text}
    from mlx_vlm.prompt_utils import MODEL_CONFIG

    style = MODEL_CONFIG.get(loaded.card.model_type)
    if style is None or style.value.startswith("list_with") or _reads_parts(loaded):
        has_media = any(piece["type"] != "text" for piece in pieces)
        is_plain = message.role == "assistant" and style is not None and "type" in style.value and not has_media
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
    if part.kind != "video" or loaded.card.native_video:
        return [{"type": part.kind}]
    return [
        piece for _, time_s in medium.frames for piece in (_text_piece(f"Frame at {time_s:.1f} s:"), {"type": "image"})
    ]


def _text_piece(text: str) -> dict[str, Any]:
    """Templates read either key."""
    return {"type": "text", "text": text, "content": text}
