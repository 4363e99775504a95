"""Pixels as a player shows them: matrices, ranges, depths, HDR, turned, mirrored, squeezed, interlaced, transparent.

What is expected is computed here, from the recommendations' own numbers, and not read back from a library.
"""

from __future__ import annotations

import io
import itertools
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.moving import decode_moving
from engine.types import FrameSampling, Part
from engine.types.media import Media
from tests.engine.media.clip_writer import EVEN, RECIPES, X264, Recipe, write
from tests.engine.media.clips import burnt, read_burnt

CLIP = Part("video", param="here")
LOSSLESS = Recipe("matroska", "ffv1", size=(64, 48))
WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087), 9: (0.2627, 0.0593)}
"""Red's and blue's share of luma by H.273's number: BT.709, BT.601 (twice), SMPTE 240M, BT.2020."""

TINTS = (
    (0, 0, 0),
    (255, 255, 255),
    (128, 128, 128),
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (200, 120, 40),
    (30, 90, 220),
)
PQ, HLG, BT2020 = 16, 18, 9


def decode(data: bytes, **frames: Any) -> Media:
    return decode_moving(CLIP, data, MediaLimits(), FrameSampling(**frames))


def encoded_colour(rgb: Any, matrix: int, *, full: bool, bits: int) -> list[int]:
    """Y, Cb, Cr of R'G'B' in 0..1 (ITU-R BT.601, 709, 2020: the same formulas with other weights)."""
    red, blue = WEIGHTS[matrix]
    r, g, b = (float(x) for x in rgb)
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = (b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)
    unit = 1 << (bits - 8)
    if full:
        most = 256 * unit - 1
        return [round(luma * most), *(min(most, round(c * most + 128 * unit)) for c in chroma)]
    return [round((16 + 219 * luma) * unit), *(round((128 + 224 * c) * unit) for c in chroma)]


def flat(values: list[int], pix_fmt: str, size: tuple[int, int], **tags: int) -> av.VideoFrame:
    """A frame of one colour, its planes as they are."""
    frame = av.VideoFrame(*size, pix_fmt)
    for plane, value in zip(frame.planes, values, strict=True):
        kind = np.uint16 if "10" in pix_fmt else np.uint8
        plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
    for name, value in tags.items():
        setattr(frame, name, value)
    return frame


