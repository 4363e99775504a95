"""When a clip shows which frame, learnt from its packets alone: all of them are read once, and only the first frame is
decoded.

What the header says about durations, rates and numbers of frames is not believed. Dropped are packets that only help to
decode others (before the first key frame, before an edit list's cut, invisible ones); times begin with the first frame.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from av.error import FFmpegError

from engine.media.clip_file import ENCRYPTED, ClipFile, TimeLimit, opened
from engine.media.containers import is_cut_off
from engine.media.display import Shape, shape_of
from engine.media.frames import Times
from engine.media.medium import bad_media
from engine.types import Part

LOST_SHARE = 0.1
"""If more than this share of a clip is missing, it is called cut off."""

STAMPLESS = ("h264", "hevc")
"""AVI stores no presentation times; of these codecs, FFmpeg does not work them out either."""

IDR = re.compile(rb"\x00\x00\x01[\x05\x25\x45\x65]")
"""H.264's start of a picture that nothing before or after it looks beyond (NAL unit type 5, ITU-T H.264, 7.4.1)."""

FIRST_FRAME_PACKETS = 1000
"""A stream that shows no picture after so many is not going to."""

CHECK_PACKETS = 256
UNSTAMPED_SHARE = 0.1
"""So many packets without a time are taken for damage; more of them, and frames are counted instead."""

Stamps = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True, eq=False)
class ClipIndex:
    """Every frame that the clip shows, in that order.

    stamps: int64 (N,), ascending: the time stamps under which the decoder gives them out; is_counted: there are none
    that one can trust, stamps are numbers of frames, and the decoder's output is counted.
    places: int64 (N,), the packet that holds each, counted in decoding order. offsets: int64 (packets,), where each
    packet lies in the file, -1 where that is not known.
    starts: int64 (K, 2), ascending: packets at which decoding can begin, and the stamp from which on frames are right.
    times_s, end_s: as in engine.media.frames.Clip. begins_s: the first frame's time on the container's own clock.
    first: the first frame, decoded. shape: how it is to be shown.
    """

    stamps: Stamps
    is_counted: bool
    places: Stamps
    offsets: Stamps
    starts: Stamps
    times_s: Times
    end_s: float
    begins_s: float
    first: Any
    shape: Shape

    def start(self, index: int) -> int:
        """The packet at which to begin, so that this frame is right."""
        fits = (self.starts[:, 0] <= self.places[index]) & (self.starts[:, 1] <= self.stamps[index])
        return int(self.starts[fits, 0].max(initial=self.starts[0, 0]))


@dataclass(slots=True)
class _Packets:
    """One row a packet, while they are read."""

    rows: list[tuple[int | None, int, int, bool]]
    """(stamp, place, duration, whether a frame of it is shown)"""
    starts: list[tuple[int, int]]
    offsets: list[int]
    first: Any = None


def index_clip(part: Part, data: bytes, time_limit: TimeLimit) -> ClipIndex:
    """Read every packet and decode the first frame. Raises BadMedia."""
    with opened(part, data, most_threads=1) as file:
        is_avi = file.name == "AVI" and file.codec in STAMPLESS and file.stream.codec_context.has_b_frames > 0
        packets = _read(part, file, is_avi, time_limit)
        if packets.first is None:
            raise bad_media(part, _why_none(data, file, packets))
        if is_avi:
            index = _counted(packets, file.stream, packets.starts)
        elif _is_stamped(packets):
            index = _ordered(packets, file.stream)
        else:
            index = _counted(packets, file.stream, [])
        _check_whole(part, data, file, index)
    return index


def _read(part: Part, file: ClipFile, is_avi: bool, time_limit: TimeLimit) -> _Packets:
    packets = _Packets([], [], [])
    has_hidden = file.codec == "vp8"
    for place, packet in enumerate(file.packets()):
        if place % CHECK_PACKETS == 0:
            time_limit.check(part)
        if packet.is_keyframe and packet.has_sidedata("encryption_info"):
            raise bad_media(part, ENCRYPTED)
        stamp = packet.dts if is_avi else packet.pts
        is_shown = not packet.is_discard and not (has_hidden and _is_hidden(packet))
        packets.rows.append((stamp, place, packet.duration or 0, is_shown))
        packets.offsets.append(-1 if packet.pos is None else packet.pos)
        if packet.is_keyframe and (_is_closed(packet) if is_avi else stamp is not None):
            packets.starts.append((place, place if is_avi else stamp))
        if packets.first is None and place < FIRST_FRAME_PACKETS:
            packets.first = _first_of(file, packet)
    packets.first = packets.first or _first_of(file, None)
    return packets


