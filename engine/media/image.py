"""Pictures: any common file to (H, W, 3) uint8 RGB in sRGB, as a browser would show it on a white page."""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from PIL import ExifTags, Image, ImageCms

from engine.config import MediaLimits
from engine.media import cicp
from engine.media.colour import DeepRange, narrowed, to_srgb
from engine.media.ico import largest
from engine.media.medium import bad_media, content_sha256
from engine.media.png import CleanPng, cleaned
from engine.media.sniff import sniff
from engine.media.tiff import TiffFile, deep_range
from engine.types import Crop, Part
from engine.types.media import Media, Pixels

READERS = {
    "PNG": "PIL.PngImagePlugin.PngImageFile",
    "JPEG": "PIL.JpegImagePlugin.JpegImageFile",
    "GIF": "PIL.GifImagePlugin.GifImageFile",
    "WebP": "PIL.WebPImagePlugin.WebPImageFile",
    "BMP": "PIL.BmpImagePlugin.BmpImageFile",
    "TIFF": "PIL.TiffImagePlugin.TiffImageFile",
    "AVIF": "PIL.AvifImagePlugin.AvifImageFile",
    "ICO": "PIL.IcoImagePlugin.IcoImageFile",
    "JPEG 2000": "PIL.Jpeg2KImagePlugin.Jpeg2KImageFile",
}
"""Only these decoders and HEIC's are ever run, by what the bytes are: Pillow knows others that start programs or are
seldom tested. Its registry is passed by, so that HEIC needs no entry in it, and its errors keep their reason."""

MANY = {"GIF": "frames", "WebP": "frames", "PNG": "frames", "AVIF": "frames", "HEIC": "pictures"}
"""What a file of more than one picture has more of."""

ANIMATION_MARKS = {"GIF": b"", "WebP": b"ANIM", "PNG": b"acTL", "AVIF": b"avis"}
"""Without these bytes it is a still, and need not be opened to tell."""

BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError),
    *(RuntimeError, AssertionError, struct.error, zlib.error, ImageCms.PyCMSError),
)
"""What Pillow and its plugins raise on damaged files, by experience; there is no class of its own for it."""

UNREADABLE = ("pixel mode", "supported", "cannot handle", "data organization", "image mode")
"""Words in an error that say: not damaged, only of a kind that is not read."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what makes the picture upright."""

JPEG_END = b"\xff\xd9"


@dataclass(slots=True)
class OpenPicture:
    """An open file: what it is, what its deep gray means, and what a person should know about how it was read."""

    image: Image.Image
    name: str
    deep: DeepRange = field(default_factory=DeepRange)
    notes: list[str] = field(default_factory=list)


def decode_image(part: Part, data: bytes, limits: MediaLimits) -> Media:
    """Decode a picture: the first of several, with a note. Raises BadMedia: unknown, truncated, too many pixels."""
    with decoding(part, "picture"):
        picture = open_picture(part, data, limits)
        _load(picture, data)
        # Counted after decoding: some decoders look at all frames for it, which may be damaged.
        picture.notes += _first_of_many(picture)
        pixels = _seen(part, picture)
    pixels, crop = _cropped(part, pixels)
    height, width = pixels.shape[:2]
    notes = tuple(dict.fromkeys(note for note in picture.notes if note))
    return Media("image", pixels, content_sha256(pixels), len(data), (width, height), notes=notes, crop=crop)


def _cropped(part: Part, pixels: Pixels) -> tuple[Pixels, Crop | None]:
    """The part of an upright picture that is asked for. Raises BadMedia where it does not lie inside."""
    if part.crop_px is None:
        return pixels, None
    (x, y, width, height), (whole_height, whole_width) = part.crop_px, pixels.shape[:2]
    if min(x, y) < 0 or min(width, height) < 1 or x + width > whole_width or y + height > whole_height:
        inside = f"the picture, which is {whole_width} x {whole_height} pixels"
        raise bad_media(part, f"the part of {width} x {height} pixels at {x}, {y} does not lie inside of {inside}")
    cut = np.ascontiguousarray(pixels[y : y + height, x : x + width])  # the whole is not kept for it
    return cut, Crop(x, y, (whole_width, whole_height))


def animation_frames(part: Part, data: bytes, limits: MediaLimits) -> int:
    """How many frames an animated picture has; 1 for a still, and for a file of pages."""
    mark = ANIMATION_MARKS.get(sniff(data).name)
    if mark is None or mark not in data:
        return 1
    with decoding(part, "picture"):
        return int(getattr(open_picture(part, data, limits).image, "n_frames", 1))


def open_checked(part: Part, data: bytes, limits: MediaLimits) -> Image.Image:
    """Open without decoding, and refuse a decompression bomb by the size its header declares."""
    return open_picture(part, data, limits).image


def open_picture(part: Part, data: bytes, limits: MediaLimits) -> OpenPicture:
    """The same, with what is known about the file."""
    name = sniff(data).name
    if name == "ICO":
        data = largest(data)
        name = "PNG" if sniff(data).name == "PNG" else name
    name = "HEIC" if name == "HEIF" else name
    if name not in (*READERS, "HEIC"):
        raise bad_media(part, "the picture is damaged or of a format that is not read (send PNG, JPEG or WebP)")
    picture = _opened(name, data)
    width, height = picture.image.size
    if width * height > limits.max_pixels:
        raise bad_media(part, f"{width} x {height} pixels; at most {limits.max_pixels:,} pixels are allowed")
    if min(width, height) < 1:
        raise bad_media(part, "the picture has no pixels")
    return picture


