"""The chat types of vLLM's public multimodal client, through the real OpenAI client: each by URL and as base64, and the
answer is what is in the picture. https://docs.vllm.ai: openai_chat_completion_client_for_multimodal.py
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.staticfiles import StaticFiles

from engine.api.app import create_app
from engine.assets import asset
from engine.config import EngineConfig, MediaLimits, ServerConfig
from tests import pictures

SAMPLES = asset("samples")
MOVES = "A red circle moves to the right."
DIFFERS = "The first image shows a blue square, the second an orange square. The color differs."


@dataclass(frozen=True)
class Client:
    """The OpenAI client, and where the samples are served."""

    openai: openai.OpenAI
    site: str

    def say(self, question: str, *parts: dict[str, Any], **extra: Any) -> Any:
        content: Any = [{"type": "text", "text": question}, *parts] if parts else question
        answer = self.openai.chat.completions.create(
            model="demo",
            messages=[{"role": "user", "content": content}],
            max_completion_tokens=64,
            temperature=0,
            extra_body=extra,
        )
        return answer

    def text(self, question: str, *parts: dict[str, Any], **extra: Any) -> str:
        return self.say(question, *parts, **extra).choices[0].message.content

    def named(self, form: str, file: str) -> str:
        """The sample by URL, as base64 or as a path, in the forms that the server takes."""
        path = SAMPLES / file
        kind = "video/mp4" if file.endswith("mp4") else "image/png"
        return {
            "http": f"{self.site}/{file}",
            "data": f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}",
            "wrong type": f"data:image/gif;base64,{base64.b64encode(path.read_bytes()).decode()}",
            "path": str(path),
            "name": file,
            "file": f"file://{path}",
        }[form]


@pytest.fixture(scope="module")
def client(engine_pool: Any, serve: Callable[..., Any]) -> Iterator[Client]:
    limits = MediaLimits(allow_private_urls=True, media_root=SAMPLES, max_images=5)
    engine = engine_pool.borrow(EngineConfig(media=limits))
    site = Starlette()
    site.mount("/", StaticFiles(directory=SAMPLES))
    with (
        serve(site) as files,
        serve(create_app(engine, ServerConfig())) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, timeout=120) as made,
    ):
        yield Client(made, files)


def sample_frames() -> list[Image.Image]:
    """All frames of the sample clip."""
    import cv2

    capture = cv2.VideoCapture(str(SAMPLES / "moving-circle.mp4"))
    frames = []
    while (read := capture.read())[0]:
        frames.append(Image.fromarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)))
    return frames


FORMS = ("http", "data", "wrong type", "path", "name", "file")


def test_text_only(client: Client) -> None:
    assert client.text("Hello").startswith("Hello!")


@pytest.mark.parametrize("form", FORMS)
def test_single_image(client: Client, form: str) -> None:
    url = client.named(form, "circle.png")
    part = {"type": "image_url", "image_url": {"url": url}}
    assert client.text("What is in this image?", part) == "A large red circle in the center."
    assert client.text("What color is the circle?", {"type": "image", "image": url}) == "It is red."
    assert client.text("What color is the circle?", {"type": "image", "image": {"url": url}}) == "It is red."


@pytest.mark.parametrize("form", FORMS)
def test_multi_image(client: Client, form: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": client.named(form, f"pair-{x}.png")}} for x in "ab"]
    assert client.text("Compare these images.", *parts) == DIFFERS


@pytest.mark.parametrize("form", FORMS)
def test_video(client: Client, form: str) -> None:
    url = client.named(form, "moving-circle.mp4")
    for part in ({"type": "video_url", "video_url": {"url": url}}, {"type": "video", "video": url}):
        assert client.text("What happens in this video?", part) == MOVES


def test_a_list_of_frames(client: Client) -> None:
    """The same clip's frames as pictures, one after the other; backwards, it moves the other way."""
    frames = sample_frames()
    urls = [pictures.data_url(pictures.encode(frame)) for frame in frames[:: len(frames) // 7][:8]]
    assert client.text("What happens in this video?", {"type": "video", "video": urls}) == MOVES
    backwards = client.text("What happens in this video?", {"type": "video", "video": urls[::-1]})
    assert backwards == MOVES.replace("right", "left")


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animated_picture_as_a_clip(client: Client, kind: str) -> None:
    url = moving_circle(kind)
    assert client.text("What happens in this video?", {"type": "video_url", "video_url": {"url": url}}) == MOVES


def edited(change: Callable[[Image.Image], Image.Image], kind: str = "PNG", **settings: Any) -> str:
    """A red circle, changed and saved."""
    out = io.BytesIO()
    change(Image.open(SAMPLES / "circle.png").convert("RGB")).save(out, kind, **settings)
    return pictures.data_url(out.getvalue())


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(edited(lambda image: image.quantize(32)), id="palette"),
        pytest.param(edited(lambda image: image.convert("RGBA")), id="alpha"),
        pytest.param(edited(lambda image: image.convert("CMYK"), "JPEG", quality=95), id="cmyk"),
        pytest.param(edited(lambda image: image, "WEBP", lossless=True), id="webp"),
        pytest.param(edited(lambda image: image, "BMP"), id="bmp"),
        pytest.param(edited(lambda image: image, "TIFF"), id="tiff"),
        pytest.param(edited(lambda image: image, "AVIF", quality=95), id="avif"),
        pytest.param(edited(lambda image: image, "GIF"), id="gif"),
    ],
)
def test_pictures_of_every_make(client: Client, url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert client.text("What is in this image?", part) == "A large red circle in the center."


def test_ninety_six_frames(client: Client) -> None:
    """More than the default of 64; still understood."""
    url = client.named("http", "moving-circle.mp4")
    answer = client.say(
        "What happens in this video?", {"type": "video", "video": url}, video_fps=30, video_max_frames=96
    )
    (receipt,) = answer.usage.media
    source = Path(SAMPLES / "moving-circle.mp4").stat().st_size
    assert receipt["bytes"] == source
    assert 64 < len(receipt["frames"]) <= 96 and len(receipt["frames"]) % 2 == 0
    assert receipt["features"]["hits"] + receipt["features"]["misses"] in (0, len(receipt["frames"]) // 2)
    assert answer.choices[0].message.content == MOVES


def moving_circle(kind: str) -> str:
    """The sample clip as an animated picture."""
    frames = sample_frames()
    out = io.BytesIO()
    duration = round(3000 / len(frames))
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=duration, lossless=True)
    return pictures.data_url(out.getvalue(), f"image/{kind.lower()}")


def test_an_animated_picture_is_a_clip_unless_it_is_told_otherwise(client: Client) -> None:
    url = moving_circle("GIF")
    answer = client.say("What happens in this video?", {"type": "image_url", "image_url": {"url": url}})
    (receipt,) = answer.usage.media
    assert answer.choices[0].message.content == MOVES
    assert receipt["kind"] == "video" and len(receipt["frames"]) > 1 and receipt["notes"] == []
    still = {"type": "image_url", "image_url": {"url": url, "animated": False}}
    (receipt,) = client.say("What is in this image?", still).usage.media
    assert receipt["kind"] == "image" and receipt["notes"] == [f"first of {len(sample_frames())} frames"]


def test_a_still_picture_is_no_clip(client: Client) -> None:
    part = {"type": "image_url", "image_url": {"url": client.named("data", "circle.png"), "animated": True}}
    with pytest.raises(openai.BadRequestError, match="animated is true, but this is a still picture") as caught:
        client.text("What happens in this video?", part)
    assert caught.value.param == "messages[0].content[1].image_url.url"


def test_max_pixels_of_an_animated_picture_hold_for_each_frame(client: Client) -> None:
    image = {"url": moving_circle("GIF"), "max_pixels": 64 * 64}
    (receipt,) = client.say("What happens in this video?", {"type": "image_url", "image_url": image}).usage.media
    width, height = receipt["seen"]
    assert receipt["kind"] == "video" and 32 * 32 < width * height <= 64 * 64


def as_pdf(*files: str) -> str:
    """Samples as the pages of a PDF."""
    first, *rest = (Image.open(SAMPLES / file).convert("RGB") for file in files)
    out = io.BytesIO()
    first.save(out, "PDF", save_all=True, append_images=rest, resolution=72, quality=95)
    return pictures.data_url(out.getvalue(), "application/pdf")


def test_a_pdf(client: Client) -> None:
    file = {"filename": "drawing.pdf", "file_data": as_pdf("circle.png")}
    answer = client.say("What is in this image?", {"type": "file", "file": file})
    (receipt,) = answer.usage.media
    assert receipt["notes"] == ["drawing.pdf, page 1 of 1"] and receipt["kind"] == "image"
    assert receipt["param"] == "messages[0].content[1].file.file_data"
    assert "red circle" in answer.choices[0].message.content


def test_every_page_has_a_receipt_and_counts(client: Client) -> None:
    data = as_pdf(*["circle.png", "pair-a.png", "pair-b.png"] * 2)
    answer = client.say("Hello", {"type": "file", "file": {"file_data": data, "pages": "2-3,6"}})
    notes = [receipt["notes"] for receipt in answer.usage.media]
    assert notes == [[f"Document, page {number} of 6"] for number in (2, 3, 6)]
    with pytest.raises(openai.BadRequestError, match="6 pages are too many, at most 5 are allowed"):
        client.text("Hello", {"type": "file", "file": {"file_data": data}})
    three = {"type": "file", "file": {"file_data": data, "pages": "1-3"}}
    with pytest.raises(openai.BadRequestError, match="6 images were sent; the limit is 5"):
        client.text("Hello", three, three)


def test_a_text_file(client: Client) -> None:
    told = base64.b64encode(b"Hello").decode()
    answer = client.say("Read this.", {"type": "file", "file": {"filename": "a.txt", "file_data": told}})
    assert answer.usage.media == []
    bare = client.say("Read this.")
    assert answer.usage.prompt_tokens > bare.usage.prompt_tokens


def test_a_file_that_was_not_uploaded(client: Client) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot be uploaded") as caught:
        client.text("Hello", {"type": "file", "file": {"file_id": "file-abc"}})
    assert caught.value.param == "messages[0].content[1].file.file_id"


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_a_picture_in_a_message_of_another_role(client: Client, role: str) -> None:
    """The demo model's template shows it, so it is counted, and has its receipt."""
    picture = {"type": "image_url", "image_url": {"url": client.named("data", "circle.png")}}
    first = {"role": role, "content": [{"type": "text", "text": "Look."}, picture]}
    before = [] if role == "system" else [{"role": "user", "content": "Hello"}]
    messages: Any = [*before, first, {"role": "user", "content": "What is in this image?"}]
    answer = client.openai.chat.completions.create(
        model="demo", messages=messages, max_completion_tokens=32, temperature=0
    )
    (receipt,) = answer.usage.media  # type: ignore[union-attr]
    assert receipt["param"] == f"messages[{len(before)}].content[1].image_url.url" and receipt["tokens"] > 0
    assert "red circle" in (answer.choices[0].message.content or "")
