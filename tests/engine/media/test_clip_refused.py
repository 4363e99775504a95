"""What is no clip, or one that cannot be shown, is refused with the reason that is true."""

from __future__ import annotations

import io
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
from tests.engine.media.clip_writer import EVEN, RECIPES, write
from tests.engine.media.clips import burnt

CLIP = Part("video", param="here")


def decode(data: bytes) -> Media:
    return decode_moving(CLIP, data, MediaLimits(), FrameSampling())


def refused(data: bytes) -> str:
    with pytest.raises(BadMedia) as caught:
        decode(data)
    assert caught.value.message.startswith("here: ")
    return caught.value.message


def sounding(container: str, codec: str, picture: str | None = None) -> bytes:
    """Two seconds of silence, with a cover picture or a clip of one second beside it."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        video: Any = None
        if picture:
            video = file.add_stream("mjpeg" if picture == "cover" else "libx264", rate=25)
            video.width, video.height, video.pix_fmt = 320, 96, "yuvj420p" if picture == "cover" else "yuv420p"
            if picture == "cover":
                video.disposition = av.stream.Disposition.attached_pic
        sound: Any = file.add_stream(codec, rate=48000)
        for number in range(25 if picture == "clip" else 1 if picture else 0):
            frame = av.VideoFrame.from_ndarray(burnt(number, EVEN[number]), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(video.encode(frame.reformat(format=video.pix_fmt)))
        if video is not None:
            file.mux(video.encode(None))
        for block in range(100):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts, silence.time_base = 48000, block * 960, Fraction(1, 48000)
            file.mux(sound.encode(silence))
        file.mux(sound.encode(None))
    return out.getvalue()


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("webm", "libopus"), ("matroska", "aac"), ("mpegts", "aac")]
)
def test_only_sound(container: str, codec: str) -> None:
    assert "only sound, no pictures; send it as input_audio" in refused(sounding(container, codec))


def test_a_cover_picture_beside_sound() -> None:
    assert "a sound with a cover picture, not a clip" in refused(sounding("mp4", "aac", "cover"))


@pytest.mark.parametrize(
    ("container", "codec"), [("mp4", "aac"), ("matroska", "aac"), ("mpegts", "aac"), ("flv", "aac")]
)
def test_sound_that_outlasts_the_pictures_is_no_damage(container: str, codec: str) -> None:
    media = decode(sounding(container, codec, "clip"))
    assert media.num_source_frames == 25 and media.duration_s == pytest.approx(1.0, abs=0.05)


def test_encrypted_mp4() -> None:
    key = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb"}
    kid = {"encryption_kid": "a7e61c373e219033c21091fa607bf3b8"}
    assert "encrypted (copy protection)" in refused(write(RECIPES["MP4", "H.264"].but(muxer=key | kid)))


def test_a_scrambled_transport_stream() -> None:
    data = bytearray(write(RECIPES["MPEG-TS", "H.264"]))
    for at in range(0, len(data), 188):
        if (data[at + 1] & 0x1F) << 8 | data[at + 2] not in (0, 17, 4096):  # tables stay in the clear
            data[at + 3] |= 0x80
    assert "encrypted (copy protection)" in refused(bytes(data))


@pytest.mark.parametrize("row", [("MP4", "H.264"), ("WebM", "VP9"), ("AVI", "MPEG-4"), ("FLV", "H.264")], ids=" ".join)
@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_file_that_was_cut_off(row: tuple[str, str], share: float) -> None:
    """Its header says how long it was. Twin: all of it is read."""
    recipe = RECIPES[row]
    data = write(recipe.but(muxer={"moov_size": "5000"}) if row[0] == "MP4" else recipe)
    assert len(decode(data).frames) > 1
    message = refused(data[: int(len(data) * share)])
    assert "truncated or damaged: it ends after frame" in message or "truncated: it ends before its" in message


def test_a_file_without_its_end_is_read_as_far_as_it_goes() -> None:
    """A transport stream says nothing about its end."""
    data = write(RECIPES["MPEG-TS", "H.264"])
    media = decode(data[: len(data) // 2])
    assert 12 < media.num_source_frames < 50


def test_an_unknown_codec() -> None:
    data = write(RECIPES["MOV", "MJPEG"]).replace(b"jpeg", b"zzzz").replace(b"mjpa", b"zzzz")
    assert "codec is not known" in refused(data) or "cannot be decoded" in refused(data)


def test_nothing_a_clip_points_at_is_opened(tmp_path: Any) -> None:
    """A playlist is no clip, whatever it is called."""
    for text in (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"):
        assert "not a clip" in refused(text)
