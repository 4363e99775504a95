"""Clips as people have them, written at test time: every container and codec of the table, and their quirks."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
import numpy as np

from tests.engine.media.clips import burnt

EVEN = tuple(k / 25 for k in range(60))
MICRO = Fraction(1, 1_000_000)


@dataclass(frozen=True)
class Recipe:
    """How a clip is written. rate: of times_s, if they are even; else None."""

    format: str
    encoder: str
    pix_fmt: str = "yuv420p"
    size: tuple[int, int] = (320, 96)
    times_s: tuple[float, ...] = EVEN
    rate: Fraction | None = Fraction(25)
    gop: int = 12
    muxer: dict[str, str] = field(default_factory=dict)
    codec: dict[str, str] = field(default_factory=dict)
    aspect: Fraction | None = None
    colours: dict[str, int] = field(default_factory=dict)
    """Of the encoder's context: colorspace, color_range, color_primaries, color_trc, field_order."""
    display_matrix: tuple[int, ...] | None = None

    def but(self, **changes: Any) -> Recipe:
        return replace(self, **changes)


X264 = {"preset": "ultrafast", "bf": "2", "crf": "18"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:bframes=3:crf=18"}
VPX = {"cpu-used": "8", "deadline": "realtime", "b": "3M"}
AV1 = {"preset": "8", "crf": "12", "svtav1-params": "keyint=12"}
DV_SIZE = (720, 576)
GOOD = {"q:v": "2", "qmin": "1", "qmax": "3", "b": "8M", "bf": "2"}
MP4 = Recipe("mp4", "libx264", codec=X264)
RECIPES: dict[tuple[str, str], Recipe] = {
    ("MP4", "H.264"): MP4,
    ("MP4", "HEVC"): Recipe("mp4", "libx265", codec=X265),
    ("MP4", "HEVC 10 bit"): Recipe("mp4", "libx265", "yuv420p10le", codec=X265),
    ("MP4", "AV1"): Recipe("mp4", "libsvtav1", codec=AV1),
    ("MP4", "VP9"): Recipe("mp4", "libvpx-vp9", codec=VPX),
    ("MP4", "MPEG-4"): Recipe("mp4", "mpeg4", codec=GOOD),
    ("3GP", "H.263"): Recipe("3gp", "h263", size=(352, 288), codec=GOOD | {"bf": "0"}),
    ("3GP", "MPEG-4"): Recipe("3gp", "mpeg4", codec=GOOD),
    ("MOV", "H.264"): Recipe("mov", "libx264", codec=X264),
    ("MOV", "HEVC"): Recipe("mov", "libx265", codec=X265),
    ("MOV", "ProRes"): Recipe("mov", "prores_ks", "yuv422p10le"),
    ("MOV", "ProRes 4444"): Recipe("mov", "prores_ks", "yuva444p10le", codec={"profile": "4"}),
    ("MOV", "MJPEG"): Recipe("mov", "mjpeg", "yuvj420p", codec=GOOD | {"bf": "0"}),
    ("MOV", "DV"): Recipe("mov", "dvvideo", size=DV_SIZE),
    ("WebM", "VP8"): Recipe("webm", "libvpx", codec=VPX),
    ("WebM", "VP9"): Recipe("webm", "libvpx-vp9", codec=VPX),
    ("WebM", "AV1"): Recipe("webm", "libsvtav1", codec=AV1),
    ("MKV", "H.264"): Recipe("matroska", "libx264", codec=X264),
    ("MKV", "HEVC"): Recipe("matroska", "libx265", codec=X265),
    ("MKV", "HEVC 10 bit"): Recipe("matroska", "libx265", "yuv420p10le", codec=X265),
    ("MKV", "VP9"): Recipe("matroska", "libvpx-vp9", codec=VPX),
    ("MKV", "MPEG-2"): Recipe("matroska", "mpeg2video", codec=GOOD),
    ("MKV", "MPEG-4"): Recipe("matroska", "mpeg4", codec=GOOD),
    ("MKV", "FFV1"): Recipe("matroska", "ffv1"),
    ("AVI", "H.264"): Recipe("avi", "libx264", codec=X264),
    ("AVI", "MPEG-4"): Recipe("avi", "mpeg4", codec=GOOD),
    ("AVI", "MJPEG"): Recipe("avi", "mjpeg", "yuvj420p", codec=GOOD | {"bf": "0"}),
    ("AVI", "MS-MPEG-4"): Recipe("avi", "msmpeg4", codec=GOOD | {"bf": "0"}),
    ("AVI", "DV"): Recipe("avi", "dvvideo", size=DV_SIZE),
    ("MPEG-TS", "H.264"): Recipe("mpegts", "libx264", codec=X264),
    ("MPEG-TS", "HEVC"): Recipe("mpegts", "libx265", codec=X265),
    ("MPEG-TS", "MPEG-2"): Recipe("mpegts", "mpeg2video", codec=GOOD),
    ("M2TS", "H.264"): Recipe("mpegts", "libx264", codec=X264, muxer={"mpegts_m2ts_mode": "1"}),
    ("MPEG", "MPEG-1"): Recipe("mpeg", "mpeg1video", codec=GOOD),
    ("MPEG", "MPEG-2"): Recipe("vob", "mpeg2video", codec=GOOD),
    ("WMV", "WMV 7"): Recipe("asf", "wmv1", codec=GOOD | {"bf": "0"}),
    ("WMV", "WMV 8"): Recipe("asf", "wmv2", codec=GOOD | {"bf": "0"}),
    ("FLV", "H.264"): Recipe("flv", "libx264", codec=X264),
    ("FLV", "Sorenson"): Recipe("flv", "flv", codec=GOOD | {"bf": "0"}),
    ("DV", "DV"): Recipe("dv", "dvvideo", size=DV_SIZE),
}
"""By the rows of engine.media.codecs; those that are missing are written by other means (test_clip_matrix)."""


@contextmanager
def _own_priority() -> Iterator[None]:
    """SVT-AV1, where root runs it, makes the thread that calls it a real-time one: before a second test at once, a
    server or a browser could move on, it would have to sleep. Afterwards it is as before."""
    if not hasattr(os, "sched_setscheduler"):
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)


