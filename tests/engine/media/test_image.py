"""Pictures: what comes out is what a person would see, and what cannot be shown is refused in words."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.image import decode_image
from engine.media.read_medium import load_media
from engine.types import FrameSampling, Part
from engine.types.media import Media
from tests import pictures

PART = Part("image", param="messages[0].content[1].image_url.url")


def decode(image: Image.Image, kind: str = "PNG", **options: Any) -> Media:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return decode_image(PART, out.getvalue(), MediaLimits())


def halves(mode: str, left: Any, right: Any) -> Image.Image:
    """8 x 4 pixels, two colours side by side."""
    image = Image.new(mode, (8, 4), left)
    image.paste(right, (4, 0, 8, 4))
    return image


def test_plain_rgb() -> None:
    media = decode(halves("RGB", (255, 0, 0), (0, 0, 255)))
    assert media.kind == "image" and media.pixels.dtype == np.uint8
    assert media.pixels.shape == (4, 8, 3) and media.decoded_px == (8, 4)
    assert media.pixels[0, 0].tolist() == [255, 0, 0] and media.pixels[0, 7].tolist() == [0, 0, 255]
    assert media.frames == () and len(media.sha256) == 64


def test_equal_pixels_have_one_hash_whatever_the_file() -> None:
    image = pictures.picture()
    files = [decode(image, "PNG"), decode(image, "PNG", compress_level=0), decode(image, "BMP")]
    assert len({media.sha256 for media in files}) == 1
    assert len({media.num_bytes for media in files}) == 3
    assert decode(pictures.picture("blue")).sha256 != files[0].sha256


def test_the_shape_is_part_of_the_hash() -> None:
    assert decode(Image.new("RGB", (8, 4))).sha256 != decode(Image.new("RGB", (4, 8))).sha256


def test_transparency_lies_on_white() -> None:
    media = decode(halves("RGBA", (255, 0, 0, 255), (0, 0, 255, 0)))
    assert media.pixels[0, 0].tolist() == [255, 0, 0] and media.pixels[0, 7].tolist() == [255, 255, 255]
    assert decode(halves("RGBA", (0, 0, 0, 128), (0, 0, 0, 0))).pixels[0, 0].tolist() == [127, 127, 127]


def test_gray_with_alpha_and_a_transparent_palette() -> None:
    assert decode(halves("LA", (10, 255), (10, 0))).pixels[0].tolist()[0::7] == [[10] * 3, [255] * 3]
    palette = halves("RGB", (255, 0, 0), (0, 255, 0)).convert("P", palette=Image.Palette.ADAPTIVE)
    seen = decode(palette, "PNG", transparency=palette.getpixel((7, 0))).pixels
    assert seen[0, 0].tolist() == [255, 0, 0] and seen[0, 7].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_other_modes(mode: str) -> None:
    white_and_black = halves("RGB", (255, 255, 255), (0, 0, 0)).convert(mode)
    seen = decode(white_and_black, "TIFF").pixels
    assert seen[0, 0].min() > 250 and seen[0, 7].max() < 5


def test_16_bit_gray_is_scaled_not_cut_off() -> None:
    ramp = np.array([[0, 257, 32896, 65535]], np.uint16)
    media = decode(Image.fromarray(ramp))
    assert media.pixels[0, :, 0].tolist() == [0, 1, 128, 255]


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(BadMedia, match="16 bits per channel"):
        decode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")


def test_the_cameras_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to see it upright
    out = io.BytesIO()
    halves("RGB", (255, 0, 0), (0, 0, 255)).save(out, "PNG", exif=exif)
    media = decode_image(PART, out.getvalue(), MediaLimits())
    assert media.decoded_px == (4, 8)
    assert media.pixels[0, 0].tolist() == [255, 0, 0] and media.pixels[7, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    media = decode(frames[0], kind, save_all=True, append_images=frames[1:])
    assert media.pixels.shape == (8, 8, 3)
    red, _, blue = media.pixels[4, 4].tolist()
    assert red > 200 and blue < 60


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = pictures.encode(noise, kind)
    with pytest.raises(BadMedia, match=r"cannot be decoded|is damaged") as caught:
        decode_image(PART, data[: len(data) // 2], MediaLimits())
    assert caught.value.param == PART.param and PART.param in caught.value.message


def test_a_header_alone_is_refused() -> None:
    with pytest.raises(BadMedia):
        decode_image(PART, b"\x89PNG\r\n\x1a\n", MediaLimits())


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has width x height pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 20_000, 100_000])
def test_a_bomb_is_refused_by_its_header(side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(*_: Any) -> None:
        raise AssertionError("it was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoded)
    with pytest.raises(BadMedia, match="64,000,000 pixels"):
        decode_image(PART, bomb(side, side), MediaLimits())


def test_the_pixel_limit_is_exact() -> None:
    data = pictures.encode(Image.new("RGB", (20, 10)))
    assert decode_image(PART, data, MediaLimits(max_pixels=200)).decoded_px == (20, 10)
    with pytest.raises(BadMedia, match="20 x 10 pixels; at most 199"):
        decode_image(PART, data, MediaLimits(max_pixels=199))


def test_the_bytes_decide_not_the_declared_type() -> None:
    url = pictures.data_url(pictures.encode(pictures.picture(), "JPEG"), "image/png")
    media = load_media(Part("image", url=url), MediaLimits(), FrameSampling())
    assert media.decoded_px == (128, 96) and media.num_bytes > 0
