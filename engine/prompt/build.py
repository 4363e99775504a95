"""Request + media -> Prompt: the chat template, the processor, the placeholders. Engine thread only.

Parts keep the order in which they were sent. Every medium must end as placeholder tokens in the prompt; one that
does not is an error, never a fluent answer about nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np
from PIL import Image

from engine.errors import BadMedia, BadRequest
from engine.media.resize import pixel_stub
from engine.models.grids import with_known_grids
from engine.models.registry import Loaded
from engine.prompt.audio import check_sounds, sounds
from engine.prompt.cache_ids import cache_ids, locate
from engine.prompt.expand import expanded
from engine.prompt.receipts import measure, shared
from engine.prompt.sizing import sized, without_resize
from engine.types import MediaReceipt, Message, Part, Request
from engine.types.media import Media
from engine.types.prompt import Prompt


def build(loaded: Loaded, request: Request, media: tuple[Media, ...], *, need_pixels: bool = True) -> Prompt:
    """Turn a request into token ids and model inputs. media: one entry per media part, in the order of the parts.

    need_pixels: False where it may do without those of media whose grids are known (Prompt.has_pixels): for such as
    their KV is there. One whose media turn out to be read is built again.
    Raises BadRequest (template, reserved tokens) or BadMedia (a medium left no token).
    """
    built = _build(loaded, request, media, need_pixels)
    return replace(built, cache_ids=[]) if loaded.family.whole_prompt else built


def _build(loaded: Loaded, request: Request, media: tuple[Media, ...], need_pixels: bool) -> Prompt:
    if request.prompt is not None:
        return _raw(loaded, request.prompt)
    _refuse_reserved(loaded, request.messages)
    if loaded.processor is None:
        return _text(loaded, request)
    return _multimodal(loaded, request, media, need_pixels)


def _raw(loaded: Loaded, prompt: str | tuple[int, ...]) -> Prompt:
    ids = list(prompt) if not isinstance(prompt, str) else loaded.tokenizer.encode(prompt)
    if not ids:
        raise BadRequest("prompt is empty.", param="prompt")
    if any(not 0 <= i < loaded.num_ids for i in ids):
        raise BadRequest(f"prompt has a token id outside the vocabulary of {loaded.num_ids}.", param="prompt")
    return Prompt(ids, ids)


def _refuse_reserved(loaded: Loaded, messages: tuple[Message, ...]) -> None:
    """Text that spells a placeholder would be counted as a medium."""
    reserved = [loaded.tokenizer.convert_ids_to_tokens(i) for i in loaded.placeholder_ids().values() if i >= 0]
    reserved.append(loaded.family.marker)
    for part in (part for message in messages for part in message.parts):
        for token in reserved:
            if token and token in part.text:
                raise BadRequest(f"{part.param} contains {token}, which is reserved for media.", param=part.param)


def _text(loaded: Loaded, request: Request) -> Prompt:
    messages = [{"role": m.role, "content": "".join(p.text for p in m.parts)} for m in request.messages]
    tokenizer = loaded.tokenizer
    if not tokenizer.has_chat_template:
        text = "\n".join(str(m["content"]) for m in messages)
        ids = tokenizer.encode(text)
        return Prompt(ids, ids)
    text = _template(
        lambda: tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, **dict(request.template_kwargs)
        )
    )
    # The template writes the begin-of-sequence token itself.
    ids = tokenizer.encode(text, add_special_tokens=False)
    return Prompt(ids, ids, starts_in_reasoning=_opens_reasoning(tokenizer, text))


def _template(render: Any) -> str:
    """Run a chat template; its own complaints (roles must alternate, no system role) are the client's to read."""
    from jinja2 import TemplateError

    try:
        return render()
    except TemplateError as e:
        raise BadRequest(f"The model's chat template refused the messages: {e}", param="messages") from e


def _opens_reasoning(tokenizer: Any, text: str) -> bool:
    return bool(tokenizer.has_thinking) and text.rstrip().endswith(tokenizer.think_start)


