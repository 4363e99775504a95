"""Pictures that move: a clip where the model takes clips, or the first frame with a word about it; a switch a part."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.document import with_documents, with_kinds
from engine.media.image import animation_frames
from engine.media.load import Steps, load_media
from engine.types import FrameSampling, Message, Part, Request
from engine.types.media import Media
from tests import pictures

LIMITS = MediaLimits()


def moving(kind: str, count: int = 12) -> bytes:
    first, *rest = pictures.numbered_frames(count)
    out = io.BytesIO()
    first.save(out, kind, save_all=True, append_images=rest, duration=500)
    return out.getvalue()


def loaded(data: bytes, *, takes_clips: bool = True, animated: bool | None = None, **fields: int) -> Media:
    part = Part("image", url=pictures.data_url(data), animated=animated, param="here", **fields)  # type: ignore[arg-type]
    return load_media(part, LIMITS, FrameSampling(), Steps(takes_clips=takes_clips))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_they_are_clips_where_the_model_takes_clips(kind: str) -> None:
    clip = loaded(moving(kind))
    assert clip.kind == "video" and clip.num_source_frames == 12 and clip.notes == ()
    assert clip.duration_s == pytest.approx(6.0)


@pytest.mark.parametrize(("takes_clips", "animated"), [(False, None), (False, False), (True, False)])
def test_else_the_first_frame_with_a_word_about_it(takes_clips: bool, animated: bool | None) -> None:
    picture = loaded(moving("GIF"), takes_clips=takes_clips, animated=animated)
    assert picture.kind == "image" and picture.notes == ("first of 12 frames",)


def test_what_cannot_be_a_clip_is_refused_where_it_must_be_one() -> None:
    with pytest.raises(BadMedia, match="here: animated is true, but this model takes no clips"):
        loaded(moving("GIF"), takes_clips=False, animated=True)
    with pytest.raises(BadMedia, match="here: animated is true, but this is a still picture"):
        loaded(pictures.encode(pictures.picture(), "GIF"), animated=True)
    assert loaded(moving("GIF"), animated=True).kind == "video"


def test_stills_stay_pictures() -> None:
    for kind in ("GIF", "WEBP", "PNG", "AVIF", "JPEG"):
        assert loaded(pictures.encode(pictures.picture(), kind)).kind == "image"
    pages = io.BytesIO()
    Image.new("L", (8, 8)).save(pages, "TIFF", save_all=True, append_images=[Image.new("L", (8, 8))])
    assert loaded(pages.getvalue()).kind == "image", "pages do not move"


def test_a_pictures_budget_holds_for_each_frame() -> None:
    clip = loaded(moving("GIF"), max_pixels=1000)
    assert clip.max_pixels == 1000 * len(clip.frames)
    assert loaded(moving("GIF")).max_pixels is None


@pytest.mark.parametrize(("kind", "count"), [("GIF", 12), ("WEBP", 12), ("PNG", 12), ("AVIF", 12), ("TIFF", 1)])
def test_frames_are_counted(kind: str, count: int) -> None:
    assert animation_frames(Part("image"), moving(kind), LIMITS) == count
    assert animation_frames(Part("image"), pictures.encode(pictures.picture(), kind), LIMITS) == 1


def test_a_request_calls_its_media_what_they_are() -> None:
    text, picture, gif = Part("text", text="?"), Part("image", url="data:,a"), Part("image", url="data:,b")
    request = Request(messages=(Message("user", (picture, text)), Message("assistant", (gif,))))
    still, clip = loaded(pictures.encode(pictures.picture())), loaded(moving("GIF"))
    assert with_kinds(request, (still, still)) is request
    seen = with_kinds(request, (still, clip))
    assert [part.kind for part in seen.media_parts] == ["image", "video"]
    assert seen.messages[0] == request.messages[0] and seen.messages[1].parts == (replace(gif, kind="video"),)


def test_documents_give_way_to_their_parts_in_order() -> None:
    def text(words: str) -> Part:
        return Part("text", text=words)

    document = Part("document", url="data:,")
    request = Request(messages=(Message("system", (document,)), Message("user", (text("a"), document, text("b")))))
    opened = with_documents(request, [(text("x"), text("y")), ()])
    assert [[part.text for part in message.parts] for message in opened.messages] == [["x", "y"], ["a", "b"]]
