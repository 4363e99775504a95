"""What this build reads: one row for each container and codec that the tests write and read back frame by frame."""

from __future__ import annotations

from itertools import groupby

CODECS = (
    ("MP4", "H.264"),
    ("MP4", "HEVC"),
    ("MP4", "HEVC 10 bit"),
    ("MP4", "AV1"),
    ("MP4", "VP9"),
    ("MP4", "MPEG-4"),
    ("3GP", "H.263"),
    ("3GP", "MPEG-4"),
    ("MOV", "H.264"),
    ("MOV", "HEVC"),
    ("MOV", "ProRes"),
    ("MOV", "ProRes 4444"),
    ("MOV", "MJPEG"),
    ("MOV", "DV"),
    ("WebM", "VP8"),
    ("WebM", "VP9"),
    ("WebM", "AV1"),
    ("MKV", "H.264"),
    ("MKV", "HEVC"),
    ("MKV", "HEVC 10 bit"),
    ("MKV", "VP9"),
    ("MKV", "MPEG-2"),
    ("MKV", "MPEG-4"),
    ("MKV", "FFV1"),
    ("AVI", "H.264"),
    ("AVI", "MPEG-4"),
    ("AVI", "MJPEG"),
    ("AVI", "MS-MPEG-4"),
    ("AVI", "DV"),
    ("MPEG-TS", "H.264"),
    ("MPEG-TS", "HEVC"),
    ("MPEG-TS", "MPEG-2"),
    ("M2TS", "H.264"),
    ("MPEG", "MPEG-1"),
    ("MPEG", "MPEG-2"),
    ("WMV", "WMV 7"),
    ("WMV", "WMV 8"),
    ("OGV", "Theora"),
    ("FLV", "H.264"),
    ("FLV", "Sorenson"),
    ("DV", "DV"),
    ("GIF", "GIF"),
    ("PNG", "APNG"),
    ("WebP", "WebP"),
    ("AVIF", "AV1"),
)
"""(container, codec), as people call them. FFmpeg decodes more: what is not listed is tried, and not promised."""


def codec_table() -> str:
    """The rows as a Markdown table, one line a container."""
    lines = ["| Container | Codecs |", "|---|---|"]
    for container, rows in groupby(CODECS, key=lambda row: row[0]):
        lines.append(f"| {container} | {', '.join(codec for _, codec in rows)} |")
    return "\n".join(lines)