def _multimodal(loaded: Loaded, request: Request, media: tuple[Media, ...], need_pixels: bool) -> Prompt:
    started = perf_counter()
    settings = loaded.processor, loaded.video_settings, request.media_parts
    outlines = media if need_pixels else sized(*settings, media, pixel_stub)
    grids = None if need_pixels else loaded.grids.find(request.tenant, outlines)
    media = outlines if grids else sized(*settings, media)
    check_sounds(loaded, request.media_parts, media)
    with with_known_grids(loaded.processor, grids):
        text, ids, inputs = _process(loaded, request, media)
    resize_ms = (perf_counter() - started) * 1e3
    receipts = shared(_receipts(loaded, request, media, (ids, inputs)), media, resize_ms)
    placeholders = [_placeholder(loaded, medium) for medium in media]
    spans = locate(ids, placeholders, [receipt.tokens for receipt in receipts])
    return Prompt(
        ids=ids,
        cache_ids=cache_ids(ids, placeholders, () if _padded(inputs) else spans, [medium.content for medium in media]),
        spans=spans,
        inputs=inputs,
        receipts=receipts,
        contents=tuple(medium.content for medium in media),
        has_pixels=grids is None,
        starts_in_reasoning=_opens_reasoning(loaded.tokenizer, text),
    )


def _padded(inputs: dict[str, Any]) -> bool:
    """Whether pictures were padded to one size (idefics2): what the model sees of each depends on the others then."""
    mask = inputs.get("pixel_attention_mask")
    return mask is not None and not bool(np.array(mask).all())


def _process(loaded: Loaded, request: Request, media: tuple[Media, ...]) -> tuple[str, list[int], dict[str, Any]]:
    """The template's text, the token ids and the processor's other arrays."""
    from mlx_vlm.utils import prepare_inputs, should_add_special_tokens

    queue = iter(media)
    messages = [_message(loaded, message, queue) for message in request.messages]
    text = _template(lambda: _render(loaded, messages, dict(request.template_kwargs)))
    pictures, clips = _pictures(loaded, media), _clips(loaded, media)
    try:
        with without_resize(loaded.processor, media), _true_times(loaded.processor, clips):
            inputs = prepare_inputs(
                loaded.processor,
                images=pictures or None,
                videos=[np.transpose(clip.pixels, (0, 3, 1, 2)) for clip in clips] or None,
                video_metadata=[_metadata(clip) for clip in clips] or None,
                audio=sounds(loaded, media) or None,
                prompts=text,
                image_token_index=getattr(loaded.adapter.model.config, "image_token_index", None),
                add_special_tokens=should_add_special_tokens(loaded.card.model_type, loaded.processor),
            )
    except (ValueError, TypeError, IndexError) as e:
        if not media:
            raise
        raise BadMedia(f"The model's processor refused the media: {e}", param="messages") from e
    ids = np.array(inputs.pop("input_ids")).reshape(-1).tolist()
    if media and loaded.family.expands:
        inputs["input_ids"] = ids  # the model's own, see engine.prompt.expand
        shape = inputs["pixel_values"].shape
        ids = expanded(ids, loaded.placeholder_ids()["image"], shape, loaded.config, loaded.family)
    return text, ids, {k: v for k, v in inputs.items() if v is not None} if media else {}


@contextmanager
def _true_times(processor: Any, clips: list[Media]) -> Iterator[None]:
    """For one prompt: the processor writes the clips' own times, if it is one that would count them from zero."""
    inner = getattr(processor, "video_processor", None)
    if not clips or not hasattr(inner, "_sample_frames"):
        yield
        return
    processor.video_processor = _TimedFrames(inner, clips)
    try:
        yield
    finally:
        processor.video_processor = inner


class _TimedFrames:
    """gemma4's video processor: it picks frames again from those it is given and lets their times begin at zero, at an
    even rate. Here it takes all frames, and says when they really were."""

    def __init__(self, video_processor: Any, clips: list[Media]) -> None:
        self._video_processor = video_processor
        self._times = [[time_s for _, time_s in clip.frames] for clip in clips]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._video_processor, name)

    def __call__(self, videos: Any, **settings: Any) -> dict[str, Any]:
        num_frames = self._video_processor.num_frames
        self._video_processor.num_frames = max(len(times) for times in self._times)
        try:
            return self._video_processor(videos, **settings) | {"frame_timestamps": self._times}
        finally:
            self._video_processor.num_frames = num_frames


def _placeholder(loaded: Loaded, medium: Media) -> int:
    """The token id that stands for a medium in the prompt; frames of a clip are pictures to most families."""
    ids = loaded.placeholder_ids()
    kind = medium.kind if medium.kind != "video" or loaded.card.native_video else "image"
    return ids.get(kind, ids.get("image", -1))


def _render(loaded: Loaded, messages: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """The chat template's own text. The tokenizer renders it: some processors (gemma4) rewrite the messages first and
    lose a clip on the way."""
    tokenizer = loaded.tokenizer
    if tokenizer.has_chat_template:
        return tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **settings)
    from mlx_vlm.prompt_utils import get_chat_template

    # Old checkpoints keep the template in the processor's files only; without any, mlx-vlm writes a plain prompt.
    return get_chat_template(loaded.processor, messages, True, **settings)


