"""What bytes really are, told from their first bytes. The one place that knows signatures."""

from __future__ import annotations

from dataclasses import dataclass

from engine.media.containers import OGG_VIDEO, is_transport_stream
from engine.types import Kind

HEAD_BYTES = 4096
"""How much of a file `sniff` looks at."""

PICTURE_BRANDS = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"hevc": "HEIC", b"mif1": "HEIF"}
SOUND_BRANDS = {b"M4A ": "M4A", b"M4B ": "M4B"}
SIGNATURES: tuple[tuple[bytes, Kind, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image", "PNG"),
    (b"\xff\xd8\xff", "image", "JPEG"),
    (b"GIF87a", "image", "GIF"),
    (b"GIF89a", "image", "GIF"),
    (b"BM", "image", "BMP"),
    (b"II*\x00", "image", "TIFF"),
    (b"MM\x00*", "image", "TIFF"),
    (b"\x1aE\xdf\xa3", "video", "WebM/MKV"),
    (b"FLV\x01", "video", "FLV"),
    (b"\x00\x00\x01\xba", "video", "MPEG"),
    (b"\x00\x00\x01\xe0", "video", "MPEG"),
    (b"\x00\x00\x01\xb3", "video", "MPEG video"),
    (b"0&\xb2u\x8ef\xcf\x11", "video", "ASF/WMV"),
    (b"\x1f\x07\x00", "video", "DV"),
    (b"ID3", "audio", "MP3"),
    (b"fLaC", "audio", "FLAC"),
)
RIFF: dict[bytes, tuple[Kind, str]] = {
    b"WEBP": ("image", "WebP"),
    b"AVI ": ("video", "AVI"),
    b"WAVE": ("audio", "WAV"),
}


WORDS: dict[str, str] = {"image": "picture", "video": "clip", "audio": "sound"}


@dataclass(frozen=True, slots=True)
class Format:
    """kind None: nothing a model can be shown. name is for people: "PNG", "MP4", "text", "PDF"."""

    kind: Kind | None
    name: str


def sniff(data: bytes) -> Format:
    """Tell the format from the first bytes; data may be the head of a file (HEAD_BYTES is enough) or all of it."""
    head = data[:HEAD_BYTES]
    for signature, kind, name in SIGNATURES:
        if head.startswith(signature):
            return Format(kind, name)
    return _container(head) or _stream(head) or Format(None, _what_else(head))


def _container(head: bytes) -> Format | None:
    """Formats that say at bytes 4 to 12 what is inside."""
    if head[:4] == b"RIFF" and head[8:12] in RIFF:
        return Format(*RIFF[head[8:12]])
    if head[4:8] == b"ftyp":
        return _iso_media(head[8:12])
    if head.startswith(b"OggS"):
        is_clip = any(mark in head for mark in OGG_VIDEO)
        return Format("video", "Ogg video") if is_clip else Format("audio", "Ogg")
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof"):
        return Format("video", "MOV")
    return None


def _stream(head: bytes) -> Format | None:
    """Formats without a header, known by their sync bytes."""
    if is_transport_stream(head):
        return Format("video", "MPEG-TS")
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        return Format("audio", "MP3" if head[1] & 0x06 else "AAC")  # the two bits of the MPEG layer; AAC has none
    return None


def _iso_media(brand: bytes) -> Format:
    if brand in PICTURE_BRANDS:
        return Format("image", PICTURE_BRANDS[brand])
    if brand in SOUND_BRANDS:
        return Format("audio", SOUND_BRANDS[brand])
    return Format("video", "MOV" if brand == b"qt  " else "MP4")


def _what_else(head: bytes) -> str:
    """A name for what is no medium, so that the message can say what was sent instead."""
    if not head:
        return "empty"
    if head.startswith(b"%PDF"):
        return "a PDF document"
    text = head.lstrip()[:64].lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if text.startswith((b"<svg", b"<?xml")):
        return "an SVG or XML text"
    return "plain text" if _is_text(head) else "data of an unknown format"


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; a character cut off at the end of the head does not count against it."""
    if len(head) == HEAD_BYTES:
        head = head[: head.rfind(b" ") + 1] or head
    try:
        return b"\x00" not in head and bool(head.decode())
    except UnicodeDecodeError:
        return False


def mismatch(wanted: Kind, found: Format) -> str:
    """Why these bytes are not what the part says they are, and what to do."""
    word = WORDS[wanted]
    if found.kind is None:
        return f"this is not a {word}: the bytes are {found.name}"
    if wanted == "image" and found.kind == "video":
        return f"this is a clip ({found.name}), not a picture; send it as video_url"
    if wanted == "video" and found.kind == "image":
        return f"this is a still picture ({found.name}), not a clip; send it as image_url"
    return f"this is a {WORDS[found.kind]} ({found.name}), not a {word}"
