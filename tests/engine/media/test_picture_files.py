"""Picture files that people have, against values that were computed: bytes are packed here by hand where the library
that reads them would otherwise be asked about its own work."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Sequence
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
from tests import icc, pictures

PART = Part("image", param="messages[0].content[1].image_url.url")


def read(data: bytes) -> Media:
    return decode_image(PART, data, MediaLimits())


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def flat(colour: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (16, 16), colour)


# TIFF


def tiff(rows: np.ndarray, bits: int, *, white_is_zero: bool = False, is_signed: bool = False, pages: int = 1) -> bytes:
    """One uncompressed gray page (or the same several times) of this many bits per pixel, little-endian."""
    height, width = rows.shape
    if bits == 12:
        body = b"".join(_packed_12(row) for row in rows.tolist())
    else:
        body = rows.astype(f"<i{bits // 8}" if is_signed else f"<u{bits // 8}").tobytes()
    out = b"II*\0" + struct.pack("<I", 8 + len(body)) + body
    for page in range(pages):
        tags = [(256, width), (257, height), (258, bits), (259, 1), (262, 0 if white_is_zero else 1), (273, 8)]
        tags += [(277, 1), (278, height), (279, len(body)), (339, 2 if is_signed else 1)]
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        out += struct.pack("<I", len(out) + 4 if page < pages - 1 else 0)
    return out


def _packed_12(row: list[int]) -> bytes:
    row = row + [0] * (len(row) % 2)
    pairs = zip(row[::2], row[1::2], strict=True)
    return b"".join(bytes((a >> 4, (a & 15) << 4 | b >> 8, b & 255)) for a, b in pairs)


def big_tiff(rows: np.ndarray) -> bytes:
    """BigTIFF, 8 bit gray."""
    height, width = rows.shape
    body = rows.astype(np.uint8).tobytes() + bytes(-rows.size % 8)
    tags = [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 16), (277, 1), (278, height)]
    tags.append((279, rows.size))
    listed = b"".join(struct.pack("<HHQQ", tag, 4, 1, value) for tag, value in tags)
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16 + len(body))
    return head + body + struct.pack("<Q", len(tags)) + listed + bytes(8)


@pytest.mark.parametrize("bits", [8, 12, 16, 32])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_gray_of_any_depth_is_scaled_by_the_files_own_range(bits: int, white_is_zero: bool) -> None:
    top = 2**bits - 1
    shares = np.array([[0.0, 0.25, 0.5, 1.0]])
    seen = read(tiff(np.round(shares * top).astype(np.uint64), bits, white_is_zero=white_is_zero)).pixels[0, :, 0]
    expected = np.round((1 - shares[0] if white_is_zero else shares[0]) * 255)
    assert np.abs(seen.astype(int) - expected).max() <= 1, seen


def test_numbers_without_a_range_are_refused() -> None:
    with pytest.raises(BadMedia, match="16 bits per channel"):
        read(tiff(np.array([[-5, 100]]), 16, is_signed=True))


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_big_endian(white_is_zero: bool) -> None:
    tags = [(256, 2), (257, 1), (258, 16), (259, 1), (262, 0 if white_is_zero else 1), (273, 8), (278, 1), (279, 4)]
    data = b"MM\0*" + struct.pack(">I", 12) + struct.pack(">HH", 0, 257 * 200) + struct.pack(">H", len(tags))
    data += b"".join(struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in tags) + bytes(4)
    assert read(data).pixels[0, :, 0].tolist() == ([255, 55] if white_is_zero else [0, 200])


def test_big_tiff() -> None:
    rows = np.array([[0, 100, 200], [7, 8, 9]])
    assert read(big_tiff(rows)).pixels[..., 1].tolist() == rows.tolist()


def test_further_pages_are_said_to_be_left_out() -> None:
    rows = np.array([[1, 2]])
    (note,) = read(tiff(rows, 8, pages=3)).notes
    assert note.startswith("first of 3 pages")
    assert read(tiff(rows, 8)).notes == ()


def test_what_is_whole_but_not_read_is_not_called_damaged() -> None:
    with pytest.raises(BadMedia, match="its kind of pixels or compression is not read"):
        read(tiff(np.array([[1, 2]]), 64))


# BMP, ICO, JPEG 2000, HEIC, AVIF


def bmp(alpha: Sequence[int]) -> bytes:
    """2 x 1 pixels of 32 bits with an alpha mask: red and blue."""
    body = bytes((0, 0, 255, alpha[0], 255, 0, 0, alpha[1]))
    head = struct.pack("<IiiHHIIiiII", 108, 2, 1, 1, 32, 3, len(body), 2835, 2835, 0, 0)
    head += struct.pack("<4I4s", 0xFF0000, 0xFF00, 0xFF, 0xFF000000, b"BGRs") + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body


def test_alpha_that_nobody_wrote_is_not_transparent() -> None:
    assert read(bmp([0, 0])).pixels.tolist() == [[[255, 0, 0], [0, 0, 255]]]
    assert read(bmp([255, 0])).pixels.tolist() == [[[255, 0, 0], [255, 255, 255]]]


@pytest.mark.parametrize("kind", ["png", "bmp"])
def test_an_icon_is_its_largest_picture(kind: str) -> None:
    image = Image.new("RGBA", (64, 64), (10, 20, 200, 255))
    data = saved(image, "ICO", sizes=[(16, 16), (64, 64), (32, 32)], bitmap_format=kind)
    media = read(data)
    assert media.decoded_px == (64, 64) and media.pixels[5, 5].tolist() == [10, 20, 200]


def test_an_icon_hides_no_bomb() -> None:
    head = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    inner = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    icon = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(inner), 22) + inner
    with pytest.raises(BadMedia, match="64,000,000 pixels"):
        read(icon)


@pytest.mark.parametrize("no_jp2", [False, True])
def test_jpeg_2000(no_jp2: bool) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    assert read(saved(Image.fromarray(rows), "JPEG2000", no_jp2=no_jp2)).pixels.tolist() == rows.tolist()
    deep = np.tile(np.array([0, 257, 32896, 65535], np.uint16), (8, 2))
    assert read(saved(Image.fromarray(deep), "JPEG2000", no_jp2=no_jp2)).pixels[0, :4, 0].tolist() == [0, 1, 128, 255]


def heic(image: Image.Image, **options: Any) -> bytes:
    from pillow_heif import from_pillow

    out = io.BytesIO()
    from_pillow(image).save(out, quality=95, **options)
    return out.getvalue()


def two_halves() -> Image.Image:
    image = Image.new("RGB", (64, 32), (200, 30, 40))
    image.paste((20, 60, 180), (32, 0, 64, 32))
    return image


def test_heic() -> None:
    media = read(heic(two_halves()))
    assert media.decoded_px == (64, 32) and media.notes == ()
    assert np.abs(media.pixels[10, 5].astype(int) - (200, 30, 40)).max() <= 4
    assert np.abs(media.pixels[10, 60].astype(int) - (20, 60, 180)).max() <= 4


@pytest.mark.parametrize("brand", [b"heix", b"heim", b"mif1", b"msf1"])
def test_heic_by_all_its_brands(brand: bytes) -> None:
    data = heic(two_halves())
    url = pictures.data_url(data[:8] + brand + data[12:])
    media = load_media(Part("image", url=url), MediaLimits(), FrameSampling())
    assert np.abs(media.pixels[10, 5].astype(int) - (200, 30, 40)).max() <= 4


def test_heic_needs_no_entry_in_pillows_registry() -> None:
    """What is registered there is read by every other part of the process too, e.g. by the page."""
    read(heic(two_halves()))
    assert "pillow_heif" in sys.modules and "HEIF" not in Image.OPEN


@pytest.mark.parametrize("brand", [b"avif", b"mif1", b"miaf"])
def test_avif_by_all_its_brands(brand: bytes) -> None:
    data = saved(two_halves(), "AVIF", quality=95)
    url = pictures.data_url(data[:8] + brand + data[12:])
    media = load_media(Part("image", url=url), MediaLimits(), FrameSampling())
    assert np.abs(media.pixels[10, 5].astype(int) - (200, 30, 40)).max() <= 4


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG drawing; draw it as a PNG"),
        (b"\xff\x0a" + bytes(50), "JPEG XL files are not read"),
        (b"8BPS\0\1" + bytes(50), "Photoshop files are not read"),
        (b"\x00\x00\x01\x00\x00\x00", "damaged"),
    ],
)
def test_what_is_not_read_is_refused_by_its_name(data: bytes, words: str) -> None:
    with pytest.raises(BadMedia, match=words):
        load_media(Part("image", url=pictures.data_url(data)), MediaLimits(), FrameSampling())


# PNG and JPEG that are not quite whole


def chunk(name: bytes, body: bytes, *, is_sound: bool = True) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ (not is_sound))


def png(*extra: bytes, colour: tuple[int, int, int] = (9, 90, 200), is_sound: bool = True) -> bytes:
    """4 x 4 pixels of one colour, with these chunks before the pixels."""
    head = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(colour) * 4) * 4)
    body = chunk(b"IDAT", rows, is_sound=is_sound)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra) + body + chunk(b"IEND", b"")


LONG_TEXT = chunk(b"zTXt", b"mxfile\0\0" + zlib.compress(bytes(5_000_000)))
PROFILE = b"test\0\0" + zlib.compress(icc.matrix_profile(icc.SWAPPED, 2.2) + bytes(2_000_000))


@pytest.mark.parametrize(
    ("extra", "notes"),
    [
        pytest.param(LONG_TEXT, 0, id="a long text"),
        pytest.param(chunk(b"iTXt", b"XML\0\1\0\0\0" + zlib.compress(bytes(5_000_000))), 0, id="a long iTXt"),
        pytest.param(chunk(b"tEXt", b"a\0b", is_sound=False), 1, id="a wrong checksum in a text"),
        pytest.param(chunk(b"tIME", bytes(7), is_sound=False), 1, id="a wrong checksum in the time"),
        pytest.param(chunk(b"iCCP", b"x\0\0junk"), 0, id="a damaged profile"),
    ],
)
def test_what_a_png_does_not_need_does_not_spoil_it(extra: bytes, notes: int) -> None:
    media = read(png(extra))
    assert media.pixels[0, 0].tolist() == [9, 90, 200]
    assert len(media.notes) == notes and all("wrong checksum" in note for note in media.notes)


def test_a_large_profile_is_used() -> None:
    red, _, blue = read(png(chunk(b"iCCP", PROFILE))).pixels[0, 0].tolist()
    assert red > 180 and blue < 40, "the profile swaps red and blue"


def test_a_wrong_checksum_where_it_matters() -> None:
    """Pixels have a second checksum of their own (zlib's); the header has none."""
    assert read(png(is_sound=False)).notes == ("a checksum of its pixels is wrong",)
    with pytest.raises(BadMedia, match="its data is damaged"):
        read(png().replace(struct.pack(">II", 4, 4), struct.pack(">II", 4, 3)))


def test_a_damaged_animation_leaves_its_first_picture() -> None:
    frames = pictures.numbered_frames(3)
    data = saved(frames[0], "PNG", save_all=True, append_images=frames[1:])
    at = data.index(b"fdAT")
    media = read(data[: at + 20] + bytes([data[at + 20] ^ 1]) + data[at + 21 :])
    assert media.pixels.tolist() == np.asarray(frames[0]).tolist()
    assert "its animation is damaged" in media.notes


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_mark(progressive: bool, missing: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    data = saved(noise, "JPEG", progressive=progressive)
    media = read(data[:-missing])
    assert media.pixels.tolist() == read(data).pixels.tolist()
    assert media.notes == ("the file has no end mark, but all of its pixels",)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [3, 10, 400])
def test_a_jpeg_without_its_last_pixels_is_refused(progressive: bool, missing: int) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    with pytest.raises(BadMedia, match="it ends too early"):
        read(saved(noise, "JPEG", progressive=progressive)[:-missing])


# colours


@pytest.mark.parametrize(
    ("primaries", "gamma"),
    [
        pytest.param(icc.DISPLAY_P3, 2.2, id="Display P3"),
        pytest.param(icc.ADOBE_RGB, 563 / 256, id="Adobe RGB"),
        pytest.param(icc.SWAPPED, 2.2, id="red and blue swapped"),
        pytest.param(icc.SRGB, 1.0, id="linear"),
    ],
)
@pytest.mark.parametrize("colour", [(200, 100, 50), (30, 180, 90), (128, 128, 128), (255, 255, 255), (0, 0, 0)])
def test_colours_of_a_profile_are_seen_as_on_a_screen(
    primaries: np.ndarray, gamma: float, colour: tuple[int, int, int]
) -> None:
    profile = icc.matrix_profile(primaries, gamma)
    expected = icc.shown(colour, primaries, round(gamma * 256) / 256)
    for kind, options in {"PNG": {}, "TIFF": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100}}.items():
        media = read(saved(flat(colour), kind, icc_profile=profile, **options))
        assert np.abs(media.pixels[8, 8].astype(int) - expected).max() <= 3, (kind, media.pixels[8, 8], expected)
        assert media.notes == ()


