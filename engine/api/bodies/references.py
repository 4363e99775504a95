"""A URL or path that a client names -> a Part. Here it is decided which local files an API request may name."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from engine.config import MediaLimits
from engine.errors import BadMedia
from engine.types import Kind, Part

SCHEME = re.compile(r"[a-z][a-z0-9+.-]+:", re.IGNORECASE)
LONGEST_PATH = 1024


def reference(kind: Kind, url: str, param: str, limits: MediaLimits) -> Part:
    """Part of a medium. data:, http: and https: URLs are taken as they are and read later, in the media pool.

    file: URLs and bare paths are files of this machine: they must lie under limits.media_root after every link and
    ".." is followed. A file outside is refused in the same words whether it exists or not. Raises BadMedia.
    """
    scheme = SCHEME.match(url)
    name = scheme[0].lower() if scheme else ""
    if name in ("data:", "http:", "https:"):
        return Part(kind, url=url, param=param)
    if name not in ("", "file:"):
        raise _refused(f"{name} URLs are not read; use data:, http: or https:", param)
    if len(url) > LONGEST_PATH:
        raise _refused("it is not a URL; base64 data begins with data:image/png;base64, (or its own type)", param)
    if limits.media_root is None:
        raise _refused("files of the server are not read; the server's --media-root option allows a folder", param)
    path = _inside(_local_path(url, param), limits.media_root)
    if path is None:
        raise _refused("this file is not in the folder given with --media-root", param)
    return Part(kind, path=str(path), param=param)


def _local_path(url: str, param: str) -> str:
    if not url.lower().startswith("file:"):
        return url
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise _refused("file: URLs of other machines are not read", param)
    return unquote(parts.path)


def _inside(path: str, root: Path) -> Path | None:
    """The real path, links followed, if it lies under root; a relative path is taken from root."""
    root = root.resolve()
    try:
        real = (root / path).resolve()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a loop of links
        return None
    return real if real.is_relative_to(root) else None


def _refused(why: str, param: str) -> BadMedia:
    return BadMedia(f"{param}: {why}.", param=param)
