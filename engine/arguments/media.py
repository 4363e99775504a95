"""What media may cost, and which frames of a clip are taken: argument group -> MediaLimits, FrameSampling.

Imports nothing slow: `--help` must answer at once.
"""

from __future__ import annotations

import argparse
from typing import get_args

from engine.arguments.types import folder, host, media_limits, more_than_zero, positive
from engine.config import MediaLimits
from engine.types import Coordinates, FrameSampling


def add_media_arguments(parser: argparse.ArgumentParser) -> None:
    """Read back by `media_config` and `frame_sampling`."""
    group = parser.add_argument_group("media")
    group.add_argument("--media-root", metavar="FOLDER", type=folder, help="API requests may name files in this folder")
    group.add_argument(
        "--allow-private-urls",
        action="store_true",
        help="fetch media from private, loopback and link-local addresses too",
    )
    group.add_argument(
        "--allowed-media-domains",
        metavar="HOST",
        nargs="+",
        action="extend",
        type=host,
        default=[],
        help="fetch media from these hosts only, redirects included (default: from any)",
    )
    group.add_argument(
        "--limit-mm-per-prompt",
        metavar="image=4,video=1,audio=1",
        type=media_limits,
        default={},
        help="most pictures, clips and sounds of one prompt; JSON is fine too",
    )
    group.add_argument(
        "--media-first",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="read a question after its picture, so that another question reuses the picture",
    )
    group.add_argument(
        "--coordinates",
        choices=get_args(Coordinates),
        default="model",
        help="boxes and points in answers: as the model wrote them, or in pixels of the original picture, for programs "
        "that click; a request may say otherwise (default: %(default)s)",
    )
    group.add_argument("--video-fps", metavar="FPS", type=more_than_zero, help="frames per second taken from a clip")
    group.add_argument("--video-max-frames", metavar="N", type=positive, help="most frames taken from a clip")


def media_config(args: argparse.Namespace) -> MediaLimits:
    """How many of each kind, and where they may come from."""
    return MediaLimits(
        max_images=args.limit_mm_per_prompt.get("image"),
        max_videos=args.limit_mm_per_prompt.get("video"),
        max_audios=args.limit_mm_per_prompt.get("audio"),
        media_root=args.media_root,
        allow_private_urls=args.allow_private_urls,
        allowed_media_domains=tuple(args.allowed_media_domains),
    )


def frame_sampling(args: argparse.Namespace) -> FrameSampling:
    """Where a request does not say."""
    return FrameSampling(fps=args.video_fps, max_frames=args.video_max_frames)
