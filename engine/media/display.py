"""Decoded frames as a player shows them: upright, with square pixels, whole frames, in sRGB.

FFmpeg's filters do it, told explicitly what the frame is; a frame whose colours they cannot convert is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image

from engine.media.hdr import needs_mapping, to_srgb
from engine.media.medium import refuse
from engine.types import Part
from engine.types.media import Pixels

RGB, UNKNOWN = 0, 2
COLOURS = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
"""The matrices between RGB and what is stored that FFmpeg's converter knows (ITU-T H.273, table 4)."""

FULL_RANGE = 2
HD_HEIGHT, HD_WIDTH = 720, 1280
"""What does not say its matrix is BT.709 from this size on, BT.601 below, as players have it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How stored pixels are to be shown. aspect: width of a pixel over its height. Then is_transposed: rows become
    columns; then mirrored across (left and right) and down."""

    aspect: Fraction = Fraction(1)
    is_transposed: bool = False
    is_mirrored_across: bool = False
    is_mirrored_down: bool = False

    def shown(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) as shown. No pixel is lost: what is too narrow is made wider or less high things higher."""
        if self.aspect > 1:
            width = round(width * self.aspect)
        else:
            height = round(height / self.aspect)
        return (height, width) if self.is_transposed else (width, height)


def shape_of(stream: Any, frame: Any) -> Shape:
    """Of a clip's stream and its first frame."""
    aspect = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    aspect = Fraction(aspect) if aspect else Fraction(1)
    sides = [side for side in frame.side_data if side.type.name == "DISPLAYMATRIX"]
    if not sides:
        return Shape(aspect)
    # ISO/IEC 14496-12, 8.3.2, as FFmpeg holds it: (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(sides[0]), np.int32)[:5]
    if abs(int(a)) >= abs(int(b)):
        return Shape(aspect, False, bool(a < 0), bool(d < 0))
    return Shape(aspect, True, bool(c < 0), bool(b < 0))


class Display:
    """Shows the frames of one clip at one size (width, height). Belongs to one thread."""

    def __init__(self, part: Part, shape: Shape, size: tuple[int, int]) -> None:
        self._part = part
        self._shape = shape
        self._size = size
        self._graph: tuple[tuple[Any, ...], Any] | None = None

    def show(self, frames: Sequence[Any], place: int) -> Pixels:
        """The frame at that place as (H, W, 3) uint8. Of an interlaced clip, frames has its neighbours too, where there
        are any; else it is alone. Raises BadMedia."""
        frame = frames[place]
        if frame.colorspace not in (RGB, UNKNOWN, *COLOURS):
            name = f"matrix {int(frame.colorspace)} of ITU-T H.273"
            raise refuse(self._part, f"the clip's colours are stored in a way that is not read ({name})")
        try:
            seen = self._woven(frames, place) if frame.interlaced_frame else self._alone(frame)
        except FFmpegError as error:
            raise refuse(self._part, f"the clip's frames ({frame.format.name}) cannot be converted to RGB") from error
        return self._rgb(seen.to_ndarray(), frame)

    def _alone(self, frame: Any) -> Any:
        kind = _kind(frame)
        if self._graph is None or self._graph[0] != kind:
            self._graph = kind, self._made(frame)
        graph = self._graph[1]
        graph.push(_untimed(frame, 0))
        return graph.pull()

    def _woven(self, frames: Sequence[Any], place: int) -> Any:
        """Deinterlaced: the filter looks at the frame before and the one after. It gives one frame for each."""
        graph = self._made(frames[place])
        for number, frame in enumerate(frames):
            graph.push(_untimed(frame, number))
        graph.push(None)
        for _ in range(place):
            graph.pull()
        return graph.pull()

    def _made(self, frame: Any) -> Any:
        """A filter graph for frames like this one."""
        shape, (width, height) = self._shape, self._size
        if shape.is_transposed:
            width, height = height, width
        source = f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base=1/25:pixel_aspect=1/1"
        steps = [("buffer", source + _told(frame))]
        if frame.interlaced_frame:
            steps.append(("bwdif", "mode=send_frame:parity=auto:deint=all"))
        # The curve and the primaries are dealt with in hdr; the converter would refuse some of them.
        steps.append(("setparams", "color_primaries=unknown:color_trc=unknown"))
        scaling = "area" if width < frame.width else "bicubic"
        steps.append(("scale", f"w={width}:h={height}:flags={scaling}{_matrix(frame)}"))
        steps.append(("format", f"pix_fmts={_target(frame)}"))
        steps += [("transpose", "dir=cclock_flip")] * shape.is_transposed
        steps += [("hflip", "")] * shape.is_mirrored_across
        steps += [("vflip", "")] * shape.is_mirrored_down
        graph = av.filter.Graph()
        graph.link_nodes(*(graph.add(name, settings or None) for name, settings in steps), graph.add("buffersink"))
        graph.configure()
        return graph

    def _rgb(self, pixels: Any, frame: Any) -> Pixels:
        if pixels.dtype == np.uint16:
            pixels = to_srgb(pixels, frame.color_trc, frame.color_primaries)
        if pixels.shape[2] == 4:
            seen = Image.fromarray(pixels, "RGBA")
            pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert("RGB"))
        return np.ascontiguousarray(pixels)


def _kind(frame: Any) -> tuple[Any, ...]:
    """What a filter graph is made for."""
    return (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, _target(frame))


def _untimed(frame: Any, number: int) -> Any:
    frame.pts = number
    return frame


def _is_rgb(frame: Any) -> bool:
    return bool(frame.format.is_rgb)


def _told(frame: Any) -> str:
    if _is_rgb(frame):
        return ""
    return f":colorspace={int(frame.colorspace)}:range={int(frame.color_range)}"


def _matrix(frame: Any) -> str:
    """What the frame does not say of itself."""
    if _is_rgb(frame) or frame.colorspace != UNKNOWN:
        return ""
    is_hd = frame.height >= HD_HEIGHT or frame.width >= HD_WIDTH
    return f":in_color_matrix={'bt709' if is_hd else 'smpte170m'}"


def _target(frame: Any) -> str:
    if needs_mapping(frame.color_trc, frame.color_primaries):
        return "rgb48le"
    return "rgba" if any(component.is_alpha for component in frame.format.components) else "rgb24"
