"""Sound files decoded: what comes out is what was recorded, and what cannot be decoded is a sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.media.read_medium import load_media
from engine.types import FrameSampling, Part
from engine.types.media import Media
from tests.pictures import data_url, encode, picture
from tests.sounds import encoded, noise, tone, wav

LIMITS = MediaLimits()


def decode(data: bytes, limits: MediaLimits = LIMITS) -> Media:
    return load_media(Part("audio", url=data_url(data, "audio/any"), param="the.part"), limits, FrameSampling())


def refusal(data: bytes, limits: MediaLimits = LIMITS) -> str:
    with pytest.raises(BadMedia) as caught:
        decode(data, limits)
    assert caught.value.param == "the.part"
    return caught.value.message


def pitch_hz(medium: Media) -> float:
    """The loudest frequency."""
    spectrum = np.abs(np.fft.rfft(medium.samples))
    return float(spectrum.argmax() * medium.sample_hz / len(medium.samples))


def test_a_wav_is_its_samples() -> None:
    samples = tone(440, 0.5, 22_050)
    medium = decode(wav(samples, 22_050))
    assert (medium.kind, medium.sample_hz, medium.duration_s) == ("audio", 22_050, len(samples) / 22_050)
    assert medium.samples.dtype == np.float32
    assert np.allclose(medium.samples, samples, atol=1e-4)


@pytest.mark.parametrize("codec", ["flac", "mp3", "vorbis"])
def test_other_codecs_sound_the_same(codec: str) -> None:
    medium = decode(encoded(codec, tone(1000, 1.0, 48_000)))
    assert abs(medium.duration_s - 1.0) < 0.08, "MP3 pads by some frames"
    assert abs(pitch_hz(medium) - 1000) < 5
    assert 0.3 < np.abs(medium.samples).max() < 0.8


def test_channels_become_their_mean() -> None:
    samples = tone(440, 0.2)
    assert np.allclose(decode(wav(samples, channels=2)).samples, samples, atol=1e-4)


def test_the_hash_is_the_content() -> None:
    """Equal samples, equal hash, whatever the file; another sample or another rate is another sound."""
    samples = tone()
    first = decode(wav(samples)).sha256
    assert decode(wav(samples, channels=2)).sha256 == first
    assert decode(wav(samples, 8_000)).sha256 != first, "the same numbers at another rate are another sound"
    louder = samples.copy()
    louder[100] += 0.01
    assert decode(wav(louder)).sha256 != first


def wav_of_unknown_length() -> bytes:
    data = bytearray(wav(tone()))
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    return bytes(data)


def test_a_live_recording_does_not_know_its_length() -> None:
    assert decode(wav_of_unknown_length()).duration_s == 1.0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (wav(tone())[:20_000], "truncated"),
        (wav(tone())[:40], "cannot be decoded"),
        (wav(tone(seconds=0.0001)[:0]), "no samples"),
        (encoded("flac", tone(440, 1.0, 48_000))[:9_000], "truncated"),
        (b"RIFF\x00\x00\x00\x00WAVE", "cannot be decoded"),
        (b"ID3\x03" + bytes(500), "cannot be decoded"),
        (b"OggS" + bytes(500), "cannot be decoded"),
        (encoded("opus", tone(440, 1.0, 48_000)), "Opus sound is not read; send WAV"),
        (encoded("aac", tone(440, 1.0, 48_000)), "AAC sound is not read; send WAV"),
        (b"\x00\x00\x00\x18ftypM4A " + bytes(100), "M4A sound is not read; send WAV"),
        (encode(picture()), "this is a picture (PNG), not a sound"),
        (b"just words", "the bytes are plain text"),
    ],
)
def test_what_is_no_sound_is_a_sentence(data: bytes, why: str) -> None:
    assert why in refusal(data)


def test_a_sound_is_no_picture() -> None:
    with pytest.raises(BadMedia, match=r"this is a sound \(WAV\), not a picture"):
        load_media(Part("image", url=data_url(wav(tone())), param="p"), LIMITS, FrameSampling())


def test_longer_than_allowed_is_refused_while_decoding() -> None:
    """A small file can be hours of silence: the limit is on what comes out, not on what came in."""
    bomb = encoded("flac", np.zeros(48_000 * 60, np.float32))
    assert len(bomb) < 300_000
    assert "longer than the 30 s allowed" in refusal(bomb, replace(LIMITS, max_sound_s=30.0))
    assert decode(bomb, replace(LIMITS, max_sound_s=61.0)).duration_s == 60.0


def test_bytes_are_limited() -> None:
    assert "at most 1 KiB" in refusal(wav(noise()), replace(LIMITS, max_bytes=1024))


def test_sabotage_a_decoder_that_stops_early_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twin of the truncated files: without the check they are shorter sounds, and nobody knows."""
    from engine.media import audio

    monkeypatch.setattr(audio, "_is_cut_off", lambda *_: False)
    assert decode(wav(tone())[:20_000]).duration_s < 0.7
