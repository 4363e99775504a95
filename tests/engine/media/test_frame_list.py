"""frame_list: a list of pictures is a clip; every frame goes in, in order, with its time."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.read_medium import load_media
from engine.types import FrameSampling, Part
from engine.types.media import Media
from tests.engine.media.clips import coded_frame, read_number
from tests.pictures import data_url, encode

LIMITS = MediaLimits()
DEFAULT = FrameSampling()


def frame(number: int, size: tuple[int, int] = (160, 64)) -> Part:
    image = Image.fromarray(coded_frame(number)).resize(size)
    return Part("image", url=data_url(encode(image)), param=f"video[{number}]")


def load(count: int, frames: FrameSampling = DEFAULT, limits: MediaLimits = LIMITS) -> Media:
    return load_media(Part("video", parts=tuple(frame(i) for i in range(count))), limits, frames)


def numbers(media: Media) -> list[int]:
    assert [index for index, _ in media.frames] == [read_number(pixels) for pixels in media.pixels]
    return [index for index, _ in media.frames]


def test_every_frame_goes_in() -> None:
    media = load(6)
    assert (media.kind, media.decoded_px, media.num_source_frames) == ("video", (160, 64), 6)
    assert numbers(media) == list(range(6))
    assert [time_s for _, time_s in media.frames] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


@pytest.mark.parametrize(("count", "expected"), [(1, [0, 0]), (3, [0, 1, 2, 2])])
def test_an_odd_one_is_seen_twice_not_dropped(count: int, expected: list[int]) -> None:
    assert numbers(load(count)) == expected


def test_the_rate_of_the_list_gives_the_times() -> None:
    media = load(4, FrameSampling(list_fps=10.0))
    assert [time_s for _, time_s in media.frames] == [0.0, 0.1, 0.2, 0.3]
    assert (media.source_fps, media.duration_s) == (10.0, 0.4)


def test_fewer_if_asked_or_if_there_are_too_many() -> None:
    assert numbers(load(10, FrameSampling(max_frames=4))) == [0, 3, 6, 9]
    assert numbers(load(10, FrameSampling(start_s=1.0, end_s=3.0))) == [2, 3, 4, 5]
    assert len(numbers(load(70))) == 64


def test_one_bad_frame_is_named() -> None:
    parts = (frame(0), Part("image", url="data:image/png;base64,AAAA", param="video[1]"))
    with pytest.raises(BadMedia, match=r"video\[1\]"):
        load_media(Part("video", parts=parts), LIMITS, FrameSampling())
    with pytest.raises(BadMedia, match=r"video\[1\]: the frame has 80 x 32 pixels"):
        load_media(Part("video", parts=(frame(0), frame(1, (80, 32)))), LIMITS, FrameSampling())
    with pytest.raises(BadMedia, match="too many"):
        load(8, limits=MediaLimits(max_pixels=160 * 64))


def test_equal_frames_are_an_equal_clip() -> None:
    """The same content key however it came. Twin: another order is another clip."""
    assert load(4).sha256 == load(4, FrameSampling(list_fps=3.0)).sha256
    backwards = Part("video", parts=tuple(frame(i) for i in (3, 2, 1, 0)))
    assert load_media(backwards, LIMITS, FrameSampling()).sha256 != load(4).sha256
    assert np.array_equal(load(4).pixels[2], load(6).pixels[2])
