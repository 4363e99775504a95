"""What bytes really are, told from their first bytes. The one place that knows signatures."""

from __future__ import annotations

from dataclasses import dataclass

from engine.media.containers import OGG_VIDEO, is_transport_stream
from engine.types import Kind

HEAD_BYTES = 4096
"""How much of a file `sniff` looks at."""

PICTURE_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"), "HEIC"),
    **dict.fromkeys((b"mif1", b"mif2", b"msf1", b"miaf"), "HEIF"),
}
"""https://github.com/nokiatech/heif, https://aomediacodec.github.io/av1-avif: what a file is may be said by its main
brand or by any that it is compatible with; HEIF is what AVIF and HEIC have in common, so it says the least."""
CLIP_BRANDS = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"qt  ", b"M4V ", b"3gp4", b"3gp5")
SOUND_BRANDS = {b"M4A ": "M4A", b"M4B ": "M4B"}
SIGNATURES: tuple[tuple[bytes, Kind, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image", "PNG"),
    (b"\xff\xd8\xff", "image", "JPEG"),
    (b"GIF87a", "image", "GIF"),
    (b"GIF89a", "image", "GIF"),
    (b"BM", "image", "BMP"),
    (b"II*\x00", "image", "TIFF"),
    (b"MM\x00*", "image", "TIFF"),
    (b"II+\x00", "image", "TIFF"),
    (b"MM\x00+", "image", "TIFF"),
    (b"\x00\x00\x01\x00", "image", "ICO"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "image", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "image", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image", "JPEG XL"),
    (b"\xff\x0a", "image", "JPEG XL"),
    (b"8BPS", "image", "Photoshop"),
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


PDF = "a PDF document"
SVG = "an SVG drawing"
OTHER_SIGNATURES = (
    (b"%PDF-", PDF),
    (b"PK\x03\x04", "a ZIP archive (Office documents are such)"),
    (b"\x1f\x8b", "packed data (gzip)"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document"),
    (b"{\\rtf", "a rich text (RTF)"),
    (b"%!PS", "a PostScript file"),
    (b"DKIF", "an IVF clip"),
    (b"YUV4MPEG2 ", "a Y4M clip"),
    (b"nut/multimedia container\0", "a NUT clip"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "an MXF clip"),
    (b".RMF", "a RealMedia clip"),
    (b"FWS", "a Flash film"),
    (b"CWS", "a Flash film"),
    (b"\x00\x00\x00\x01", "a bare H.264 or HEVC stream"),
    (b"DDS ", "a DDS picture"),
    (b"qoif", "a QOI picture"),
    (b"v/1\x01", "an OpenEXR picture"),
    (b"#?RADIANCE", "a Radiance HDR picture"),
    (b"gimp xcf ", "a GIMP picture"),
    *((b"P%d" % number + space, "a Netpbm picture") for number in range(1, 7) for space in (b"\n", b" ")),
)
TEXT_MARKS = {
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""First bytes of a text -> its encoding. The longer ones first: one is the beginning of another."""

OTHER_TEXT = "a text whose encoding nothing says"
CONTROLS = bytes(set(range(32)) - set(b"\t\n\f\r\x1b"))
HTML = "an HTML page"
WORDS: dict[str, str] = {"image": "picture", "video": "clip", "audio": "sound", "document": "document"}


@dataclass(frozen=True, slots=True)
class Format:
    """kind None: nothing a model can be shown. name is for people: "PNG", "MP4", "text", "PDF"."""

    kind: Kind | None
    name: str


MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "WebP": "image/webp",
    "AVIF": "image/avif",
    "HEIC": "image/heic",
    "MP4": "video/mp4",
    "WebM/MKV": "video/webm",
    "AVI": "video/x-msvideo",
    "MP3": "audio/mpeg",
    "WAV": "audio/wav",
    "FLAC": "audio/flac",
    PDF: "application/pdf",
    "plain text": "text/plain",
}
"""https://www.iana.org/assignments/media-types, by Format.name."""


def media_type(data: bytes) -> str:
    """The media type of a file, as its first bytes say; "application/octet-stream" for one that is not listed."""
    return MEDIA_TYPES.get(sniff(data).name, "application/octet-stream")


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
        return _iso_media(head)
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
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and not head.startswith(tuple(TEXT_MARKS)):
        return Format("audio", "MP3" if head[1] & 0x06 else "AAC")  # the two bits of the MPEG layer; AAC has none
    return None


def _iso_media(head: bytes) -> Format:
    """By the brands in the ftyp box: the main one, its version, and those that the file is compatible with."""
    size = int.from_bytes(head[:4])
    brand, others = head[8:12], [head[at : at + 4] for at in range(16, min(size, len(head)), 4)]
    if brand not in CLIP_BRANDS:
        names = {PICTURE_BRANDS[b] for b in (brand, *others) if b in PICTURE_BRANDS}
        for name in ("AVIF", "HEIC", "HEIF"):
            if name in names:
                return Format("image", name)
    if brand in SOUND_BRANDS:
        return Format("audio", SOUND_BRANDS[brand])
    return Format("video", "MOV" if brand == b"qt  " else "MP4")


def _what_else(head: bytes) -> str:
    """A name for what is no medium, so that the message can say what was sent instead."""
    if not head:
        return "empty"
    for signature, name in OTHER_SIGNATURES:
        if head.startswith(signature):
            return name
    if b"%PDF-" in head[:1024] and not _is_text(head):  # some writers put a few bytes before it
        return PDF
    if markup := _markup(head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()):
        return markup
    if _is_text(head):
        return "plain text"
    return OTHER_TEXT if _is_other_text(head) else "data of an unknown format"


def _markup(text: bytes) -> str:
    """text: in small letters. "" for what is none."""
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return HTML
    if not text.startswith(b"<"):
        return ""
    if b"<svg" in text:
        return SVG
    return HTML if b"<html" in text else "an XML text"


def _is_text(head: bytes) -> bool:
    """UTF-8 without control characters; a character cut off at the end of the head does not count against it."""
    if len(head) == HEAD_BYTES:
        head = head[: head.rfind(b" ") + 1] or head
    try:
        return b"\x00" not in head and bool(head.decode())
    except UnicodeDecodeError:
        return False


def _is_other_text(head: bytes) -> bool:
    """Letters of one or two bytes each, without control characters."""
    if any(head.startswith(mark) for mark in TEXT_MARKS):
        return True
    letters = next((head[at::2] for at in (0, 1) if head[1 - at :: 2].count(0) * 2 > len(head[1 - at :: 2])), head)
    return len(letters) > 1 and len(letters.translate(None, CONTROLS)) == len(letters)


ADVICE = {
    SVG: "; draw it as a PNG picture and send that",
    PDF: '; send it as {"type": "file", "file": {"file_data": ...}}',
}


def mismatch(wanted: Kind, found: Format) -> str:
    """Why these bytes are not what the part says they are, and what to do."""
    word = WORDS[wanted]
    if found.kind is None:
        advice = ADVICE.get(found.name, "")
        return f"this is not a {word}: the bytes are {found.name}{advice}"
    if wanted == "image" and found.kind == "video":
        return f"this is a clip ({found.name}), not a picture; send it as video_url"
    if wanted == "video" and found.kind == "image":
        return f"this is a still picture ({found.name}), not a clip; send it as image_url"
    return f"this is a {WORDS[found.kind]} ({found.name}), not a {word}"
