"""miniatures: made once, bounded, and forgotten when the engine has forgotten what they show."""

from __future__ import annotations

import pytest

from tests.pictures import encode, picture
from workbench import miniatures
from workbench.miniatures import Miniatures

PNG = encode(picture("red"))


class Thumbnails:
    """What an engine still knows."""

    def __init__(self) -> None:
        self.known = {"a", "b", "c", "d"}

    def get(self, content: str, frame: int | None = None) -> bytes | None:
        return PNG if content in self.known and (frame or 0) < 3 else None


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was encoded."""
    pngs: list[bytes] = []
    encode_url = miniatures._encode
    monkeypatch.setattr(miniatures, "_encode", lambda png: pngs.append(png) or encode_url(png))
    return pngs


def test_each_is_made_once_and_unknown_ones_are_left_out(made: list[bytes]) -> None:
    shown = Miniatures(Thumbnails().get)
    urls = shown.urls(["a", "b", "a", "nobody's"])
    assert list(urls) == ["a", "b"] and urls["a"].startswith("data:image/webp;base64,")
    assert shown.urls(["a", "b"]) == urls and len(made) == 2


def test_what_the_engine_forgot_is_forgotten_here(made: list[bytes]) -> None:
    engine = Thumbnails()
    shown = Miniatures(engine.get)
    assert shown.urls(["a"]) and shown.sheet("a", 3)
    engine.known.clear()
    assert (shown.urls(["a"]), shown.sheet("a", 3)) == ({}, None)
    assert (len(shown._urls), len(shown._sheets)) == (0, 0)


def test_a_sheet_needs_all_its_frames() -> None:
    shown = Miniatures(Thumbnails().get)
    assert shown.sheet("a", 3) == shown.sheet("a", 3) != shown.sheet("a", 2)
    assert shown.sheet("a", 4) is None and shown.sheet("a", 0) is None


def test_they_are_bounded(made: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(miniatures, "MAX_HELD", 2)
    shown = Miniatures(Thumbnails().get)
    assert len(shown.urls("abcd")) == 4 and len(shown._urls) == 2