def shown(colours: Any, recipe: Recipe, pix_fmt: str, **tags: int) -> np.ndarray:
    """(N, 3): what is seen of a clip with one flat frame for each of the stored colours."""
    tagged = recipe.but(pix_fmt=pix_fmt, colours=tags, times_s=EVEN[: len(colours)])
    media = decode(write(tagged, [flat(c, pix_fmt, recipe.size, **tags) for c in colours]), fps=1e308)
    assert [index for index, _ in media.frames] == list(range(len(colours)))
    middle = media.pixels[:, recipe.size[1] // 2, recipe.size[0] // 2]
    assert np.abs(media.pixels.astype(int) - middle[:, None, None]).max() <= 1, "flat is flat"
    return middle.astype(int)


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("bits", [8, 10])
def test_matrix_and_range(matrix: int, full: bool, bits: int) -> None:
    stored = [encoded_colour(np.array(tint) / 255, matrix, full=full, bits=bits) for tint in TINTS]
    pix_fmt = "yuv420p" if bits == 8 else "yuv420p10le"
    seen = shown(stored, LOSSLESS, pix_fmt, colorspace=matrix, color_range=2 if full else 1)
    assert np.abs(seen - np.array(TINTS)).max() <= 4


@pytest.mark.parametrize(("size", "matrix"), [((720, 576), 6), ((640, 720), 1), ((1280, 536), 1)])
def test_what_says_no_matrix(size: tuple[int, int], matrix: int) -> None:
    """As players: BT.601 for small ones, BT.709 for large ones. Twin: the other matrix gives another colour."""
    tints = TINTS[3:7]
    stored = [encoded_colour(np.array(tint) / 255, matrix, full=False, bits=8) for tint in tints]
    assert np.abs(shown(stored, LOSSLESS.but(size=size), "yuv420p") - np.array(tints)).max() <= 4
    other = [encoded_colour(np.array(tint) / 255, 7 - matrix, full=False, bits=8) for tint in tints]
    assert np.abs(shown(other, LOSSLESS.but(size=size), "yuv420p") - np.array(tints)).max() > 8


def srgb(light: np.ndarray) -> np.ndarray:
    light = np.clip(light, 0, 1)
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def on_screen(nits: np.ndarray) -> np.ndarray:
    """Light of a 1000 cd/m2 picture, BT.2020 linear RGB, as sRGB: BT.2087's matrix, Reinhard's curve, white at 203."""
    to_709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
    light = np.maximum(nits / 203 @ to_709.T, 0)
    most = light.max(axis=1, keepdims=True)
    return srgb(light * (1 + most / (1000 / 203) ** 2) / (1 + most))


LIGHTS = np.array(
    [[0, 0, 0], [1, 1, 1], [50, 50, 50], [203, 203, 203], [1000, 1000, 1000], [100, 0, 0], [20, 80, 40.0], [0, 0, 9]]
)


def test_pq() -> None:
    """SMPTE ST 2084 as BT.2100 has it."""
    share = (LIGHTS / 10_000) ** (2610 / 16384)
    code = ((3424 / 4096 + 2413 / 128 * share) / (1 + 2392 / 128 * share)) ** (2523 / 32)
    stored = [encoded_colour(c, BT2020, full=False, bits=10) for c in code]
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": PQ, "color_range": 1}
    seen = shown(stored, LOSSLESS, "yuv420p10le", **tags)
    assert np.abs(seen - on_screen(LIGHTS)).max() <= 6
    assert seen[4].min() >= 254, "the brightest is white"
    plain = shown(stored, LOSSLESS, "yuv420p10le", **(tags | {"color_trc": 1, "color_primaries": 1}))
    assert np.abs(plain - on_screen(LIGHTS)).max() > 40, "twin: taken for an ordinary picture, it is another"


def test_hlg() -> None:
    """BT.2100, table 5: scene light from screen light (gamma 1.2 at 1000 cd/m2), then the curve."""
    luminance = LIGHTS @ np.array([0.2627, 0.6780, 0.0593]) / 1000
    with np.errstate(divide="ignore", invalid="ignore"):
        scene = np.nan_to_num(LIGHTS / 1000 * luminance[:, None] ** (1 / 1.2 - 1))
        high = 0.17883277 * np.log(12 * scene - 0.28466892) + 0.55991073
        code = np.where(scene <= 1 / 12, np.sqrt(3 * scene), high)
    stored = [encoded_colour(c, BT2020, full=False, bits=10) for c in code]
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": HLG, "color_range": 1}
    assert np.abs(shown(stored, LOSSLESS, "yuv420p10le", **tags) - on_screen(LIGHTS)).max() <= 6


def test_wide_colours_without_hdr() -> None:
    """BT.2020 primaries: grey stays grey, and a green that sRGB has not got becomes its greenest."""
    stored = [encoded_colour(np.array(c) / 255, BT2020, full=False, bits=10) for c in ((128, 128, 128), (0, 255, 0))]
    tags = {"colorspace": BT2020, "color_primaries": BT2020, "color_trc": 14, "color_range": 1}
    seen = shown(stored, LOSSLESS, "yuv420p10le", **tags)
    assert np.abs(seen[0] - 128).max() <= 2 and seen[1].tolist() == pytest.approx([0, 255, 0], abs=2)


@pytest.mark.parametrize(("matrix", "fmt"), [(8, "yuv420p"), (10, "yuv420p"), (14, "yuv420p10le")])
def test_a_matrix_that_cannot_be_converted_is_refused(matrix: int, fmt: str) -> None:
    with pytest.raises(
        BadMedia, match=f"here: the clip's colours are stored in a way that is not read .*matrix {matrix}"
    ):
        shown([[128, 128, 128]], LOSSLESS, fmt, colorspace=matrix)


def test_rgb_and_gray() -> None:
    pictures = [np.full((48, 64, 3), tint, np.uint8) for tint in TINTS]
    recipe = Recipe("mov", "png", "rgb24", size=(64, 48), times_s=EVEN[: len(TINTS)])
    assert (decode(write(recipe, pictures), fps=1e308).pixels[:, 5, 5] == np.array(TINTS)).all()
    stored = [[128], [16], [235], [0]]
    assert np.abs(shown(stored, LOSSLESS, "gray", color_range=2)[:, 0] - [128, 16, 235, 0]).max() <= 2


@pytest.mark.parametrize(
    ("format", "encoder", "pix_fmt"),
    [
        ("mov", "png", "rgba"),
        ("mov", "qtrle", "argb"),
        ("mov", "prores_ks", "yuva444p10le"),
        ("webm", "libvpx-vp9", "yuva420p"),
        ("webm", "libvpx", "yuva420p"),
    ],
)
def test_alpha_lies_on_white(format: str, encoder: str, pix_fmt: str) -> None:
    """As the pictures' does: red that half covers is pink, and what is not there is white."""
    rgba = np.zeros((48, 96, 4), np.uint8)
    rgba[:, :32], rgba[:, 32:64], rgba[:, 64:] = (200, 30, 30, 255), (200, 30, 30, 128), (10, 20, 30, 0)
    frames = [av.VideoFrame.from_ndarray(rgba, format="rgba").reformat(format=pix_fmt) for _ in range(4)]
    settings = (
        {"profile": "4"} if encoder == "prores_ks" else {"b": "2M", "auto-alt-ref": "0"} if "vpx" in encoder else {}
    )
    recipe = Recipe(format, encoder, pix_fmt, size=(96, 48), times_s=EVEN[:4], codec=settings)
    middle = decode(write(recipe, frames)).pixels[0][24, [16, 48, 80]].astype(int)
    expected = np.array([(200, 30, 30), (227, 142, 142), (255, 255, 255)])
    assert np.abs(middle - expected).max() <= 12


def matrix_of(transposed: bool, across: bool, down: bool) -> tuple[list[int], Any]:
    """A display matrix (ISO/IEC 14496-12, 8.3.2: x' = a x + c y, y' = b x + d y) and what it does to an array."""
    one = 1 << 16
    x, y = (-one if across else one), (-one if down else one)
    matrix = [0, y, 0, x, 0, 0, 0, 0, 1 << 30] if transposed else [x, 0, 0, 0, y, 0, 0, 0, 1 << 30]

    def turn(picture: np.ndarray) -> np.ndarray:
        picture = picture.swapaxes(0, 1) if transposed else picture
        return picture[:: -1 if down else 1, :: -1 if across else 1]

    return matrix, turn


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("how", list(itertools.product([False, True], repeat=3)), ids=str)
def test_turned_and_mirrored(container: str, how: tuple[bool, bool, bool]) -> None:
    matrix, turn = matrix_of(*how)
    recipe = RECIPES["MP4", "H.264"].but(format=container, times_s=EVEN[:8], display_matrix=tuple(matrix))
    media = decode(write(recipe), indices=(0, 5))
    for pixels, number in zip(media.pixels, (0, 5), strict=True):
        expected = turn(burnt(number, EVEN[number]))
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() < 8
    assert media.decoded_px == ((96, 320) if how[0] else (320, 96))


@pytest.mark.parametrize(
    "row", [("MP4", "H.264"), ("MKV", "H.264"), ("MPEG-TS", "H.264"), ("MPEG", "MPEG-2")], ids=" ".join
)
@pytest.mark.parametrize("aspect", [Fraction(2), Fraction(1, 2)], ids=str)
def test_pixels_that_are_not_square(row: tuple[str, str], aspect: Fraction) -> None:
    if row == ("MPEG", "MPEG-2"):  # it stores the picture's aspect: 320 x 96 has no such one
        aspect, size, expected = Fraction(64, 45), (720, 576), (1024, 576)
    else:
        size, expected = (320, 96), (640, 96) if aspect > 1 else (320, 192)
    media = decode(write(RECIPES[row].but(aspect=aspect, size=size, times_s=EVEN[:12])), indices=(0, 7))
    assert media.decoded_px == expected == media.pixels.shape[2:0:-1]
    assert [read_burnt(frame)[0] for frame in media.pixels] == [0, 7]


@pytest.mark.parametrize("size", [(161, 65), (33, 129), (17, 17)])
@pytest.mark.parametrize(
    ("format", "encoder", "pix_fmt"),
    [
        ("matroska", "ffv1", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("avi", "mjpeg", "yuvj420p"),
        ("mp4", "libx264", "yuv444p"),
    ],
)
def test_odd_sizes(size: tuple[int, int], format: str, encoder: str, pix_fmt: str) -> None:
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:, : width // 2], picture[: height // 4] = (220, 40, 40), (40, 40, 220)
    recipe = Recipe(format, encoder, pix_fmt, size=size, times_s=EVEN[:4])
    media = decode(write(recipe, [picture] * 4))
    assert media.pixels.shape[1:] == (height, width, 3)
    assert np.abs(media.pixels[0].astype(int) - picture).mean() < 16


INTERLACED = {"flags": "+ilme+ildct"}


def fields(number: int, size: tuple[int, int] = (320, 96)) -> np.ndarray:
    """The burnt frame with a bar in the top band that has moved on in the lower field."""
    frame = burnt(number, EVEN[number], size)
    for field in (0, 1):
        left = 16 * (2 * number + field) % (size[0] - 32)
        frame[field : size[1] // 3 : 2] = 40
        frame[field : size[1] // 3 : 2, left : left + 24] = 220
    return frame


def comb(frame: np.ndarray) -> float:
    """How much neighbouring rows of the top band differ from the one between."""
    band = frame[2 : frame.shape[0] // 3 - 2].astype(int)
    return float(np.abs(2 * band[1:-1] - band[:-2] - band[2:]).mean())


@pytest.mark.parametrize(
    ("container", "encoder", "settings"),
    [
        ("mp4", "libx264", X264 | INTERLACED | {"x264-params": "tff=1:bframes=2"}),
        ("mpegts", "libx264", X264 | INTERLACED | {"x264-params": "tff=1:bframes=2"}),
        ("mpegts", "mpeg2video", INTERLACED | {"b": "8M", "bf": "2"}),
    ],
)
def test_interlaced(container: str, encoder: str, settings: dict[str, str]) -> None:
    """Right numbers at the ends and in the middle, and no comb. Twin: as stored, there is one."""
    recipe = Recipe(container, encoder, times_s=EVEN[:30], codec=settings, colours={"field_order": 2})
    data = write(recipe, [_marked(fields(number)) for number in range(30)])
    chosen = (0, 1, 13, 14, 28, 29)
    media = decode(data, indices=chosen)
    assert [read_burnt(frame)[0] for frame in media.pixels] == [*chosen]
    assert [index for index, _ in media.frames] == [*chosen]
    with av.open(io.BytesIO(data)) as file:
        stored = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    for number, frame in zip(chosen, media.pixels, strict=True):
        assert comb(frame) < 0.25 * comb(stored[number])


def _marked(picture: np.ndarray) -> av.VideoFrame:
    """4:2:0 that keeps the fields apart: only the grey of the burnt bands and the bar, so chroma is flat."""
    grey = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    return av.VideoFrame.from_ndarray(grey, format="rgb24").reformat(format="yuv420p")


def test_a_clip_that_changes_its_size() -> None:
    """Every frame at the size of the first, as in a player's window."""
    small = write(RECIPES["MPEG-TS", "MPEG-2"].but(times_s=EVEN[:12]))
    late = tuple(12 / 25 + k / 25 for k in range(12))
    large = write(RECIPES["MPEG-TS", "MPEG-2"].but(size=(640, 192), times_s=late))
    media = decode(small + large, fps=1e308)
    assert media.pixels.shape[1:] == (96, 320, 3)
    assert {read_burnt(frame)[0] for frame in media.pixels} <= set(range(12))
