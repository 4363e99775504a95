"""A request as a zip with its media, to be asked again anywhere (vllm-mlx replay).

request.json     {"format", "version", "path", "body", "answer", "media": {name: media type}, "record"}
media/SHA-256    each medium as it came; the body names it so
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import BadRequest
from engine.request_body import CHAT, COMPLETIONS
from engine.request_log.body import MEDIA_FOLDER, RequestBody, SentMedium
from engine.types import Json

FORMAT = "vllm-mlx-request"
VERSION = 1
MAX_BYTES = 1024**3
"""Of all that a zip unpacks to."""

_MAIN = "request.json"


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """What a zip holds. answer: the choices that it got, as GET /v1/requests/ID has them, () where there are none."""

    asked: RequestBody
    answer: tuple[Json, ...]


def packed(asked: RequestBody, whole: Json) -> bytes:
    """whole: what GET /v1/requests/ID tells of it. Blocks."""
    told = {
        "format": FORMAT,
        "version": VERSION,
        "path": asked.path,
        "body": asked.body,
        "answer": whole["answer"],
        "media": {name: medium.media_type for name, medium in asked.media.items()},
        "record": whole,
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MAIN, json.dumps(told, ensure_ascii=False, indent=1))
        for name, medium in asked.media.items():
            archive.writestr(name, medium.content, zipfile.ZIP_STORED)  # it is compressed already
    return file.getvalue()


def unpacked(path: Path) -> KeptRequest:
    """Raises BadRequest, with what is wrong, for a file that is not such a zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise BadRequest(f"{path}: it unpacks to more than {MAX_BYTES // 1024**2} MiB.", param="file")
            told = json.loads(archive.read(_MAIN))
            _check(told, path)
            media = {
                name: SentMedium(str(kind), archive.read(name))
                for name, kind in told["media"].items()
                if name.startswith(MEDIA_FOLDER)
            }
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, RuntimeError) as error:
        raise BadRequest(f"{path}: it cannot be read as a request ({error}).", param="file") from error
    return KeptRequest(RequestBody(told["path"], told["body"], media), tuple(told["answer"]))


def _check(told: Any, path: Path) -> None:
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise BadRequest(f"{path}: this is not a request that was downloaded here.", param="file")
    if told.get("version") != VERSION:
        why = f"version: {told.get('version')!r} is not one that is read here, {VERSION}"
        raise BadRequest(f"{path}: {why}.", param="version")
    kinds = {"path": str, "body": dict, "answer": list, "media": dict}
    for name, kind in kinds.items():
        if not isinstance(told.get(name), kind):
            raise BadRequest(f"{path}: {name} is missing or is no {kind.__name__}.", param=name)
    if told["path"] not in (CHAT, COMPLETIONS):
        raise BadRequest(f"{path}: path must be {CHAT} or {COMPLETIONS}.", param="path")
