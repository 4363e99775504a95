"""A prompt with media through the model's own processor, and all that is changed about that processor meanwhile.

Upstream's processors are shared objects. For one prompt some of their attributes have other values: an image or video
processor is not asked about media whose grids are known, takes sizes as they are, or writes a clip's true times. This
is the one file that sets attributes on them (tests/test_layout.py holds it to that), and `overridden` sets them back
whatever happens. Engine thread only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import compress
from typing import Any

import numpy as np
from PIL import Image

from engine.errors import BadMedia
from engine.models.grids import ARRAY_NAMES, Grid
from engine.models.registry import Loaded
from engine.prompt.audio import sounds
from engine.prompt.expand import expanded
from engine.prompt.render import RenderedChat, adds_special_tokens
from engine.prompt.sizing import NO_LIMIT, own_budget
from engine.types import Kind
from engine.types.media import Media, Pixels

Processed = tuple[list[int], dict[str, Any]]
"""Token ids with placeholders expanded, and the processor's other arrays."""

KnownGrids = Sequence[Grid | None]
"""One per medium: its grid where its pixels are not to be read, else None. See engine.models.grids."""

PROCESSORS: dict[Kind, str] = {"image": "image_processor", "video": "video_processor"}


def process(loaded: Loaded, chat: RenderedChat, media: Sequence[Media], grids: KnownGrids = ()) -> Processed:
    """What the processor makes of a rendered chat and its media, one entry per placeholder in the text, in order.

    grids: () where all media are to be read. Raises BadMedia when the processor refuses them.
    """
    ids, inputs = loaded.control.read(chat.text, chat.aside, lambda text: _process_text(loaded, text, media, grids))
    if loaded.family.expands:
        inputs["input_ids"] = ids  # the model's own, see engine.prompt.expand
        ids = expanded(ids, loaded.placeholder_ids()["image"], inputs, loaded.config, loaded.family)
    return ids, {name: value for name, value in inputs.items() if value is not None}


def _process_text(loaded: Loaded, text: str, media: Sequence[Media], grids: KnownGrids) -> Processed:
    from mlx_vlm.utils import prepare_inputs

    if known := _known_pictures(loaded, text, media, grids):
        return known
    clips = _clips(loaded, media)
    try:
        with _overrides(loaded.processor, media, clips, grids or (None,) * len(media)):
            inputs = prepare_inputs(
                loaded.processor,
                images=_pictures(loaded, media) or None,
                videos=[np.transpose(_read(clip), (0, 3, 1, 2)) for clip in clips] or None,
                video_metadata=[_metadata(clip) for clip in clips] or None,
                audio=sounds(loaded, media) or None,
                prompts=text,
                image_token_index=getattr(loaded.adapter.model.config, "image_token_index", None),
                add_special_tokens=adds_special_tokens(loaded),
            )
    except (ValueError, TypeError, IndexError) as e:
        raise BadMedia(f"The model's processor refused the media: {e}", param="messages") from e
    ids = np.array(inputs.pop("input_ids")).reshape(-1)
    if loaded.family.numbered:
        ids = np.maximum(ids, loaded.placeholder_ids()["image"])  # one for all pictures: their order tells them apart
    return ids.tolist(), inputs


