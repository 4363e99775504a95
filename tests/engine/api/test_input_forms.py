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
    limits = MediaLimits(allow_private_urls=True, media_root=SAMPLES)
    engine = engine_pool.borrow(EngineConfig(media=limits))
    site = Starlette()
    site.mount("/", StaticFiles(directory=SAMPLES))
    with (
        serve(site) as files,
        serve(create_app(engine, ServerConfig())) as base,
        openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, timeout=120) as made,
    ):
        yield Client(made, files)


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
    import cv2

    capture = cv2.VideoCapture(str(SAMPLES / "moving-circle.mp4"))
    frames = []
    while (read := capture.read())[0]:
        frames.append(Image.fromarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)))
    urls = [pictures.data_url(pictures.encode(frame)) for frame in frames[:: len(frames) // 7][:8]]
    assert client.text("What happens in this video?", {"type": "video", "video": urls}) == MOVES
    backwards = client.text("What happens in this video?", {"type": "video", "video": urls[::-1]})
    assert backwards == MOVES.replace("right", "left")


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_an_animated_picture_as_a_clip(client: Client, kind: str) -> None:
    import cv2

    capture = cv2.VideoCapture(str(SAMPLES / "moving-circle.mp4"))
    frames = []
    while (read := capture.read())[0]:
        frames.append(Image.fromarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB)))
    out = io.BytesIO()
    frames[0].save(
        out, kind, save_all=True, append_images=frames[1:], duration=round(3000 / len(frames)), lossless=True
    )
    url = pictures.data_url(out.getvalue(), f"image/{kind.lower()}")
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
