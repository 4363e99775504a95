"""The frame sampler by itself: which indices, how many, and what it says about an impossible window."""

from __future__ import annotations

from itertools import pairwise

import pytest

from engine.media.frames import DEFAULT_MAX_FRAMES, Clip, choose_frames
from engine.types import FrameSampling

MINUTE = Clip.even(1800, 30.0)


def test_two_frames_per_second_by_default() -> None:
    chosen = choose_frames(Clip.even(300, 30.0), FrameSampling(), 768)
    assert len(chosen) == 20
    assert (chosen[0], chosen[-1]) == (0, 299)


def test_a_long_clip_is_cut_to_the_default_and_to_the_limit() -> None:
    hour = Clip.even(108_000, 30.0)
    assert len(choose_frames(hour, FrameSampling(), 768)) == DEFAULT_MAX_FRAMES
    assert len(choose_frames(hour, FrameSampling(max_frames=500), 100)) == 100


def test_more_than_64_frames_when_asked() -> None:
    assert len(choose_frames(MINUTE, FrameSampling(fps=4, max_frames=400), 768)) == 240


@pytest.mark.parametrize("fps", [0.5, 1, 2, 3, 7.3, 29.97, 100])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 17, 64, 999])
def test_always_even_ascending_and_inside(num_frames: int, fps: float) -> None:
    chosen = choose_frames(Clip.even(num_frames, 24.0), FrameSampling(fps=fps), 768)
    assert len(chosen) % 2 == 0 and len(chosen) >= 2
    assert chosen[0] >= 0 and chosen[-1] < num_frames
    assert num_frames == 1 or list(chosen) == sorted(set(chosen)), "no frame twice where there are enough"


def test_one_frame_is_shown_twice() -> None:
    assert choose_frames(Clip.even(1, 25.0), FrameSampling(), 768) == (0, 0)


def test_min_frames_raises_and_the_clip_bounds_it() -> None:
    assert len(choose_frames(MINUTE, FrameSampling(fps=0.01, min_frames=12), 768)) == 12
    assert choose_frames(Clip.even(3, 30.0), FrameSampling(min_frames=12), 768) == (0, 2)


def test_odd_limits_stay_limits() -> None:
    assert len(choose_frames(MINUTE, FrameSampling(fps=30, max_frames=7), 768)) == 6


def test_gaps_are_even() -> None:
    chosen = choose_frames(MINUTE, FrameSampling(fps=1), 768)
    gaps = {b - a for a, b in pairwise(chosen)}
    assert max(gaps) - min(gaps) <= 1


def test_a_window_in_seconds() -> None:
    chosen = choose_frames(MINUTE, FrameSampling(fps=1, start_s=10, end_s=20), 768)
    assert (chosen[0], chosen[-1], len(chosen)) == (300, 599, 10)


@pytest.mark.parametrize(("start_s", "end_s"), [(61, None), (10, 10), (20, 10), (-1, 5)])
def test_an_impossible_window_is_said(start_s: float, end_s: float | None) -> None:
    with pytest.raises(ValueError, match=r"start is at|stretch"):
        choose_frames(MINUTE, FrameSampling(start_s=start_s, end_s=end_s), 768)


def test_named_frames_are_taken_as_they_are():
    clip = Clip.even(10, 5.0)
    assert choose_frames(clip, FrameSampling(indices=(0, 3, 4, 9), fps=1.0, max_frames=2), 64) == (0, 3, 4, 9)
    assert choose_frames(clip, FrameSampling(indices=(2, 7, 8)), 64) == (2, 7, 8, 8)


@pytest.mark.parametrize("indices", [(), (3, 1), (1, 1), (-1, 2), (9, 10)])
def test_frames_that_cannot_be_named_are_refused(indices):
    with pytest.raises(ValueError, match="named once each, ascending, from 0 to 9"):
        choose_frames(Clip.even(10, 5.0), FrameSampling(indices=indices), 64)
    with pytest.raises(ValueError, match="at most 2"):
        choose_frames(Clip.even(10, 5.0), FrameSampling(indices=(1, 2, 3)), 2)
