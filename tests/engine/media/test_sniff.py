"""Formats told from bytes."""

from __future__ import annotations

import pytest

from engine.media.sniff import sniff
from tests import pictures


@pytest.mark.parametrize("name", ["PNG", "JPEG", "GIF", "WebP", "BMP", "TIFF", "AVIF"])
def test_what_pillow_writes_is_known(name: str) -> None:
    found = sniff(pictures.encode(pictures.picture(), name))
    assert (found.kind, found.name) == ("image", name)


@pytest.mark.parametrize(
    ("head", "kind", "name"),
    [
        (b"\x00\x00\x00\x20ftypisom", "video", "MP4"),
        (b"\x00\x00\x00\x14ftypqt  ", "video", "MOV"),
        (b"\x00\x00\x00\x18ftypheic", "image", "HEIC"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio", "M4A"),
        (b"\x1aE\xdf\xa3\x01", "video", "WebM/MKV"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "video", "AVI"),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "audio", "WAV"),
        (b"OggS\x00", "audio", "Ogg"),
        (b"ID3\x03", "audio", "MP3"),
        (b"\xff\xfb\x90\x00", "audio", "MP3"),
        (b"\xff\xf1\x54\x40", "audio", "AAC"),
        (5 * (b"G" + bytes(187)), "video", "MPEG-TS"),
        (bytes(100) + 5 * (b"G" + bytes(187)), "video", "MPEG-TS"),
        (5 * (bytes(4) + b"G" + bytes(187)), "video", "MPEG-TS"),
    ],
)
def test_containers(head: bytes, kind: str, name: str) -> None:
    found = sniff(head)
    assert (found.kind, found.name) == (kind, name)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "empty"),
        (b"just some words", "plain text"),
        ("käse ".encode() * 2000, "plain text"),
        (b"#EXTM3U\nfile:///etc/passwd\n", "plain text"),
        (b"%PDF-1.7", "a PDF document"),
        (b"  <!DOCTYPE html><p>", "an HTML page"),
        (b"<svg xmlns='...'>", "an SVG or XML text"),
        (bytes(range(256)), "data of an unknown format"),
    ],
)
def test_what_is_no_medium_is_named(data: bytes, name: str) -> None:
    found = sniff(data)
    assert (found.kind, found.name) == (None, name)
