"""One part of a message -> Part: text, or a medium in any of the forms that clients send. Raises BadRequest, BadMedia.

{"type": "image_url", "image_url": {"url": ..., "detail": "low"}}     OpenAI; video_url, audio_url likewise
{"type": "image", "image": ...}                                       Qwen; "video" likewise, with fps ...
{"type": "video", "video": [frame, frame, ...]}                       a clip as a list of pictures
{"type": "image", "url" | "path" | "base64": ...}                     transformers
{"type": "input_audio", "input_audio": {"data": ..., "format": ...}}  OpenAI
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import BaseModel, FiniteFloat, StrictInt, ValidationError
from pydantic.fields import Field

from engine.api.references import reference
from engine.api.schemas import explain
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Detail, FrameSampling, Kind, Part, Role

MEDIA_TYPES: dict[str, Kind] = {
    "image_url": "image",
    "image": "image",
    "video_url": "video",
    "video": "video",
    "audio_url": "audio",
    "audio": "audio",
    "input_audio": "audio",
}
FrameSettings = TypeVar("FrameSettings", bound=BaseModel)
PART_TYPES = ("text", *MEDIA_TYPES)
DETAILS: dict[Any, Detail] = {None: "auto", "auto": "auto", "low": "low", "high": "high", "original": "high"}
FRAMES_URL = "data:video/jpeg;base64,"
"""vLLM's clients send a clip as JPEG frames behind this, parted by commas."""


class ImageSettings(BaseModel):
    max_pixels: StrictInt | None = Field(None, ge=1)


class ClipSettings(BaseModel):
    """Of one clip, in the words of Qwen's tools; total_pixels is what the request calls video_max_pixels."""

    fps: FiniteFloat | None = Field(None, gt=0)
    min_frames: StrictInt | None = Field(None, ge=1)
    max_frames: StrictInt | None = Field(None, ge=1)
    video_start: FiniteFloat | None = Field(None, ge=0)
    video_end: FiniteFloat | None = Field(None, gt=0)
    total_pixels: StrictInt | None = Field(None, ge=1)


def read_part(raw: Any, role: Role, param: str, limits: MediaLimits) -> Part:
    """raw: the JSON of the part; param: where it stands."""
    if not isinstance(raw, dict):
        raise BadRequest(f"{param}: it must be an object with a type.", param=param)
    kind = raw.get("type")
    if kind == "text":
        text = raw.get("text")
        if not isinstance(text, str):
            raise BadRequest(f"{param}.text: it must be a string.", param=f"{param}.text")
        return Part("text", text=text, param=f"{param}.text")
    if kind not in MEDIA_TYPES:
        raise BadRequest(f"{param}.type: it must be one of {', '.join(PART_TYPES)}.", param=f"{param}.type")
    if role != "user":
        raise BadRequest(f"{param}: pictures, clips and sound belong in messages of role user.", param=param)
    if kind == "input_audio":
        return _sound(raw.get(kind), f"{param}.{kind}")
    return _medium(raw, kind, param, limits)


def _medium(raw: dict[str, Any], name: str, param: str, limits: MediaLimits) -> Part:
    kind = MEDIA_TYPES[name]
    value, where = _value(raw, name, param)
    fields = {**raw, **value} if isinstance(value, dict) else raw
    if isinstance(value, dict):
        value, where = value.get("url"), f"{where}.url"
    if kind == "video" and isinstance(value, str) and value[: len(FRAMES_URL)].lower() == FRAMES_URL:
        value = [f"data:image/jpeg;base64,{frame}" for frame in value[len(FRAMES_URL) :].split(",")]
    if kind == "video" and isinstance(value, list):
        part = Part(kind, parts=tuple(_frames(value, where, limits)), param=where)
    else:
        part = _reference(kind, value, where, limits)
    if kind == "image":
        detail = _detail(fields.get("detail"), f"{param}.{name}.detail")
        return replace(part, detail=detail, max_pixels=_settings(ImageSettings, fields, param).max_pixels)
    return replace(part, frames=_sampling(fields, param, is_list=bool(part.parts))) if kind == "video" else part


