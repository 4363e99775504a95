"""What makes two pictures the same to the cache: their decoded pixels and their order, and nothing else.

The demo model answers where a wrong hit must be a wrong word. Each check has a twin in which the pixels are not part of
the key, and must go red there.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Response
from PIL import Image

from engine.config import CacheConfig, MediaLimits
from engine.prompt.cache_ids import cache_ids
from engine.types import Done, Message, Part, Request
from tests.engine.drive import GREEDY, ask, part
from tests.pictures import data_url, encode, picture

RED, BLUE = picture("red", size=(96, 96)), picture("blue", size=(96, 96))
QUESTION = "What color is the circle?"
Check = Callable[[Any, Path], Awaitable[None]]


async def about(engine: Any, tenant: str, *images: Part | Image.Image, text: str = QUESTION) -> tuple[str, Done]:
    """The answer about some pictures. tenant: keeps a test's prompts from another's."""
    parts = tuple(image if isinstance(image, Part) else part(image) for image in images)
    message = Message("user", (*parts, Part("text", text)))
    answer = await ask(engine, Request(messages=(message,), sampling=GREEDY, max_tokens=24, tenant=tenant))
    return answer.text, answer.done


async def swapped(engine: Any, tmp_path: Path) -> None:
    """Another picture under the same question, with the first one's answer in the cache."""
    assert "red" in (await about(engine, f"{tmp_path}", RED))[0]
    assert "red" in (await about(engine, f"{tmp_path}", RED))[0]
    assert "blue" in (await about(engine, f"{tmp_path}", BLUE))[0], "answered for the wrong picture"


async def renewed(engine: Any, tmp_path: Path) -> None:
    """The same file name with new content."""
    path = tmp_path / "shot.png"
    for image, word in ((RED, "red"), (BLUE, "blue"), (RED, "red")):
        image.save(path)
        text, _ = await about(engine, f"{tmp_path}", Part("image", path=str(path)))
        assert word in text, "answered for the wrong picture"


async def reordered(engine: Any, tmp_path: Path) -> None:
    """[A, B] is not [B, A]: of the second nothing but what stands before the pictures is reused."""
    _, first = await about(engine, f"{tmp_path}", RED, BLUE, text="Compare.")
    _, second = await about(engine, f"{tmp_path}", BLUE, RED, text="Compare.")
    _, again = await about(engine, f"{tmp_path}", RED, BLUE, text="Compare.")
    assert second.usage.cached_tokens < first.media[0].tokens, "answered for the wrong picture"
    assert again.usage.cached_tokens == again.usage.prompt_tokens - 1


async def one_pixel(engine: Any, tmp_path: Path) -> None:
    changed = RED.copy()
    changed.putpixel((50, 50), (1, 2, 3))
    _, first = await about(engine, f"{tmp_path}", RED)
    _, other = await about(engine, f"{tmp_path}", changed)
    assert other.usage.cached_tokens < first.media[0].tokens, "answered for the wrong picture"


CHECKS: list[Check] = [swapped, renewed, reordered, one_pixel]


@pytest.mark.parametrize("check", CHECKS)
async def test_pictures_are_told_apart(check: Check, demo_engine: Any, tmp_path: Path):
    await check(demo_engine, tmp_path)


@pytest.mark.parametrize("check", CHECKS)
async def test_sabotage_a_key_without_pixels_is_seen(
    check: Check, engine_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("engine.prompt.cache_ids.media_id", lambda content: -1)
    engine = await engine_for("demo", cache=CacheConfig(block_tokens=8))
    with pytest.raises(AssertionError, match="wrong picture"):
        await check(engine, tmp_path)


async def test_sabotage_a_key_without_order_is_seen(engine_for: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every placeholder stands for the set of all pictures, as where file hashes are sorted before they are joined."""

    def sorted_by_content(ids: Any, media: Any, **_: Any) -> list[int]:
        return cache_ids(ids, sorted(media, key=lambda placed: placed.content), told_apart=False)

    monkeypatch.setattr("engine.prompt.build.cache_ids", sorted_by_content)
    engine = await engine_for("demo", cache=CacheConfig(block_tokens=8))
    with pytest.raises(AssertionError, match="wrong picture"):
        await reordered(engine, tmp_path)


@pytest.fixture(scope="module")
def web(serve: Any) -> Iterator[str]:
    """A web server with the red picture under every name, as a PNG."""
    app = FastAPI()

    @app.get("/{name}")
    async def red(name: str) -> Response:
        return Response(encode(RED), media_type="image/png")

    with serve(app) as url:
        yield url


async def equal_pixels_share(engine: Any, web: str, tmp_path: Path) -> None:
    """By URL, base64 or path, under any name and in any lossless format; each way finds what each other has stored."""
    RED.save(tmp_path / "a.png")
    RED.save(tmp_path / "b.bmp")
    RED.convert("RGBA").save(tmp_path / "c.webp", lossless=True)
    ways = {
        "URL": Part("image", url=f"{web}/one.png"),
        "another URL": Part("image", url=f"{web}/two.jpg?size=large"),
        "base64": Part("image", url=data_url(encode(RED))),
        "base64 of another format": Part("image", url=data_url(encode(RED, "BMP"), "image/bmp")),
        "path": Part("image", path=str(tmp_path / "a.png")),
        "another path": Part("image", path=str(tmp_path / "b.bmp")),
        "with an alpha that hides nothing": Part("image", path=str(tmp_path / "c.webp")),
    }
    for first in ("URL", "base64", "path"):
        mine = f"{tmp_path} {first}"
        _, cold = await about(engine, mine, ways[first])
        assert cold.usage.cached_tokens == 0
        for name, way in ways.items():
            _, warm = await about(engine, mine, way)
            assert warm.usage.cached_tokens == warm.usage.prompt_tokens - 1, f"{name} after {first}"
            assert warm.media[0].sha256 == cold.media[0].sha256


@pytest.fixture
async def engine(engine_for: Any) -> Any:
    return await engine_for("demo", media=MediaLimits(allow_private_urls=True))


async def test_equal_pixels_share_however_they_come(engine: Any, web: str, tmp_path: Path):
    await equal_pixels_share(engine, web, tmp_path)


async def test_sabotage_a_key_of_anything_but_pixels_is_seen(
    engine: Any, web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("engine.media.image.content_sha256", lambda pixels: secrets.token_hex(32))
    with pytest.raises(AssertionError, match="base64 of another format after URL"):
        await equal_pixels_share(engine, web, tmp_path)
