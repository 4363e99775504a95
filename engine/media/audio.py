"""Sound: WAV, MP3, FLAC and Ogg Vorbis to one channel of float32 samples, at the file's own rate.

Decoded by miniaudio, piece by piece: a file that would last longer than allowed is refused when it gets there, however
small it is.
"""

from __future__ import annotations

import struct
import time

import miniaudio
import numpy as np

from engine.config import MediaLimits
from engine.media.medium import bad_media, content_sha256
from engine.media.sniff import sniff
from engine.types import Part
from engine.types.media import Media, Samples, no_pixels

PIECE_FRAMES = 1 << 18
UNKNOWN_SIZE = 0xFFFF_FF00
"""What live recorders write for a length they do not know yet (or a little less)."""

READ = "send WAV, MP3, FLAC or Ogg Vorbis"


def decode_sound(part: Part, data: bytes, limits: MediaLimits) -> Media:
    """Decode a sound file; several channels become their mean.

    Raises BadMedia: unknown, damaged, cut off, empty, or longer than limits.max_sound_s.
    """
    info = _facts(part, data)
    samples = _samples(part, data, info.sample_rate, limits)
    if _is_cut_off(data, info, len(samples)):
        raise bad_media(part, "the sound is truncated: it ends before its header says")
    if not len(samples):
        raise bad_media(part, "the sound has no samples")
    return Media(
        kind="audio",
        pixels=no_pixels(),
        sha256=content_sha256(samples, f"{info.sample_rate} Hz"),
        num_bytes=len(data),
        decoded_px=(0, 0),
        duration_s=len(samples) / info.sample_rate,
        samples=samples,
        sample_hz=info.sample_rate,
    )


def _facts(part: Part, data: bytes) -> miniaudio.SoundFileInfo:
    """Rate and channels, from the header."""
    name = sniff(data).name
    if name == "Ogg" and b"OpusHead" in data[:256]:
        raise bad_media(part, f"Opus sound is not read; {READ}")
    readers = {
        "WAV": miniaudio.wav_get_info,
        "MP3": miniaudio.mp3_get_info,
        "FLAC": miniaudio.flac_get_info,
        "Ogg": miniaudio.vorbis_get_info,
    }
    if name not in readers:
        raise bad_media(part, f"{name} sound is not read; {READ}")
    try:
        info = readers[name](data)
    except miniaudio.MiniaudioError as error:
        raise bad_media(part, "the sound cannot be decoded: it is damaged, or its codec is not known") from error
    if info.sample_rate < 1 or info.nchannels < 1:
        raise bad_media(part, "the sound cannot be decoded: its header is damaged")
    return info


def _samples(part: Part, data: bytes, sample_hz: int, limits: MediaLimits) -> Samples:
    deadline = time.monotonic() + limits.decode_timeout_s
    pieces: list[Samples] = []
    total = 0
    try:
        for piece in miniaudio.stream_memory(data, miniaudio.SampleFormat.FLOAT32, 1, sample_hz, PIECE_FRAMES):
            pieces.append(np.frombuffer(piece, np.float32).copy())
            total += len(pieces[-1])
            if total > limits.max_sound_s * sample_hz:
                raise bad_media(part, f"the sound is longer than the {limits.max_sound_s:g} s allowed")
            if time.monotonic() > deadline:
                raise bad_media(part, f"decoding the sound took longer than {limits.decode_timeout_s:g} s")
    except miniaudio.MiniaudioError as error:
        raise bad_media(part, "the sound cannot be decoded: its data is damaged") from error
    samples = np.concatenate(pieces) if pieces else np.empty(0, np.float32)
    if not np.isfinite(samples).all():
        raise bad_media(part, "the sound has samples that are no numbers")
    return samples


def _is_cut_off(data: bytes, info: miniaudio.SoundFileInfo, num_samples: int) -> bool:
    """Whether the header promises more than there is; decoders read such files without a word. MP3 and Ogg are streams
    of pages that promise nothing, and so do WAVs whose writer did not know their length."""
    if info.file_format == miniaudio.FileFormat.FLAC:
        return bool(num_samples < info.num_frames)
    if info.file_format != miniaudio.FileFormat.WAV or data[:4] != b"RIFF":
        return False
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if name == b"data":
            return bool(size < UNKNOWN_SIZE and at + 8 + size > len(data))
        at += 8 + size + size % 2
    return False