def test_the_values_above_are_not_what_is_stored() -> None:
    """Else the tests above would be green without any conversion."""
    assert (
        max(abs(a - b) for a, b in zip(icc.shown((30, 180, 90), icc.DISPLAY_P3, 2.2), (30, 180, 90), strict=True)) > 9
    )


def srgb_curve(colour: tuple[int, int, int]) -> np.ndarray:
    """Bytes -> light, IEC 61966-2-1."""
    stored = np.array(colour) / 255
    return np.where(stored <= 0.04045, stored / 12.92, ((stored + 0.055) / 1.055) ** 2.4)


BT_2020 = np.array([[0.67348, 0.16567, 0.12505], [0.27904, 0.67534, 0.04562], [-0.00193, 0.02998, 0.79686]])


@pytest.mark.parametrize(("code", "primaries"), [(12, icc.DISPLAY_P3), (9, BT_2020), (1, icc.SRGB), (2, icc.SRGB)])
@pytest.mark.parametrize("colour", [(200, 100, 50), (30, 180, 90), (128, 128, 128)])
def test_colours_by_code_number(code: int, primaries: np.ndarray, colour: tuple[int, int, int]) -> None:
    expected = icc.encoded(primaries @ srgb_curve(colour))
    in_png = read(png(chunk(b"cICP", bytes((code, 13, 0, 1))), colour=colour)).pixels[0, 0]
    assert np.abs(in_png.astype(int) - expected).max() <= 2
    for whole in (saved(flat(colour), "AVIF", quality=100, subsampling="4:4:4"), heic(flat(colour), chroma=444)):
        data = with_codes(whole, code, 13)
        assert np.abs(read(data).pixels[8, 8].astype(int) - expected).max() <= 6


