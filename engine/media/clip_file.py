"""One clip, opened: FFmpeg's demuxer over bytes in memory, and the one stream of pictures in it.

The demuxer is the one that the file's first bytes call for, and it may open nothing else: a playlist or a reference
inside a clip leads nowhere.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
from av.error import FFmpegError
from av.stream import Discard, Disposition

from engine.media.containers import by_name
from engine.media.medium import refuse
from engine.media.sniff import sniff
from engine.types import Part

READ_BYTES = 1 << 18
NO_FRAMES = Disposition.attached_pic | Disposition.timed_thumbnails
ENCRYPTED = "the clip is encrypted (copy protection); only clips without it are read"
ENCRYPTED_TAGS = ("encv", "drmi")
DOLBY_TAGS = ("dvh1", "dvhe", "dav1", "dva1", "dvav")
"""Dolby Vision without a picture that other decoders understand."""

ENCRYPTED_KEYS = ("enc_key_id", "ASF_Protection_Type")
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these leave the alpha of WebM out."""

MOST_THREADS = 8
WIDE_PIXELS = 4_000_000
"""Frames larger than this are decoded by fewer threads: each holds some of them."""


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """How long one clip may take, from now on."""

    seconds: float
    ends: float

    @classmethod
    def of(cls, seconds: float) -> TimeLimit:
        return cls(seconds, time.monotonic() + seconds)

    def check(self, part: Part) -> None:
        """Raises BadMedia when it is over."""
        if time.monotonic() > self.ends:
            raise refuse(part, f"decoding the clip took longer than {self.seconds:g} s")


@dataclass(frozen=True, slots=True)
class ClipFile:
    """name: the container's, for people. decoder: of the stream, not yet opened. Belongs to one thread."""

    name: str
    container: Any
    stream: Any
    decoder: Any

    def packets(self) -> Iterator[Any]:
        """What the stream holds, in decoding order, without empty packets."""
        return (packet for packet in self.container.demux(self.stream) if packet.size)

    @property
    def codec(self) -> str:
        return str(self.decoder.codec.canonical_name)


@contextmanager
def opened(part: Part, data: bytes, most_threads: int = MOST_THREADS) -> Iterator[ClipFile]:
    """Always closed again. Raises BadMedia: damaged, no pictures in it, encrypted, of an unknown codec."""
    name = sniff(data).name
    try:
        with av.open(
            io.BytesIO(data), format=by_name(name).demuxer, buffer_size=READ_BYTES, io_open=_open_nothing
        ) as container:
            stream = _pictures(part, container)
            _check_readable(part, container, stream, data)
            for other in container.streams:
                other.discard = Discard.default if other is stream else Discard.all
            yield ClipFile(name, container, stream, _decoder(stream, most_threads))
    except FFmpegError as error:
        raise refuse(part, f"the clip ({name}) cannot be opened: it is damaged or cut off") from error


def _open_nothing(url: str, _flags: int, _options: dict[str, str]) -> Any:
    raise PermissionError(f"a clip that asks for {url[:80]!r}")


def _pictures(part: Part, container: Any) -> Any:
    """The stream that a player would show."""
    streams = [stream for stream in container.streams.video if not stream.disposition & NO_FRAMES]
    if streams:
        best = container.streams.best("video")
        return best if best in streams else streams[0]
    if container.streams.video and container.streams.audio:
        raise refuse(part, "this is a sound with a cover picture, not a clip; send it as input_audio")
    if container.streams.audio:
        raise refuse(part, "this file has only sound, no pictures; send it as input_audio")
    raise refuse(part, "the file has no video stream")


def _check_readable(part: Part, container: Any, stream: Any, data: bytes) -> None:
    tag = "" if stream.codec_context is None else str(stream.codec_context.codec_tag)
    has_key = any(key in stream.metadata or key in container.metadata for key in ENCRYPTED_KEYS)
    if tag in ENCRYPTED_TAGS or has_key or (container.format.name == "mpegts" and _is_scrambled(data)):
        raise refuse(part, ENCRYPTED)
    if stream.codec_context is None:
        raise refuse(part, "the clip's codec is not known here; convert it to H.264 (MP4) and send that")
    if tag in DOLBY_TAGS:
        raise refuse(part, "the clip is Dolby Vision without a picture for other players; export it as HDR10 or SDR")


def _is_scrambled(data: bytes) -> bool:
    """Most packets carry scrambling bits (ISO/IEC 13818-1, 2.4.3.3)."""
    start = data.find(b"\x47")
    size = next((size for size in (188, 192, 204) if data[start + size : start + size + 1] == b"\x47"), 0)
    heads = data[start + 3 :: size] if size else b""
    return sum(head >> 6 > 1 for head in heads) * 2 > max(1, len(heads))


def _decoder(stream: Any, most_threads: int) -> Any:
    own = stream.codec_context
    name = ALPHA_DECODERS.get(own.codec.canonical_name) if stream.metadata.get("alpha_mode") == "1" else None
    decoder = own if name is None else av.CodecContext.create(name, "r")
    decoder.thread_type = "AUTO"
    most = min(most_threads, 2) if own.width * own.height > WIDE_PIXELS else most_threads
    decoder.thread_count = min(os.cpu_count() or 1, most)
    return decoder