def _is_hidden(packet: Any) -> bool:
    """VP8 has frames that are only looked at by others (RFC 6386, 9.1: show_frame)."""
    return not memoryview(packet)[0] & 0x10


def _is_closed(packet: Any) -> bool:
    return IDR.search(memoryview(packet)[:4096]) is not None


def _first_of(file: ClipFile, packet: Any) -> Any:
    try:
        return next(iter(file.decoder.decode(packet)), None)
    except FFmpegError:
        return None


def _is_stamped(packets: _Packets) -> bool:
    """Whether nearly every frame has a time stamp, and one of its own."""
    stamps = [stamp for stamp, _, _, is_shown in packets.rows if is_shown and stamp is not None]
    num_shown = sum(row[3] for row in packets.rows)
    return bool(stamps) and len(set(stamps)) == len(stamps) >= num_shown * (1 - UNSTAMPED_SHARE)


def _ordered(packets: _Packets, stream: Any) -> ClipIndex:
    """By time stamp, from the first frame that the decoder gives out."""
    begins = packets.first.pts
    rows = sorted(row for row in packets.rows if row[3] and row[0] is not None and (begins is None or row[0] >= begins))
    stamps, places, durations = (np.array([row[k] for row in rows], np.int64) for k in range(3))
    starts = np.array(packets.starts or [(0, stamps[0])], np.int64)
    return ClipIndex(
        stamps,
        False,
        places,
        np.array(packets.offsets, np.int64),
        starts,
        *_times(stamps, durations, stream),
        packets.first,
        shape_of(stream, packets.first),
    )


def _counted(packets: _Packets, stream: Any, starts: list[tuple[int, int]]) -> ClipIndex:
    """By the decoder's order, at the times that there are, ascending."""
    rows = [row for row in packets.rows if row[3]]
    stamps = np.sort(np.array([row[0] for row in rows if row[0] is not None], np.int64))
    if len(stamps) < len(rows):
        gap = max(1, round(1 / (stream.average_rate or 25) / stream.time_base))
        stamps = np.arange(len(rows), dtype=np.int64) * gap
    order = np.arange(len(rows), dtype=np.int64)
    durations = np.array([row[2] for row in rows], np.int64)
    times = _times(stamps, durations, stream)
    return ClipIndex(
        order,
        True,
        order,
        np.array(packets.offsets, np.int64),
        np.array(starts or [(0, 0)], np.int64),
        *times,
        packets.first,
        shape_of(stream, packets.first),
    )


def _times(stamps: Stamps, durations: Stamps, stream: Any) -> tuple[Times, float, float]:
    """Seconds from the first frame; the end of the last; the first's time on the container's clock."""
    unit_s = float(stream.time_base)
    times_s = (stamps - stamps[0]) * unit_s
    last_s = float(durations[-1]) * unit_s or _usual_gap_s(times_s, stream.average_rate)
    return times_s, float(times_s[-1]) + last_s, float(stamps[0]) * unit_s


def _usual_gap_s(times_s: Times, rate: Any) -> float:
    """How long a last frame stands that does not say it: as long as others do."""
    if len(times_s) > 1:
        return float(np.median(np.diff(times_s)))
    return 1 / float(rate) if rate else 0.04


def _why_none(data: bytes, file: ClipFile, packets: _Packets) -> str:
    codec = file.codec
    if is_cut_off(data, file.name):
        return "the clip is truncated: it ends before its first frame"
    if not packets.rows:
        return "the clip has no frames"
    if not packets.starts:
        return f"the clip has no key frame to begin with ({codec}, {file.name}): it is damaged, or a piece of another"
    return f"the clip's frames cannot be decoded ({codec}, {file.name}): it is damaged or encrypted"


def _check_whole(part: Part, data: bytes, file: ClipFile, index: ClipIndex) -> None:
    """Refuse a clip of which much is missing: its container is longer than the file, or its other streams go on."""
    promised_s = _promised_s(file)
    ends_s = index.end_s + max(0.0, index.begins_s)  # some count from the first frame, some from their clock's zero
    if promised_s is None or ends_s >= promised_s * (1 - LOST_SHARE):
        return
    is_cut = is_cut_off(data, file.name)
    if is_cut is False or (is_cut is None and len(file.container.streams) > 1):
        return  # a header that is wrong, or a sound that outlasts the pictures
    ends = f"it ends after frame {len(index.stamps)}, at {ends_s:.3g} s of {promised_s:.3g} s"
    raise bad_media(part, f"the clip is truncated or damaged: {ends}")


def _promised_s(file: ClipFile) -> float | None:
    if file.stream.duration:
        return float(file.stream.duration * file.stream.time_base)
    return file.container.duration / 1e6 if file.container.duration else None