def with_codes(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


def test_hdr_is_said() -> None:
    note = "its brightness is HDR (PQ) and was read as if it were not"
    assert read(with_codes(saved(flat((9, 9, 9)), "AVIF"), 9, 16)).notes == (note,)
    assert read(png(chunk(b"cICP", bytes((9, 16, 0, 1))))).notes == (note,)


@pytest.mark.parametrize(("gamma", "stored", "seen"), [(1.0, 128, 188), (0.45455, 128, 128), (1 / 1.8, 128, 147)])
def test_gamma_of_a_png(gamma: float, stored: int, seen: int) -> None:
    """Half of the light is 188 in sRGB; with the exponent 1.8 it is (128/255)^1.8 = 0.289 of it, which is 147."""
    body = struct.pack(">I", round(gamma * 100_000))
    assert abs(int(read(png(chunk(b"gAMA", body), colour=(stored,) * 3)).pixels[0, 0, 0]) - seen) <= 2
    both = png(chunk(b"gAMA", body), chunk(b"sRGB", b"\0"), colour=(stored,) * 3)
    assert read(both).pixels[0, 0, 0] == stored, "that it is sRGB says more"


def test_srgb_by_any_name_changes_nothing() -> None:
    """So that a picture has one hash with and without its profile."""
    from PIL import ImageCms

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert read(saved(noise, "PNG", icc_profile=profile)).sha256 == read(saved(noise, "PNG")).sha256


def test_gray_with_a_profile() -> None:
    media = read(saved(flat((128,), "L"), "PNG", icc_profile=icc.gray_profile(1.0)))
    assert abs(int(media.pixels[0, 0, 0]) - 188) <= 1, "half of the light is 188 in sRGB"


def test_alpha_and_colours() -> None:
    image = flat((200, 40, 30, 255), "RGBA")
    image.paste((200, 40, 30, 0), (8, 0, 16, 16))
    media = read(saved(image, "PNG", icc_profile=icc.matrix_profile(icc.SWAPPED, 2.2)))
    red, _, blue = media.pixels[0, 0].tolist()
    assert blue > 180 and red < 40 and media.pixels[0, 15].tolist() == [255, 255, 255]


def test_cmyk_by_its_own_inks() -> None:
    """Inks whose colours are nothing like cyan and magenta, so that no formula would come near."""
    inks = {(0, 0, 0, 0): (255, 128, 128), (1, 0, 0, 0): (150, 160, 90), (0, 1, 0, 0): (200, 100, 180)}
    profile = icc.cmyk_profile(inks)
    for amounts, lab in inks.items():
        image = flat(tuple(255 * amount for amount in amounts), "CMYK")
        media = read(saved(image, "TIFF", icc_profile=profile))
        assert np.abs(media.pixels[0, 0].astype(int) - icc.lab_shown(lab)).max() <= 4, (amounts, media.pixels[0, 0])


def test_lab() -> None:
    media = read(saved(flat((150, 160, 90), "LAB"), "TIFF"))
    assert np.abs(media.pixels[0, 0].astype(int) - icc.lab_shown((150, 160, 90))).max() <= 4


@pytest.mark.parametrize("profile", [b"no profile at all", icc.gray_profile(1.0), icc.cmyk_profile({})])
def test_a_profile_that_does_not_fit_is_left_out_and_said_so(profile: bytes) -> None:
    media = read(saved(flat((10, 20, 30)), "PNG", icc_profile=profile))
    assert media.pixels[0, 0].tolist() == [10, 20, 30]
    assert media.notes == ("its colour profile is damaged or does not fit its pixels and was left out",)


# orientation


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize(
    ("orientation", "corner"),
    [(1, (0, 0)), (2, (0, 1)), (3, (1, 1)), (4, (1, 0)), (5, (0, 0)), (6, (0, 1)), (7, (1, 1)), (8, (1, 0))],
)
def test_orientation(kind: str, orientation: int, corner: tuple[int, int]) -> None:
    """The stored first corner is dark; where it must be seen follows from the tag's definition (EXIF 2.3, 4.6.4)."""
    image = Image.new("RGB", (64, 32), "white")
    image.paste((0, 0, 0), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    media = read(saved(image, kind, exif=exif))
    assert media.decoded_px == ((32, 64) if orientation > 4 else (64, 32))
    dark = [(y, x) for y in (0, 1) for x in (0, 1) if media.pixels[-4 if y else 4, -4 if x else 4].max() < 128]
    assert dark == [corner]


def test_xmp_turns_nothing() -> None:
    """No browser turns a picture by it."""
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert read(saved(two_halves(), "WEBP", xmp=xmp)).decoded_px == (64, 32)
    assert read(saved(two_halves(), "JPEG", xmp=xmp)).decoded_px == (64, 32)


# several, and damaged


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_the_first_of_several_frames_is_said_to_be_that(kind: str) -> None:
    frames = pictures.numbered_frames(12)
    media = read(saved(frames[0], kind, save_all=True, append_images=frames[1:]))
    assert media.notes == ("first of 12 frames",)


def every_kind() -> dict[str, bytes]:
    rows = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
    image = Image.fromarray(rows)
    profile = icc.matrix_profile(icc.DISPLAY_P3, 2.2)
    made = {kind: saved(image, kind, icc_profile=profile) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF")}
    made |= {kind: saved(image, kind) for kind in ("GIF", "BMP", "ICO", "JPEG2000")}
    made |= {"LZW": saved(image, "TIFF", compression="tiff_lzw"), "HEIC": heic(image)}
    first, *rest = pictures.numbered_frames(3)
    moving = ("GIF", "WEBP", "PNG", "AVIF")
    return made | {f"{kind} of frames": saved(first, kind, save_all=True, append_images=rest) for kind in moving}


@pytest.mark.parametrize("kind", every_kind())
def test_flipped_bits_end_in_a_picture_or_in_words(kind: str) -> None:
    """In every format, everywhere: no exception but BadMedia comes out."""
    whole, random = every_kind()[kind], np.random.default_rng(7)
    refused = 0
    for trial in range(120):
        data = bytearray(whole)
        # Half of them in the head, where the structure is.
        end = min(len(data), 400) if trial % 2 else len(data)
        for at in random.integers(0, end, 1 + trial % 4):
            data[at] ^= 1 << int(random.integers(8))
        try:
            decode_image(PART, bytes(data), MediaLimits(max_pixels=4_000_000))
        except BadMedia as error:
            assert error.message.startswith(PART.param)
            refused += 1
    assert refused or kind == "BMP", "nothing was damaged"
