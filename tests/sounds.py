"""Sounds for the tests, made here: WAV files of known tones."""

from __future__ import annotations

import io
import wave

import numpy as np

from tests.pictures import data_url


def tone(pitch_hz: float = 440.0, seconds: float = 1.0, sample_hz: int = 16_000) -> np.ndarray:
    """A tone that swells and fades, (N,) float32."""
    t = np.arange(round(seconds * sample_hz)) / sample_hz
    return (0.6 * np.sin(2 * np.pi * pitch_hz * t) * np.sin(np.pi * t / seconds)).astype(np.float32)


def wav(samples: np.ndarray, sample_hz: int = 16_000, channels: int = 1) -> bytes:
    """A 16-bit WAV file of samples (N,), the same in every channel."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(sample_hz)
        file.writeframes(np.repeat((samples * 32767).astype("<i2"), channels).tobytes())
    return out.getvalue()


def wav_url(pitch_hz: float = 440.0, seconds: float = 1.0) -> str:
    return data_url(wav(tone(pitch_hz, seconds)), "audio/wav")


def noise(seed: int = 0, seconds: float = 1.0, sample_hz: int = 16_000) -> np.ndarray:
    """White noise, (N,) float32: as unlike a tone as can be."""
    values = np.random.default_rng(seed).normal(size=round(seconds * sample_hz)) * 0.3
    return values.clip(-1, 1).astype(np.float32)


CODECS = {"flac": "flac", "mp3": "libmp3lame", "vorbis": "vorbis", "opus": "libopus", "aac": "aac"}
CONTAINERS = {"vorbis": "ogg", "opus": "ogg", "aac": "adts"}


def encoded(codec: str, samples: np.ndarray, sample_hz: int = 48_000) -> bytes:
    """A sound file of this codec (CODECS), samples (N,) in both of its channels."""
    import av

    out = io.BytesIO()
    with av.open(out, "w", format=CONTAINERS.get(codec, codec)) as file:
        stream = file.add_stream(CODECS[codec], rate=sample_hz, layout="stereo", options={"strict": "experimental"})
        frame = av.AudioFrame.from_ndarray(np.stack([samples, samples]), format="fltp", layout="stereo")
        frame.sample_rate = sample_hz
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="stereo", rate=sample_hz)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(piece))
        file.mux(stream.encode(None))
    return out.getvalue()
