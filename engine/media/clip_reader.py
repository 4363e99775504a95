"""The chosen frames of a clip, decoded: read on from packet to packet, and decoded only where a chosen frame needs it.

    packets   . . K . . . . . K . . . . . K . . . .        K: decoding can begin here
    chosen                        ^         ^
    decoded                   # # #       # #              two runs

Which frame came out is told by its time stamp. Between two runs that lie far apart the file is sought, where its
container has an index; a seek is believed only if the packet it leads to lies where one lay when all were read, else
every packet is read. Memory holds the file and the frames that the decoder holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from av.error import FFmpegError

from engine.media.clip_file import ClipFile, TimeLimit, opened
from engine.media.clip_index import LOST_SHARE, ClipIndex
from engine.media.medium import bad_media
from engine.types import Part

MARKS_UNREFERENCED = ("h264", "mpeg2video", "mpeg1video", "mpeg4")
"""Codecs in which a frame that no other looks at is marked so: it is decoded only where it is asked for."""

SOUGHT = ("MP4", "MOV", "WebM/MKV")
"""Containers with an index, mostly."""

FAR_PACKETS = 250
"""So many are read past in a millisecond or two, in which a seek may be done."""


@dataclass(slots=True)
class _Run:
    """Packets that are decoded in one go: both included."""

    start: int
    last: int


class ClipReader:
    """Reads one clip. Belongs to one thread."""

    def __init__(self, part: Part, data: bytes, index: ClipIndex, time_limit: TimeLimit) -> None:
        self._part = part
        self._data = data
        self._index = index
        self._time_limit = time_limit

    def frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """(index, decoded frame) of each that is wanted (ascending, each once).

        One that cannot be decoded is looked for once more from the clip's beginning; if that fails too, the frame
        before it, which a player would still show, is given under its own index. Raises BadMedia: too many of those,
        too slow.
        """
        waiting, num_lost = list(wanted), 0
        for index, frame in self._decoded(wanted):
            while waiting and waiting[0] <= index:
                next_one = waiting.pop(0)
                num_lost += next_one < index
                self._check_lost(num_lost, len(wanted))
                yield (index, frame) if next_one == index else self._shown_at(next_one)
        for next_one in waiting:
            num_lost += 1
            self._check_lost(num_lost, len(wanted))
            yield self._shown_at(next_one)

    def _check_lost(self, num_lost: int, num_wanted: int) -> None:
        if num_lost > max(1, LOST_SHARE * num_wanted):
            raise bad_media(self._part, f"the clip is damaged: {num_lost} of {num_wanted} frames cannot be decoded")

    def _decoded(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Frames by index, ascending, those that are wanted among them unless they cannot be decoded."""
        stamps = {int(self._index.stamps[index]) for index in wanted}
        with ExitStack() as files:
            file = files.enter_context(opened(self._part, self._data))
            skips = _marks_unreferenced(file) and not (self._index.first.interlaced_frame or self._index.is_counted)
            seeks = file.name in SOUGHT and not self._index.is_counted
            packets: Iterator[tuple[int, Any]] = enumerate(file.packets())
            at = 0
            for run in self._runs(wanted):
                if seeks and run.start - at > FAR_PACKETS:
                    landed = self._sought(file, run)
                    seeks = landed is not None
                    if landed is None:
                        file = files.enter_context(opened(self._part, self._data))
                    packets = landed or enumerate(file.packets())
                yield from self._run(file, packets, run, stamps if skips else None)
                at = run.last

    def _sought(self, file: ClipFile, run: _Run) -> Iterator[tuple[int, Any]] | None:
        """Packets with their places from shortly before the run on; None where seeking does not lead there."""
        index = self._index
        stamp = int(index.starts[index.starts[:, 0] == run.start, 1][0])
        try:
            file.container.seek(stamp, stream=file.stream)
            first = next(file.packets(), None)
        except FFmpegError:
            return None
        offset = None if first is None else first.pos
        places = [] if offset is None or offset < 0 else np.flatnonzero(index.offsets == offset).tolist()
        if len(places) != 1 or not run.start - FAR_PACKETS <= places[0] <= run.start:
            return None
        return enumerate(chain([first], file.packets()), places[0])

    def _shown_at(self, wanted: int) -> tuple[int, Any]:
        """The frame, or the last one before it, with all that leads there decoded."""
        best = None
        with opened(self._part, self._data) as file:
            everything = _Run(0, self._last_place(wanted))
            for index, frame in self._run(file, enumerate(file.packets()), everything):
                if index > wanted:
                    break
                best = index, frame
        if best is None:
            raise bad_media(self._part, "the clip is damaged: its frames cannot be decoded")
        return best

    def _runs(self, wanted: Sequence[int]) -> list[_Run]:
        runs: list[_Run] = []
        for index in wanted:
            start, last = self._index.start(index), self._last_place(index)
            if runs and start <= runs[-1].last:
                runs[-1].last = max(last, runs[-1].last)
            else:
                runs.append(_Run(start, last))
        return runs

    def _last_place(self, index: int) -> int:
        """The packet after which the decoder has all it needs for a frame; where it has to be counted, the last packet
        before decoding can begin anew."""
        if not self._index.is_counted:
            return int(self._index.places[index])
        later = self._index.starts[self._index.starts[:, 0] > index, 0]
        return int(later[0]) - 1 if len(later) else len(self._index.stamps) - 1

    def _run(
        self, file: ClipFile, packets: Iterator[tuple[int, Any]], run: _Run, stamps: set[int] | None = None
    ) -> Iterator[tuple[int, Any]]:
        """(index, frame) of what the decoder gives out. With stamps, others may be left out."""
        file.decoder.flush_buffers()
        count = run.start
        for place, packet in packets:
            if place < run.start:
                self._time_limit.check(self._part)
                continue
            if stamps is not None:
                file.decoder.skip_frame = "DEFAULT" if packet.pts in stamps else "NONREF"
            frames = self._output(file, packet)
            if place >= run.last:
                frames += self._output(file, None)
            for frame in frames:
                index = count if self._index.is_counted else self._index_of(frame)
                count += 1
                if index is not None:
                    yield index, frame
            if place >= run.last:
                return

    def _output(self, file: ClipFile, packet: Any) -> list[Any]:
        """What the decoder gives out on this packet; nothing on one that it cannot read."""
        self._time_limit.check(self._part)
        try:
            return list(file.decoder.decode(packet))
        except FFmpegError:
            return []

    def _index_of(self, frame: Any) -> int | None:
        """The index of a frame by its time stamp."""
        if frame.pts is None:
            return None
        at = int(self._index.stamps.searchsorted(frame.pts))
        return at if at < len(self._index.stamps) and self._index.stamps[at] == frame.pts else None


def _marks_unreferenced(file: ClipFile) -> bool:
    """Of HEVC the mark holds within one temporal layer: there must be no second (ISO/IEC 14496-15, 8.3.3.1.2)."""
    settings = file.decoder.extradata or b""
    is_flat_hevc = file.codec == "hevc" and len(settings) > 21 and settings[0] == 1 and settings[21] >> 3 & 7 == 1
    return is_flat_hevc or file.codec in MARKS_UNREFERENCED
