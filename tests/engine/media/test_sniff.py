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
        (b"\x00\x00\x00\x18ftyphevx", "image", "HEIC"),
        (b"\x00\x00\x00\x1cftypmif1\0\0\0\0mif1avifmiaf", "image", "AVIF"),
        (b"\x00\x00\x00\x1cftypmiaf\0\0\0\0miafMA1Bavif", "image", "AVIF"),
        (b"\x00\x00\x00\x1cftypmsf1\0\0\0\0msf1hevcheic", "image", "HEIC"),
        (b"\x00\x00\x00\x1cftypmif1\0\0\0\0mif1heic\0\0\0\0", "image", "HEIC"),
        (b"\x00\x00\x00\x14ftypmif1\0\0\0\0mif1avif", "image", "HEIF"),  # avif lies behind the box
        (b"\x00\x00\x00\x18ftypisom\0\0\0\0isomavif", "video", "MP4"),
        (b"II+\x00\x08\x00", "image", "TIFF"),
        (b"\x00\x00\x01\x00\x01\x00", "image", "ICO"),
        (b"\xff\x4f\xff\x51\x00", "image", "JPEG 2000"),
        (b"\xff\x0a\x00", "image", "JPEG XL"),
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
        (b"<?xml version='1.0'?><!-- drawn --><svg>", "an SVG drawing"),
        (b"<?xml version='1.0'?><rss>", "an XML text"),
        (b"\xef\xbb\xbf<html>", "an HTML page"),
        (b"<!-- saved --><html>", "an HTML page"),
        (b"<svg xmlns='...'>", "an SVG drawing"),
        (bytes(range(256)), "data of an unknown format"),
        ("Größe;1\n".encode("latin-1"), "a text whose encoding nothing says"),
        ("日本語".encode("shift-jis"), "a text whose encoding nothing says"),
        ("hello".encode("utf-16-le"), "a text whose encoding nothing says"),
        ("hello".encode("utf-16"), "a text whose encoding nothing says"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "a PostScript file"),
        (b"P6\n2 2\n255\n", "a Netpbm picture"),
        (b"DKIF\0\0", "an IVF clip"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "an old Office document"),
    ],
)
def test_what_is_no_medium_is_named(data: bytes, name: str) -> None:
    found = sniff(data)
    assert (found.kind, found.name) == (None, name)
