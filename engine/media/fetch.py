"""Where the bytes of a part come from: a data: URL, a file, or the web (engine.media.web)."""

from __future__ import annotations

import binascii
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes

from blake3 import blake3

from engine.config import MediaLimits
from engine.errors import say_bytes
from engine.media.medium import bad_media
from engine.types import Part

WHITESPACE = b" \t\r\n\f\v"
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
URLSAFE = bytes.maketrans(b"-_", b"+/")


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a part, and how long it took to get them."""

    data: bytes
    fetch_ms: float


ContentReader = Callable[[Part, MediaLimits], Content]


def read_content(part: Part, limits: MediaLimits) -> Content:
    """read_part, with the time it took. Blocks; raises BadMedia."""
    started = time.perf_counter()
    data = read_part(part, limits)
    return Content(data, (time.perf_counter() - started) * 1e3)


def read_all(part: Part, there: Mapping[Part, Content], limits: MediaLimits) -> dict[Part, bytes]:
    """The bytes of a part, or of each frame of a list. there: of those that were fetched already. Blocks; raises
    BadMedia."""
    return {one: (there.get(one) or read_content(one, limits)).data for one in part.parts or (part,)}


def fingerprint(part: Part, content: Content | None) -> bytes | None:
    """The same bytes as long as the content of a part is the same; quicker than to read it. None where nothing is said
    without reading it. content: of a part that was fetched already.

    By BLAKE3, since a chat of screenshots has dozens of megabytes to be hashed before every answer; other hashes that
    nobody can forge take two to six times as long.
    """
    if content is not None:
        return blake3(content.data).digest()
    if part.path is not None:
        try:
            stat = os.stat(part.path)
        except OSError:
            return None
        return f"{part.path} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}".encode()
    url = part.url or ""
    return blake3(url.encode()).digest() if is_data_url(url) else None


def is_data_url(url: str) -> bool:
    return url[:8].lower().startswith("data:")


def is_remote(part: Part) -> bool:
    """Whether its bytes come over the network: then getting them means to wait, not to work."""
    return part.path is None and (part.url or "").lstrip()[:8].lower().startswith(("http://", "https://"))


def read_part(part: Part, limits: MediaLimits) -> bytes:
    """All bytes of a part, never more than limits.max_bytes. Blocks; raises BadMedia."""
    if part.path is not None:
        return _read_file(part, Path(part.path), limits)
    url = (part.url or "").strip()
    if is_data_url(url):
        return read_data_url(part, url, limits)
    if is_remote(part):
        from engine.media.web import fetch_url  # httpx takes a tenth of a second that every start would wait for

        return fetch_url(part, url, limits)
    if not url:
        raise bad_media(part, "there is no URL")
    named = SCHEME.match(url)
    what = f"{named[0]} URLs are not read" if named and len(named[0]) < 16 else "this is not a URL"
    raise bad_media(part, f"{what}; it must begin with data:, http:// or https://")


def read_data_url(part: Part, url: str, limits: MediaLimits) -> bytes:
    """The payload of `data:[type][;base64],payload`; the declared type is not looked at.

    Base64 is read as browsers do: white space, the URL-safe alphabet and missing padding are fine, other characters
    are not. https://datatracker.ietf.org/doc/html/rfc2397
    """
    header, comma, payload = url.partition(",")
    if not comma:
        raise bad_media(part, "the data: URL has no comma between its type and its data")
    if header.lower().rpartition(";")[2].strip() != "base64":
        data = unquote_to_bytes(payload)
        _check_size(part, len(data), limits)
        return data
    if "%" in payload:
        payload = unquote_to_bytes(payload).decode("latin-1")
    # Bytes, not text: a screenshot has a million characters, and a chat sends dozens of them anew with every question.
    try:
        digits = payload.encode("ascii").translate(URLSAFE, WHITESPACE).rstrip(b"=")
        _check_size(part, len(digits) * 3 // 4, limits)
        return binascii.a2b_base64(digits + b"=" * (-len(digits) % 4), strict_mode=True)
    except ValueError as error:  # what both raise
        raise bad_media(part, "the data: URL is not valid base64") from error


def _read_file(part: Part, path: Path, limits: MediaLimits) -> bytes:
    try:
        if not path.is_file():
            raise bad_media(part, f"there is no file {path.name!r}")
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)
    except OSError as error:
        raise bad_media(part, f"the file {path.name!r} cannot be read ({error.strerror})") from error
    if len(data) > limits.max_bytes:
        _check_size(part, path.stat().st_size, limits)
    return data


def _check_size(part: Part, num_bytes: int, limits: MediaLimits) -> None:
    if num_bytes > limits.max_bytes:
        allowed = say_bytes(limits.max_bytes)
        raise bad_media(part, f"it has {say_bytes(num_bytes)}; at most {allowed} are allowed for one medium")
