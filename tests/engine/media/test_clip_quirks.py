"""What real files are like: uneven rates, cuts, late starts, no index, wrong headers. Frames say their own number."""

from __future__ import annotations

import io
import struct
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media import clip_index
from engine.media.moving import decode_moving
from engine.types import FrameSampling, Part
from tests.engine.media.clip_writer import EVEN, RECIPES, Recipe, write
from tests.engine.media.test_clip_matrix import CLIP, check, decode

UNEVEN = tuple(k / 20 if k < 40 else 2 + (k - 40) / 5 for k in range(60))
STILL = (0.0, 20.0, 20.1, 20.2)
FAST = tuple(k / 200 for k in range(60))
STAMPED = [
    ("MP4", "H.264"), ("MP4", "HEVC"), ("MOV", "H.264"), ("WebM", "VP8"), ("WebM", "VP9"),
    ("MKV", "H.264"), ("MKV", "HEVC"), ("MPEG-TS", "H.264"), ("FLV", "H.264"),
]  # fmt: skip
"""Containers that give each frame a time of its own."""


@pytest.mark.parametrize("row", STAMPED, ids=" ".join)
def test_uneven_rates(row: tuple[str, str]) -> None:
    data = write(RECIPES[row].but(times_s=UNEVEN, rate=None))
    for reading in (
        {"fps": 1e308},
        {"max_frames": 8},
        {"start_s": 1.8, "end_s": 4.0, "fps": 10.0},
        {"indices": (0, 59)},
    ):
        check(decode(data, **reading), UNEVEN)
    assert np.diff([time_s for _, time_s in decode(data, max_frames=8).frames]) == pytest.approx(5.8 / 7, abs=0.21)


@pytest.mark.parametrize("row", STAMPED, ids=" ".join)
def test_a_screen_that_stands_still(row: tuple[str, str]) -> None:
    """Every frame can be reached, and the stretch that stands still belongs to the frame that is shown."""
    data = write(RECIPES[row].but(times_s=STILL, rate=None))
    media = decode(data)
    check(media, STILL)
    assert [index for index, _ in media.frames] == [0, 1, 2, 3]
    assert [index for index, _ in decode(data, start_s=5, end_s=10).frames] == [0, 0]
    assert [index for index, _ in decode(data, start_s=20.05).frames][-1] == 3
    assert 20.2 < media.duration_s < 41


@pytest.mark.parametrize("row", [("MP4", "H.264"), ("MKV", "H.264")], ids=" ".join)
def test_200_frames_a_second(row: tuple[str, str]) -> None:
    media = decode(write(RECIPES[row].but(times_s=FAST, rate=Fraction(200))), fps=1e308)
    assert [index for index, _ in media.frames] == list(range(60))
    check(media, FAST)


def one_frame(recipe: Recipe) -> bytes:
    """x265 sometimes ends a clip of one frame before its threads have written the head, and the muxer refuses it."""
    for _ in range(20 if recipe.encoder == "libx265" else 0):
        with suppress(av.error.PatchWelcomeError):
            return write(recipe)
    return write(recipe)


@pytest.mark.parametrize("row", RECIPES, ids=" ".join)
def test_one_frame(row: tuple[str, str]) -> None:
    media = decode(one_frame(RECIPES[row].but(times_s=(0.0,))))
    assert media.frames == ((0, 0.0), (0, 0.0)) and (media.pixels[0] == media.pixels[1]).all()
    assert media.num_source_frames == 1 and media.duration_s > 0


class Pipe(io.BytesIO):
    """Nothing in front can be written again."""

    def seekable(self) -> bool:
        return False


def remuxed(data: bytes, container: str, shift_s: float = 0.0) -> bytes:
    """The same packets in another container, their times moved."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(out, "w", format=container) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                shift = round(Fraction(shift_s) / packet.time_base)
                packet.pts += shift
                packet.dts = None if packet.dts is None else packet.dts + shift
                packet.stream = stream
                target.mux(packet)
    return out.getvalue()


@pytest.mark.parametrize("row", [("WebM", "VP8"), ("WebM", "VP9"), ("WebM", "AV1"), ("MKV", "H.264")], ids=" ".join)
def test_no_duration_and_no_index(row: tuple[str, str]) -> None:
    """As a browser's recorder or a pipe leaves it."""
    data = write(RECIPES[row], out=Pipe())
    with av.open(io.BytesIO(data)) as file:
        assert not file.duration, "the quirk is not there"
    for reading in ({}, {"max_frames": 4}, {"start_s": 1.1}):
        media = decode(data, **reading)
        check(media, EVEN)
        assert media.frames[-1][0] == 59