def _opened(name: str, data: bytes) -> OpenPicture:
    if name == "PNG":
        png = cleaned(data)
        image = _reader(name)(io.BytesIO(png.data))
        profile, note = _png_colours(png, image)
        if profile:
            image.info["icc_profile"] = profile
        return OpenPicture(image, name, notes=[*png.notes, note])
    deep, notes = DeepRange(), []
    if name == "TIFF":
        num_pages = len(TiffFile(data).pages())
        if num_pages > 1:
            notes = [f"first of {num_pages} pages; sent as a file, all of them are shown"]
        data, deep = deep_range(data)
    picture = OpenPicture(_reader(name)(io.BytesIO(data)), name, deep, notes)
    if name in ("AVIF", "HEIC") and "icc_profile" not in picture.image.info:
        picture.image.info["icc_profile"], note = cicp.profile_of(*cicp.of_heif(data))
        picture.notes.append(note)
    return picture


def _png_colours(png: CleanPng, image: Image.Image) -> tuple[bytes, str]:
    """Its profile and a note. What says most counts, and of the rest nothing: PNG 3, 4.3."""
    if png.codes is not None:
        return cicp.profile_of(*png.codes)
    if png.profile or "srgb" in image.info:
        return png.profile, ""
    return cicp.gamma_profile(image.info.get("gamma", 0)), ""


def _reader(name: str) -> Callable[[io.BytesIO], Image.Image]:
    """Imported when the first such file comes."""
    if name == "HEIC":
        from pillow_heif import HeifImageFile

        return cast(Callable[[io.BytesIO], Image.Image], HeifImageFile)
    module, _, reader = READERS[name].rpartition(".")
    return cast(Callable[[io.BytesIO], Image.Image], getattr(importlib.import_module(module), reader))


def _load(picture: OpenPicture, data: bytes) -> None:
    """Decode. A JPEG that lacks nothing but its end mark is decoded all the same."""
    try:
        picture.image.load()
    except OSError as error:
        if picture.name != "JPEG" or "truncated" not in str(error):
            raise
        # Bytes behind the last pixel change nothing: if these do, pixels are missing.
        ends = [io.BytesIO(data.rstrip(b"\xff") + fill * 64 + JPEG_END) for fill in (b"\x55", b"\xaa")]
        first, second = (_reader("JPEG")(end) for end in ends)
        if first.tobytes() != second.tobytes():  # this decodes them
            raise
        picture.image = first
        picture.notes.append("the file has no end mark, but all of its pixels")


def _first_of_many(picture: OpenPicture) -> Iterator[str]:
    if picture.name in MANY:
        with suppress(*BROKEN):
            count = int(getattr(picture.image, "n_frames", 1))
            if count > 1:
                yield f"first of {count} {MANY[picture.name]}"


def to_rgb(part: Part, image: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """As a browser shows it on white: (H, W, 3) uint8. For frames; their profile is the file's."""
    return _seen(part, OpenPicture(image, image.format or ""))


def _seen(part: Part, picture: OpenPicture) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Turned upright, deep gray narrowed, colours in sRGB, alpha laid on white: (H, W, 3) uint8."""
    image = _upright(picture.image)
    if image.mode.startswith("I") or image.mode == "F":
        narrow = narrowed(image, picture.deep)
        if narrow is None:
            why = f"pictures with {image.mode!r} pixels are not read (send 8 or 16 bits per channel)"
            raise bad_media(part, why)
        image = narrow
    image, alpha = _parted(image)
    if picture.name in ("BMP", "ICO") and alpha is not None and alpha.getextrema() == (0, 0):
        alpha = None  # a channel that nobody wrote
    rgb, note = to_srgb(image, picture.image.info.get("icc_profile") or b"")
    picture.notes.append(note)
    if alpha is not None:
        rgb.putalpha(alpha)
        rgb = Image.alpha_composite(Image.new("RGBA", rgb.size, "white"), rgb).convert("RGB")
    return np.array(rgb, dtype=np.uint8)


def _parted(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Colours (RGB, L, CMYK or LAB) and alpha (L), if there is any."""
    if not image.has_transparency_data:
        return image if image.mode in ("RGB", "L", "CMYK", "LAB") else image.convert("RGB"), None
    image = image.convert("LA" if image.mode.upper() in ("L", "LA") else "RGBA")
    return image.convert(image.mode[:-1]), image.getchannel("A")


def _upright(image: Image.Image) -> Image.Image:
    """By EXIF alone, as browsers do: Pillow would also look into XMP. A damaged block does not spoil the picture."""
    exif = Image.Exif()
    with suppress(*BROKEN):
        exif.load(image.info.get("exif") or b"")
        if image.format != "TIFF":  # which Pillow has turned already
            turn = TURNS.get(exif.get(ExifTags.Base.Orientation, 1))
            return image if turn is None else image.transpose(turn)
    return image


@contextmanager
def decoding(part: Part, what: str) -> Iterator[None]:
    """Turn what Pillow raises on damaged data into BadMedia."""
    try:
        yield
    except BROKEN as error:
        words = str(error).lower()
        if any(word in words for word in UNREADABLE):
            why = "its kind of pixels or compression is not read (send PNG or JPEG)"
        else:
            why = "it ends too early" if "truncated" in words else "its data is damaged"
        raise bad_media(part, f"the {what} cannot be decoded: {why}") from error
    except MemoryError as error:
        raise bad_media(part, f"the {what} does not fit in memory") from error
