"""What is refused before anything is fetched: numbers out of range, media the model cannot take, too many of them."""

from __future__ import annotations

import math

import pytest

from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.runtime.intake.checks import check
from engine.types import Message, ModelCard, Part, Request, Sampling

SEES = ModelCard("m", "/m", "qwen3_vl", "float32", 1, 4, 4096, vision=True, video=True)
READS = ModelCard("m", "/m", "llama", "float32", 1, 4, 4096)


def with_media(*kinds: str) -> Request:
    parts = tuple(Part(kind, url="data:,x", param=f"parts[{i}]") for i, kind in enumerate(kinds))  # type: ignore[arg-type]
    return Request(messages=(Message("user", parts),))


@pytest.mark.parametrize(
    "wrong",
    [{"temperature": -0.1}, {"temperature": math.nan}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -1}, {"top_k": -2}],
)
def test_sampling_out_of_range_names_the_field(wrong: dict[str, float]):
    with pytest.raises(BadRequest) as caught:
        check(Request(sampling=Sampling(**wrong)), SEES, MediaLimits())  # type: ignore[arg-type]
    assert caught.value.param == next(iter(wrong)) and caught.value.status == 400


def test_the_ends_of_the_ranges_are_fine():
    check(Request(sampling=Sampling(temperature=0, top_p=1, min_p=0, top_k=0)), SEES, MediaLimits())
    check(Request(), SEES, MediaLimits())


def test_media_that_the_model_cannot_take():
    with pytest.raises(BadRequest, match=r"parts\[0\]: m cannot take image input"):
        check(with_media("image"), READS, MediaLimits())


def test_too_many():
    limits = MediaLimits(max_images=2, max_videos=0)
    check(with_media("image", "image"), SEES, limits)
    with pytest.raises(BadRequest, match="3 images were sent; the limit is 2"):
        check(with_media("image", "image", "image"), SEES, limits)
    with pytest.raises(BadRequest, match="limit is 0"):
        check(with_media("video"), SEES, limits)


@pytest.mark.parametrize("asked", [0, -2])
def test_an_answer_of_no_tokens(asked: int):
    with pytest.raises(BadRequest) as caught:
        check(Request(max_tokens=asked), SEES, MediaLimits())
    assert caught.value.param == "max_tokens"