@pytest.mark.parametrize("codec", ["H.264", "HEVC", "AV1"])
def test_a_fragmented_mp4(codec: str) -> None:
    data = write(RECIPES["MP4", codec].but(muxer={"movflags": "frag_keyframe+empty_moov+default_base_moof"}))
    assert data.count(b"moof") > 3
    check(decode(data, fps=12.0), EVEN)
    assert decode(data).frames[-1][0] == 59


@pytest.mark.parametrize("codec", ["H.264", "HEVC"])
@pytest.mark.parametrize("cut", [5, 17, 30])
def test_an_edit_list(codec: str, cut: int) -> None:
    """As phones and `ffmpeg -ss … -c copy` cut: what is stored before the cut is decoded and not shown."""
    data = remuxed(write(RECIPES["MP4", codec]), "mp4", shift_s=-cut / 25)
    for reading in ({}, {"fps": 1e308}, {"start_s": 0.4, "end_s": 0.8, "fps": 12.5}):
        check(decode(data, **reading), EVEN, first=cut)
    assert decode(data).duration_s == pytest.approx((60 - cut) / 25, abs=0.011)


@pytest.mark.parametrize(("container", "codec"), [("matroska", "H.264"), ("mpegts", "H.264"), ("mpegts", "HEVC")])
def test_a_start_that_is_not_zero(container: str, codec: str) -> None:
    data = remuxed(write(RECIPES["MKV", codec]), container, shift_s=7.5)
    with av.open(io.BytesIO(data)) as file:
        assert file.streams.video[0].start_time * file.streams.video[0].time_base > 7, "the quirk is not there"
    check(decode(data, fps=10.0), EVEN)
    check(decode(data, start_s=1.0, end_s=2.0), EVEN)


@pytest.mark.parametrize(
    ("row", "size"), [(("MPEG-TS", "H.264"), 188), (("MPEG-TS", "MPEG-2"), 188), (("M2TS", "H.264"), 192)]
)
@pytest.mark.parametrize("share", [0.1, 0.33, 0.6])
def test_a_transport_stream_cut_anywhere(row: tuple[str, str], size: int, share: float) -> None:
    """It begins with the first frame that can be decoded, which is a key frame: a multiple of 12."""
    data = write(RECIPES[row])
    data = data[int(len(data) * share) :]
    media = decode(data, fps=1e308)
    first = 60 - media.num_source_frames
    check(media, EVEN, first)
    assert 0 < first < 60 and media.frames[-1][0] + first == 59


def test_an_hls_segment() -> None:
    data = write(RECIPES["MPEG-TS", "H.264"].but(times_s=EVEN[:8]))
    check(decode(data, fps=1e308), EVEN[:8])


@pytest.mark.parametrize("codec", ["H.264", "MPEG-4"])
@pytest.mark.parametrize("num_b", [1, 2])
def test_b_frames_in_avi(codec: str, num_b: int) -> None:
    recipe = RECIPES["AVI", codec]
    data = write(recipe.but(codec=recipe.codec | {"bf": str(num_b)}))
    for reading in ({}, {"fps": 1e308}, {"max_frames": 2}, {"start_s": 1.3}, {"indices": (13, 14, 40)}):
        check(decode(data, **reading), EVEN)


def test_hidden_frames_of_vp8() -> None:
    recipe = RECIPES["WebM", "VP8"]
    hidden = {"deadline": "good", "cpu-used": "4", "auto-alt-ref": "1", "lag-in-frames": "16", "b": "2M"}
    check(decode(write(recipe.but(codec=hidden)), fps=1e308), EVEN)


def wrong_avi(data: bytes) -> bytes:
    """Three times as many frames in both headers (avih's dwTotalFrames, strh's dwLength)."""
    for at in (data.index(b"avih") + 8 + 16, data.index(b"strh") + 8 + 32):
        assert struct.unpack_from("<I", data, at) == (60,)
        data = data[:at] + struct.pack("<I", 180) + data[at + 4 :]
    return data