def _message(loaded: Loaded, message: Message, media: Iterator[Media]) -> dict[str, Any]:
    """One message as the family's template wants it: a list of typed parts, or text with image tokens in it."""
    from mlx_vlm.prompt_utils import MODEL_CONFIG, get_message_json

    style = MODEL_CONFIG.get(loaded.card.model_type)
    parts = [piece for part in message.parts for piece in _pieces(loaded, part, media)]
    if style is None or style.value.startswith("list_with") or _reads_parts(loaded):
        if message.role == "assistant" and style is not None and "type" in style.value:
            return {"role": message.role, "content": "".join(p.get("text", "") for p in parts)}
        return {"role": message.role, "content": parts}
    num_images = sum(piece["type"] == "image" for piece in parts)
    num_sounds = sum(piece["type"] == "audio" for piece in parts)
    rendered = get_message_json(
        loaded.card.model_type,
        parts,
        message.role,
        skip_image_token=num_images == 0,
        skip_audio_token=num_sounds == 0,
        num_images=num_images,
        num_audios=num_sounds,
    )
    return rendered if isinstance(rendered, dict) else {"role": message.role, "content": rendered}


def _reads_parts(loaded: Loaded) -> bool:
    """Whether the chat template itself tells parts apart; mlx-vlm's own rendering strips the text around pictures."""
    template = getattr(loaded.tokenizer, "chat_template", None)
    return isinstance(template, str) and ("'image'" in template or '"image"' in template)


def _pieces(loaded: Loaded, part: Part, media: Iterator[Media]) -> list[dict[str, Any]]:
    """A part as template pieces. A clip becomes labelled pictures where the family has no video of its own."""
    if part.kind == "text":
        return [{"type": "text", "text": part.text, "content": part.text}]
    medium = next(media)
    if part.kind != "video" or loaded.card.native_video:
        return [{"type": part.kind}]
    pieces: list[dict[str, Any]] = []
    for _, time_s in medium.frames:
        label = f"Frame at {time_s:.1f} s:"
        pieces += [{"type": "text", "text": label, "content": label}, {"type": "image"}]
    return pieces


def _pictures(loaded: Loaded, media: tuple[Media, ...]) -> list[Image.Image]:
    out = []
    for medium in media:
        if medium.kind == "image":
            out.append(Image.fromarray(medium.pixels))
        elif medium.kind == "video" and not loaded.card.native_video:
            out += [Image.fromarray(frame) for frame in medium.pixels]
    return out


def _clips(loaded: Loaded, media: tuple[Media, ...]) -> list[Media]:
    return [medium for medium in media if medium.kind == "video" and loaded.card.native_video]


def _metadata(clip: Media) -> dict[str, Any]:
    """What the processor writes timestamps from: true source indices and rate."""
    return {
        "total_num_frames": clip.num_source_frames,
        "fps": clip.source_fps,
        "frames_indices": [_place(index, time_s * clip.source_fps) for index, time_s in clip.frames],
        "duration": clip.duration_s,
    }


def _place(index: int, place: float) -> float:
    """Where a frame lies on an even timeline: its index, but for clips of uneven rate."""
    return index if abs(place - index) < 0.05 else place


def _receipts(
    loaded: Loaded, request: Request, media: tuple[Media, ...], prompt: tuple[list[int], dict[str, Any]]
) -> tuple[MediaReceipt, ...]:
    """One receipt per medium. Raises BadMedia for a medium that left no token in the prompt."""
    if not media:
        return ()
    parts = request.media_parts

    def alone(index: int) -> tuple[list[int], dict[str, Any]]:
        message = Message("user", (parts[index],))
        return _process(loaded, replace(request, messages=(message,)), media[index : index + 1])[1:]

    out = []
    for part, medium, (tokens, seen_px) in zip(parts, media, measure(loaded, media, prompt, alone), strict=True):
        if tokens == 0:
            raise BadMedia(
                f"{part.param}: the {medium.kind} left no token in the prompt, so the model would not see it.",
                param=part.param,
            )
        out.append(
            MediaReceipt(
                kind=medium.kind,
                num_bytes=medium.num_bytes,
                decoded_px=medium.decoded_px,
                seen_px=seen_px,
                tokens=tokens,
                sha256=medium.sha256,
                frames=medium.frames,
                duration_s=medium.duration_s,
                fetch_ms=medium.fetch_ms,
                decode_ms=medium.decode_ms,
                notes=medium.notes,
                param=part.param,
            )
        )
    return tuple(out)
