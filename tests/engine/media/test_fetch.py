"""data: URLs and files."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.fetch import read_part
from engine.types import Part

DATA = bytes(range(256)) + b"\xfb\xff\xfe"
LIMITS = MediaLimits()


def read(url: str, limits: MediaLimits = LIMITS) -> bytes:
    return read_part(Part("image", url=url, param="here"), limits)


def encoded(data: bytes = DATA) -> str:
    return base64.b64encode(data).decode()


def test_base64() -> None:
    assert read(f"data:image/png;base64,{encoded()}") == DATA
    assert read(f"data:;base64,{encoded()}") == DATA
    assert read(f"data:image/png; base64,{encoded()}") == DATA, "some clients write a space"
    assert read(f"data:image/png;name=a;BASE64 ,{encoded()}") == DATA
    assert read(f"  DATA:image/png;charset=x;BASE64,{encoded()}\n") == DATA


def test_what_browsers_forgive_is_forgiven() -> None:
    text = encoded()
    wrapped = "\r\n".join(text[i : i + 76] for i in range(0, len(text), 76))
    assert read(f"data:;base64,{wrapped}") == DATA
    assert read(f"data:;base64,{text.rstrip('=')}") == DATA
    assert read(f"data:;base64,{base64.urlsafe_b64encode(DATA).decode()}") == DATA
    assert read(f"data:;base64,{text.replace('+', '%2B').replace('/', '%2F').replace('=', '%3D')}") == DATA


@pytest.mark.parametrize("payload", ["AAAä", "!!!!", "abc$", "äöü=", "A", "{}", "AAAA,AAAA"])
def test_bad_base64_is_refused(payload: str) -> None:
    with pytest.raises(BadMedia, match="here: the data: URL is not valid base64"):
        read(f"data:image/png;base64,{payload}")


def test_percent_encoding() -> None:
    assert read("data:text/plain,a%20b%00") == b"a b\x00"


def test_no_comma() -> None:
    with pytest.raises(BadMedia, match="no comma"):
        read("data:image/png;base64")


def test_the_size_limit_is_exact_and_named() -> None:
    assert read(f"data:;base64,{encoded(bytes(300))}", MediaLimits(max_bytes=300)) == bytes(300)
    with pytest.raises(BadMedia, match="301 bytes; at most 300 bytes"):
        read(f"data:;base64,{encoded(bytes(301))}", MediaLimits(max_bytes=300))
    with pytest.raises(BadMedia, match="at most 3 bytes"):
        read("data:,abcd", MediaLimits(max_bytes=3))


@pytest.mark.parametrize(
    "url", ["", "ftp://host/a.png", "file:///etc/passwd", "/etc/passwd", "javascript:1", "iVBORw0KG"]
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(BadMedia, match="URL"):
        read(url)


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(DATA)
    assert read_part(Part("image", path=str(file)), LIMITS) == DATA
    with pytest.raises(BadMedia, match="at most 100 bytes"):
        read_part(Part("image", path=str(file)), MediaLimits(max_bytes=100))


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.png", tmp_path):
        with pytest.raises(BadMedia, match="there is no file") as caught:
            read_part(Part("image", path=str(path)), LIMITS)
        assert str(tmp_path.parent) not in caught.value.message, "the server's folders are nobody's business"