def wrong_mp4(data: bytes) -> bytes:
    """Three times the duration (mvhd and mdhd of version 0)."""
    for box, at in ((b"mvhd", 20), (b"mdhd", 20)):
        place = data.index(box) + at
        (length,) = struct.unpack_from(">I", data, place)
        data = data[:place] + struct.pack(">I", 3 * length) + data[place + 4 :]
    return data


@pytest.mark.parametrize(("row", "wrong"), [(("AVI", "MPEG-4"), wrong_avi), (("MP4", "H.264"), wrong_mp4)])
def test_a_wrong_number_of_frames_in_the_header(row: tuple[str, str], wrong: Any) -> None:
    media = decode(wrong(write(RECIPES[row])))
    check(media, EVEN)
    assert (media.num_source_frames, media.frames[-1][0]) == (60, 59)


@pytest.mark.parametrize("row", [("AVI", "H.264"), ("MP4", "H.264"), ("MPEG-TS", "H.264")], ids=" ".join)
def test_twin_frames_counted_by_packets_are_wrong(row: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sabotage: with the packets' own order taken for that in which they are shown, the matrix sees it."""
    real = clip_index._ordered

    def unordered(packets: Any, stream: Any) -> Any:
        index = real(packets, stream)
        index.stamps[1:] = index.stamps[1:][np.argsort(index.places[1:])]
        return index

    monkeypatch.setattr(clip_index, "_ordered", unordered)
    monkeypatch.setattr(clip_index, "STAMPLESS", ())
    with pytest.raises((AssertionError, BadMedia), match=r"is called|cannot be decoded"):
        check(decode_moving(CLIP, write(RECIPES[row]), MediaLimits(), FrameSampling(fps=1e308)), EVEN)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"fps": 0.0}, "fps must be a number above 0, not 0"),
        ({"fps": -1.0}, "fps must be a number above 0, not -1"),
        ({"fps": float("nan")}, "fps must be a number above 0, not nan"),
        ({"fps": float("inf")}, "fps must be a number above 0, not inf"),
        ({"start_s": -1.0}, "start_s must be a number from 0, not -1"),
        ({"end_s": float("nan")}, "end_s must be a number from 0, not nan"),
        ({"start_s": 1e308}, "the start is at 1e\\+308 s, but the clip lasts 2.4 s"),
        ({"start_s": 2.0, "end_s": 1.0}, "from 2 s to 1 s is empty"),
        ({"max_frames": 0}, "max_frames must be at least 1, not 0"),
        ({"max_frames": -3}, "max_frames must be at least 1, not -3"),
        ({"min_frames": -1}, "min_frames must be at least 0, not -1"),
        ({"indices": (10**400,)}, "from 0 to 59"),
    ],
)
def test_what_cannot_be_asked_for(setting: dict[str, Any], words: str) -> None:
    with pytest.raises(BadMedia, match=f"here: .*{words}"):
        decode(write(RECIPES["MP4", "MPEG-4"]), **setting)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"fps": 1e308}, 60),
        ({"fps": 1e-300}, 4),
        ({"max_frames": 1}, 2),
        ({"max_frames": 700, "fps": 1000.0}, 60),
        ({"min_frames": 700, "max_frames": 700}, 60),
        ({"end_s": 1e308}, 6),
    ],
)
def test_what_goes_beyond_the_clip(setting: dict[str, Any], expected: int) -> None:
    media = decode(write(RECIPES["MP4", "MPEG-4"]), **setting)
    check(media, EVEN)
    assert len(media.frames) == expected
    assert len({index for index, _ in media.frames}) == (1 if setting.get("max_frames") == 1 else expected)


@pytest.mark.parametrize("list_fps", [0.0, -1.0, float("nan"), 1e308, 1e-300])
def test_a_list_with_a_rate_that_is_none(list_fps: float) -> None:
    from engine.media.frame_list import load_frames

    part = Part("video", parts=(Part("image"), Part("image")), param="here")
    with pytest.raises(BadMedia, match=r"here: (the list's rate must be above 0|the clip lasts 2e\+300 s)"):
        load_frames(part, MediaLimits(), FrameSampling(list_fps=list_fps))