def _value(raw: dict[str, Any], name: str, param: str) -> tuple[Any, str]:
    """What is under the part's own name, or under one of transformers' names for it."""
    if name not in raw:
        for other in ("url", "path"):
            if other in raw:
                return raw[other], f"{param}.{other}"
        if isinstance(raw.get("base64"), str):
            return f"data:;base64,{raw['base64']}", f"{param}.base64"
    return raw.get(name), f"{param}.{name}"


def _reference(kind: Kind, value: Any, param: str, limits: MediaLimits) -> Part:
    if not isinstance(value, str) or not value.strip():
        raise BadRequest(f"{param}: it must be a URL.", param=param)
    return reference(kind, value.strip(), param, limits)


def _frames(values: list[Any], param: str, limits: MediaLimits) -> Iterator[Part]:
    """The pictures of a clip that is sent as a list of them."""
    if not values:
        raise BadRequest(f"{param}: the list of frames is empty.", param=param)
    if len(values) > limits.max_frames:
        allowed = f"at most {limits.max_frames} frames are allowed, got {len(values)}"
        raise BadRequest(f"{param}: {allowed}.", param=param)
    for i, value in enumerate(values):
        if isinstance(value, dict):
            yield _reference("image", value.get("url"), f"{param}[{i}].url", limits)
        else:
            yield _reference("image", value, f"{param}[{i}]", limits)


def _sound(value: Any, param: str) -> Part:
    if not isinstance(value, dict) or not isinstance(value.get("data"), str):
        raise BadRequest(f"{param}.data: it must be a base64 string.", param=f"{param}.data")
    return Part("audio", url=f"data:audio/{value.get('format', 'wav')};base64,{value['data']}", param=f"{param}.data")


def _detail(detail: Any, param: str) -> Detail:
    if not isinstance(detail, str | None) or detail not in DETAILS:
        raise BadRequest(f"{param}: it must be auto, low or high.", param=param)
    return DETAILS[detail]


def _sampling(fields: dict[str, Any], param: str, *, is_list: bool) -> FrameSampling | None:
    """A clip's own settings, None where it has none. The fps of a list of frames is the rate they were taken at."""
    if fields.get("max_pixels") is not None:
        where = f"{param}.max_pixels"
        raise BadRequest(f"{where}: for a clip, say total_pixels (all of its frames together).", param=where)
    said = _settings(ClipSettings, fields, param)
    check_stretch((said.video_start, said.video_end), (said.min_frames, said.max_frames), f"{param}.", "")
    sampling = FrameSampling(
        fps=None if is_list else said.fps,
        list_fps=said.fps if is_list else None,
        min_frames=said.min_frames,
        max_frames=said.max_frames,
        start_s=said.video_start,
        end_s=said.video_end,
        max_pixels=said.total_pixels,
    )
    return None if sampling == FrameSampling() else sampling


def check_stretch(
    stretch_s: tuple[float | None, float | None], frames: tuple[int | None, int | None], path: str, prefix: str
) -> None:
    """(start, end) and (least, most) must not be the wrong way round. The fields' names are path + (prefix) + name."""
    (start_s, end_s), (least, most) = stretch_s, frames
    if start_s is not None and end_s is not None and end_s <= start_s:
        where = f"{path}video_end"
        raise BadRequest(f"{where}: {end_s:g} s is not after video_start, {start_s:g} s.", param=where)
    if least is not None and most is not None and least > most:
        where = f"{path}{prefix}min_frames"
        raise BadRequest(f"{where}: {least} is more than {prefix}max_frames, {most}.", param=where)


def _settings(kind: type[FrameSettings], fields: dict[str, Any], param: str) -> FrameSettings:
    """The settings among a part's fields. Raises BadRequest with the part's place."""
    try:
        return kind.model_validate({name: fields[name] for name in kind.model_fields if name in fields})
    except ValidationError as error:
        found = explain([{**e, "loc": ("body", *e["loc"])} for e in error.errors()], fields)
        raise BadRequest(f"{param}.{found.message}", param=f"{param}.{found.param}") from error