def _known_pictures(loaded: Loaded, text: str, media: Sequence[Media], grids: KnownGrids) -> Processed | None:
    """The same where all media are pictures whose grids are known: each one's placeholder as often as its grid says.

    The processor writes them into the text, picture by picture, and has each of them tokenized. None where it has to.
    """
    pictures = [grid for medium, grid in zip(media, grids, strict=False) if medium.kind == "image" and grid is not None]
    merge = getattr(getattr(loaded.processor, "image_processor", None), "merge_size", 0)
    if not merge or len(pictures) < len(media):
        return None
    import mlx.core as mx

    ids = np.array(loaded.processor.tokenizer.encode(text, add_special_tokens=adds_special_tokens(loaded)))
    is_picture = ids == loaded.placeholder_ids()["image"]
    if is_picture.sum() != len(pictures):
        return None
    repeats = np.ones(len(ids), np.int64)
    repeats[is_picture] = [t * h * w // merge**2 for t, h, w in pictures]
    return np.repeat(ids, repeats).tolist(), {ARRAY_NAMES["image"][1]: mx.array(pictures)}


def _pictures(loaded: Loaded, media: Sequence[Media]) -> list[Image.Image]:
    """Every picture, and every frame of a clip where the family has no video of its own."""
    out = []
    for medium in media:
        if medium.kind == "image":
            out.append(Image.fromarray(_read(medium)))
        elif medium.kind == "video" and not loaded.card.native_video:
            out += [Image.fromarray(frame) for frame in medium.pixels]
    return out


def _read(medium: Media) -> Pixels:
    """Its pixels; one black one per frame where there are none, which nobody looks at."""
    return medium.pixels if medium.has_pixels else medium.pixels[..., :1, :1, :]


def _clips(loaded: Loaded, media: Sequence[Media]) -> list[Media]:
    return [medium for medium in media if medium.kind == "video" and loaded.card.native_video]


def _metadata(clip: Media) -> dict[str, Any]:
    """What the processor writes timestamps from: true source indices and rate."""
    return {
        "total_num_frames": clip.num_source_frames,
        "fps": clip.source_fps,
        "frames_indices": [_even_index(index, time_s * clip.source_fps) for index, time_s in clip.frames],
        "duration": clip.duration_s,
    }


def _even_index(index: int, place: float) -> float:
    """Where a frame lies on an even timeline: its index, but for clips of uneven rate."""
    return index if abs(place - index) < 0.05 else place


# What is other about the processor while one prompt is read.


@contextmanager
def overridden(target: Any, **values: Any) -> Iterator[None]:
    """These attributes of an upstream object have these values inside the block, and their own again behind it."""
    own = {name: getattr(target, name) for name in values}
    try:
        for name, value in values.items():
            setattr(target, name, value)
        yield
    finally:
        for name, value in own.items():
            setattr(target, name, value)


@contextmanager
def _overrides(processor: Any, media: Sequence[Media], clips: list[Media], grids: KnownGrids) -> Iterator[None]:
    with ExitStack() as stack:
        for kind, name in PROCESSORS.items():
            inner = getattr(processor, name, None)
            of_kind = [grid for medium, grid in zip(media, grids, strict=True) if medium.kind == kind]
            if any(grid is not None for grid in of_kind):
                stack.enter_context(overridden(processor, **{name: _WithGrids(inner, kind, of_kind)}))
            if own_budget(inner) and any(medium.is_sized for medium in media if medium.kind == kind):
                stack.enter_context(overridden(inner, min_pixels=1, max_pixels=NO_LIMIT))
        video_processor = getattr(processor, "video_processor", None)
        if clips and hasattr(video_processor, "_sample_frames"):
            stack.enter_context(overridden(processor, video_processor=_TimedFrames(video_processor, clips)))
        yield


class _WithGrids:
    """Stands in for an image or video processor: of media whose grids are known it gives these and no patches, and the
    others it hands on."""

    def __init__(self, inner: Any, kind: Kind, grids: KnownGrids) -> None:
        self._inner = inner
        self._kind = kind
        self._grids = grids

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __call__(self, **arguments: Any) -> dict[str, Any]:
        patches, grids = ARRAY_NAMES[self._kind]
        found: dict[str, Any] = {patches: np.zeros((0, 1), np.float32), grids: np.zeros((0, 3), np.int64)}
        is_new = [grid is None for grid in self._grids]
        if any(is_new):
            # Lists have one entry per medium: the media themselves, and what is said of each.
            lists = {
                name: list(compress(value, is_new)) for name, value in arguments.items() if isinstance(value, list)
            }
            found = self._inner(**arguments | lists)
        rows = iter(np.array(found[grids]).tolist())
        return {**found, grids: np.array([next(rows) if grid is None else grid for grid in self._grids], np.int64)}


class _TimedFrames:
    """gemma4's video processor: it picks frames again from those it is given and lets their times begin at zero, at an
    even rate. Here it takes all frames, and says when they really were."""

    def __init__(self, video_processor: Any, clips: list[Media]) -> None:
        self._video_processor = video_processor
        self._times = [[time_s for _, time_s in clip.frames] for clip in clips]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._video_processor, name)

    def __call__(self, videos: Any, **settings: Any) -> dict[str, Any]:
        with overridden(self._video_processor, num_frames=max(len(times) for times in self._times)):
            return {**self._video_processor(videos, **settings), "frame_timestamps": self._times}