def write(recipe: Recipe, pictures: Sequence[Any] | None = None, out: io.BytesIO | None = None) -> bytes:
    """pictures: other frames than burnt ones: (H, W, 3) uint8 RGB, or av.VideoFrame as they are to be encoded. out:
    what is written to, if it is to be another than usual."""
    out = out or io.BytesIO()
    with _own_priority(), av.open(out, "w", format=recipe.format, options=recipe.muxer) as file:
        stream = _stream(file, recipe)
        for number, time_s in enumerate(recipe.times_s):
            picture = burnt(number, time_s, recipe.size) if pictures is None else pictures[number]
            frame = picture if isinstance(picture, av.VideoFrame) else _frame(picture, recipe)
            unit = MICRO if recipe.rate is None else 1 / recipe.rate
            frame.pts, frame.time_base = round(Fraction(time_s) / unit), unit
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()


def _stream(file: Any, recipe: Recipe) -> Any:
    stream = file.add_stream(recipe.encoder, rate=recipe.rate or 25, options=recipe.codec)
    stream.width, stream.height = recipe.size
    stream.pix_fmt = recipe.pix_fmt
    if recipe.display_matrix:
        stream.set_display_matrix(recipe.display_matrix)
    context = stream.codec_context
    context.gop_size = recipe.gop
    if recipe.encoder.startswith("libvpx"):
        # Its threads wait for each other without sleeping: two encoders on two cores stood still for minutes.
        context.thread_count = 1
    if recipe.rate is None:
        context.time_base = Fraction(1, 1000)
    if recipe.aspect:
        context.sample_aspect_ratio = recipe.aspect
    for name, value in recipe.colours.items():
        setattr(context, name, value)
    return stream


def _frame(picture: np.ndarray, recipe: Recipe) -> av.VideoFrame:
    """Converted by BT.601's matrix, in the range that the pixel format stands for."""
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    full = recipe.pix_fmt.startswith("yuvj") or recipe.colours.get("color_range") == 2
    return frame.reformat(format=recipe.pix_fmt, dst_colorspace="ITU601", dst_color_range="JPEG" if full else "MPEG")
