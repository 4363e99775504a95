"""Request + media -> Prompt: the chat template, the processor, the placeholders. Engine thread only.

Every medium must end as placeholder tokens in the prompt; one that does not is an error, never a fluent answer about
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from engine.errors import BadMedia, PixelsMissing
from engine.models.registry import Loaded
from engine.prompt.audio import check_sounds, without_sounds
from engine.prompt.cache_ids import cache_ids, locate
from engine.prompt.media_tokens import MediaTokens, count_media_tokens, placeholder_kind
from engine.prompt.processor import KnownGrids, Processed, process
from engine.prompt.render import RenderedChat, render
from engine.prompt.sizing import sized
from engine.prompt.text import text_prompt
from engine.types import Message, Request
from engine.types.media import Media
from engine.types.prompt import PlacedMedia, Prompt


def build_prompt(loaded: Loaded, request: Request, media: tuple[Media, ...], *, need_pixels: bool = True) -> Prompt:
    """Turn a request into token ids and model inputs. media: one entry per media part, in the order of the parts.

    need_pixels: False lets media whose grids are known stay without pixels (PlacedMedia.has_pixels is then False). That
    is enough when their KV is stored. If it is not, the caller builds the prompt again (with_pixels).
    Raises BadRequest (template), BadMedia (a medium left no token), or PixelsMissing for media without
    pixels that cannot do without them.
    """
    return _with_media(loaded, request, media, need_pixels) if media else text_prompt(loaded, request)


def with_pixels(loaded: Loaded, request: Request, media: tuple[Media, ...], built: Prompt, num_reused: int) -> Prompt:
    """This prompt, built again where it came without pixels that are needed behind its first num_reused tokens.

    built: what build_prompt made of the same request and media. Raises as build_prompt.
    """
    return built if built.has_pixels_behind(num_reused) else build_prompt(loaded, request, media)


def _with_media(loaded: Loaded, request: Request, media: tuple[Media, ...], need_pixels: bool) -> Prompt:
    started_s = perf_counter()
    media, grids = _sized(loaded, request, media, need_pixels)
    check_sounds(loaded, request.media_parts, media)
    chat = render(loaded, request, media)
    ids, inputs = _process(loaded, request, chat, media, grids)
    alone = _processed_alone(loaded, request, media)
    heard = [i for i, medium in enumerate(media) if medium.kind == "audio"]
    sounds = tuple(alone(i) for i in heard) if len(heard) > 1 else ()
    processor_ms = (perf_counter() - started_s) * 1e3
    counts = count_media_tokens(loaded, media, (ids, inputs), alone)
    placed = locate(ids, _placed(loaded, request, media, counts, grids))
    is_whole = loaded.family.whole_prompt or (loaded.family.both_ways and not heard)
    return Prompt(
        ids=ids,
        cache_ids=[] if is_whole else cache_ids(ids, placed, told_apart=not _is_padded(inputs)),
        media=placed,
        inputs=without_sounds(inputs) if sounds else inputs,
        sounds=sounds,
        processor_ms=processor_ms,
        starts_in_reasoning=chat.starts_in_reasoning,
        is_whole=is_whole,
    )


def _sized(
    loaded: Loaded, request: Request, media: tuple[Media, ...], need_pixels: bool
) -> tuple[tuple[Media, ...], KnownGrids]:
    """The media at the size the model shall see, and the grids of those that do without their pixels."""
    settings = loaded.processor, loaded.video_settings, request.media_parts
    grids: KnownGrids = (None,) * len(media)
    if not need_pixels:
        sizes = sized(*settings, tuple(medium.without_pixels() for medium in media))
        grids = loaded.grids.find(request.tenant, sizes)
        if None not in grids:
            return sizes, grids
    if any(grid is None and not medium.has_pixels for grid, medium in zip(grids, media, strict=True)):
        raise PixelsMissing("Media have to be read, and their pixels are not at hand.")
    read = (medium if grid is None else medium.without_pixels() for grid, medium in zip(grids, media, strict=True))
    return sized(*settings, tuple(read)), grids


def _process(
    loaded: Loaded, request: Request, chat: RenderedChat, media: Sequence[Media], grids: KnownGrids
) -> Processed:
    """All media together. Raises BadMedia that names the one which the processor refuses by itself, too."""
    try:
        return process(loaded, chat, media, grids)
    except BadMedia as error:
        alone = _processed_alone(loaded, request, media)
        for i, part in enumerate(request.media_parts):
            try:
                alone(i)
            except BadMedia as its_own:
                raise BadMedia(f"{part.param}: {its_own.message}", param=part.param) from error
        raise


def _processed_alone(loaded: Loaded, request: Request, media: Sequence[Media]) -> Callable[[int], Processed]:
    """A function that processes the i-th medium in a prompt of its own."""

    def process_alone(i: int) -> Processed:
        alone = Request((Message("user", (request.media_parts[i],)),), template_kwargs=request.template_kwargs)
        return process(loaded, render(loaded, alone, media[i : i + 1]), media[i : i + 1])

    return process_alone


def _placed(
    loaded: Loaded, request: Request, media: Sequence[Media], counts: Sequence[MediaTokens], grids: KnownGrids
) -> tuple[PlacedMedia, ...]:
    """The media without their pixels, not yet located. Raises BadMedia for one that left no token in the prompt."""
    ids = loaded.placeholder_ids()
    out = []
    for part, medium, (tokens, seen_px), grid in zip(request.media_parts, media, counts, grids, strict=True):
        if tokens == 0:
            raise BadMedia(
                f"{part.param}: the {medium.kind} left no token in the prompt, so the model would not see it.",
                param=part.param,
            )
        placeholder = ids.get(placeholder_kind(loaded, medium), ids.get("image", -1))
        facts = medium.without_pixels()
        out.append(PlacedMedia(part, facts, placeholder, tokens, seen_px, has_pixels=grid is None))
    return tuple(out)


def _is_padded(inputs: dict[str, Any]) -> bool:
    """Whether pictures were padded to one size (idefics2): what the model sees of each depends on the others then."""
    mask = inputs.get("pixel_attention_mask")  # by pixel; LFM2-VL's is by patch, padded to the same number always
    return mask is not None and mask.ndim == 4 and not bool(np.array(mask).all())
