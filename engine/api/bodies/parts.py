"""One part of a message -> Part: text, or a medium in any of the forms that clients send. Raises BadRequest, BadMedia.

{"type": "image_url", "image_url": {"url": ..., "detail": "low"}}     OpenAI; video_url, audio_url likewise
{"type": "image", "image": ...}                                       Qwen; "video" likewise, with fps ...
{"type": "video", "video": [frame, frame, ...]}                       a clip as a list of pictures
{"type": "image", "url" | "path" | "base64": ...}                     transformers
{"type": "input_audio", "input_audio": {"data": ..., "format": ...}}  OpenAI
{"type": "file", "file": {"file_data": ..., "filename": ...}}         OpenAI; a PDF or a text

Options stand in the part or in the object with the URL. One that is not known is an error, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, FiniteFloat, StrictBool, StrictInt, ValidationError
from pydantic.fields import Field

from engine.api.bodies.json_body import WholeNumbers, explain
from engine.api.bodies.references import reference
from engine.api.bodies.values import one_of, text_of
from engine.config import MediaLimits
from engine.errors import BadRequest
from engine.types import Detail, FrameSampling, Kind, PageChoice, Part

MEDIA_TYPES: dict[str, Kind] = {
    "image_url": "image",
    "image": "image",
    "video_url": "video",
    "video": "video",
    "audio_url": "audio",
    "audio": "audio",
    "input_audio": "audio",
    "file": "document",
}
FrameSettings = TypeVar("FrameSettings", bound=BaseModel)
PART_TYPES = ("text", *MEDIA_TYPES)
CACHE_HINTS = ("uuid", "cache_control")
"""vLLM's and Anthropic's: what they ask for is done anyway, as media are known by their content."""
DETAILS: dict[Any, Detail] = {None: "auto", "auto": "auto", "low": "low", "high": "high", "original": "high"}
PAGES = re.compile(r"\s*\d{1,6}\s*(-\s*\d{1,6}\s*)?(,\s*\d{1,6}\s*(-\s*\d{1,6}\s*)?){0,99}")
FRAMES_URL = "data:video/jpeg;base64,"
"""vLLM's clients send a clip as JPEG frames behind this, parted by commas."""


MAX_SIDE_PX = 1 << 16


class SizeSettings(WholeNumbers):
    """How large the model sees a picture, or each frame of a clip, in the words of Qwen's tools."""

    max_pixels: StrictInt | None = Field(None, ge=1)
    min_pixels: StrictInt | None = Field(None, ge=1)
    resized_height: StrictInt | None = Field(None, ge=1, le=MAX_SIDE_PX)
    resized_width: StrictInt | None = Field(None, ge=1, le=MAX_SIDE_PX)


class ImageSettings(SizeSettings):
    """animated: whether an animated picture goes in as a clip; None: where the model takes clips. crop: only this part
    of it, [x, y, width, height] in pixels of the picture upright."""

    animated: StrictBool | None = None
    crop: list[Annotated[StrictInt, Field(ge=0, le=MAX_SIDE_PX)]] | None = Field(None, min_length=4, max_length=4)


class FileSettings(WholeNumbers):
    """Of a document. pages: "1-3,7", all if left out; text: the text behind each page too; max_pixels: of one page."""

    filename: str = ""
    pages: str = ""
    text: StrictBool = False
    max_pixels: StrictInt | None = Field(None, ge=1)


class ClipSettings(SizeSettings):
    """Of one clip, in the words of Qwen's tools; total_pixels is what the request calls video_max_pixels. nframes: so
    many frames, instead of a rate and its bounds. sample_fps: the rate at which a list of frames was taken, as fps."""

    nframes: StrictInt | None = Field(None, ge=1)
    fps: FiniteFloat | None = Field(None, gt=0)
    sample_fps: FiniteFloat | None = Field(None, gt=0)
    min_frames: StrictInt | None = Field(None, ge=1)
    max_frames: StrictInt | None = Field(None, ge=1)
    video_start: FiniteFloat | None = Field(None, ge=0)
    video_end: FiniteFloat | None = Field(None, gt=0)
    total_pixels: StrictInt | None = Field(None, ge=1)


OPTIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("image_url", "image"), ("detail", *ImageSettings.model_fields)),
    **dict.fromkeys(("video_url", "video"), tuple(ClipSettings.model_fields)),
    **dict.fromkeys(("audio_url", "audio", "input_audio"), ()),
    "file": ("file_data", "file_url", *FileSettings.model_fields),
}


def read_part(raw: Any, param: str, limits: MediaLimits) -> Part:
    """raw: the JSON of the part; param: where it stands."""
    if not isinstance(raw, dict):
        raise BadRequest(f"{param}: it must be an object with a type.", param=param)
    kind = one_of(raw.get("type"), PART_TYPES, f"{param}.type")
    if kind == "text":
        return Part("text", text=text_of(raw, "text", param), param=f"{param}.text")
    refuse_unknown(raw, ("type", *_source(raw, kind), *(OPTIONS[kind] if kind != "file" else ())), param, kind)
    if kind == "input_audio":
        return _sound(raw.get(kind), f"{param}.{kind}")
    if kind == "file":
        return _file(raw, param, limits)
    return _medium(raw, kind, param, limits)


def _source(raw: dict[str, Any], kind: str) -> tuple[str, ...]:
    """The field that says where the medium is: the one with the part's name, or else one of transformers'."""
    return (kind,) if kind in raw or kind in ("input_audio", "file") else (kind, "url", "path", "base64")


def refuse_unknown(fields: dict[str, Any], known: Sequence[str], param: str, kind: str) -> None:
    """Raise BadRequest for the first field that nobody here would read."""
    for name, value in fields.items():
        if name not in known and name not in CACHE_HINTS and value is not None:
            where = f"{param}.{name}"
            options = ", ".join(name for name in known if name not in ("type", kind))
            raise BadRequest(
                f"{where}: not known here{f'; this part takes {options}' if options else ''}.",
                param=where,
                code="unknown_parameter",
            )


def _medium(raw: dict[str, Any], name: str, param: str, limits: MediaLimits) -> Part:
    kind = MEDIA_TYPES[name]
    value, where = _value(raw, name, param)
    fields = {**raw, **value} if isinstance(value, dict) else raw
    if isinstance(value, dict):
        refuse_unknown(value, ("url", *OPTIONS[name]), where, name)
        value, where = value.get("url"), f"{where}.url"
    if kind == "video" and isinstance(value, str) and value[: len(FRAMES_URL)].lower() == FRAMES_URL:
        value = [f"data:image/jpeg;base64,{frame}" for frame in value[len(FRAMES_URL) :].split(",")]
    if kind == "video" and isinstance(value, list):
        part = Part(kind, parts=tuple(_frames(value, where, limits)), param=where)
    else:
        part = _reference(kind, value, where, limits)
    if kind == "image":
        detail = _detail(fields.get("detail"), f"{param}.{name}.detail")
        asked = _settings(ImageSettings, fields, param)
        return replace(_sized(part, asked, param), detail=detail, animated=asked.animated, crop_px=_crop(asked, param))
    if kind == "video":
        wanted = _settings(ClipSettings, fields, param)
        return replace(_sized(part, wanted, param), frames=_sampling(wanted, param, is_list=bool(part.parts)))
    return part


def _sized(part: Part, said: SizeSettings, param: str) -> Part:
    if said.min_pixels and said.max_pixels and said.min_pixels > said.max_pixels:
        where = f"{param}.min_pixels"
        raise BadRequest(f"{where}: {said.min_pixels:,} are more than max_pixels, {said.max_pixels:,}.", param=where)
    sides = (said.resized_width, said.resized_height)
    if None in sides and sides != (None, None):
        where = f"{param}.resized_{'width' if said.resized_width is None else 'height'}"
        raise BadRequest(f"{where}: resized_width and resized_height go together.", param=where)
    exact_px = (said.resized_width, said.resized_height) if said.resized_width and said.resized_height else None
    return replace(part, max_pixels=said.max_pixels, min_pixels=said.min_pixels, exact_px=exact_px)


def _crop(said: ImageSettings, param: str) -> tuple[int, int, int, int] | None:
    if said.crop is None:
        return None
    x, y, width, height = said.crop
    where = f"{param}.crop"
    if 0 in (width, height):
        raise BadRequest(f"{where}: width and height must be at least 1, got {width} and {height}.", param=where)
    if said.animated:
        raise BadRequest(f"{where}: it is a part of one picture, so animated must not be true.", param=where)
    return x, y, width, height


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
            refuse_unknown(value, ("url",), f"{param}[{i}]", "")
            yield _reference("image", value.get("url"), f"{param}[{i}].url", limits)
        else:
            yield _reference("image", value, f"{param}[{i}]", limits)


def _file(raw: dict[str, Any], param: str, limits: MediaLimits) -> Part:
    value, param = raw.get("file"), f"{param}.file"
    if not isinstance(value, dict):
        raise BadRequest(f"{param}: it must be an object with file_data and filename.", param=param)
    return read_file(value, param, limits)


def read_file(value: dict[str, Any], param: str, limits: MediaLimits, *, also: Sequence[str] = ()) -> Part:
    """A document by its fields: its data, as a data: URL or bare base64, or a URL or path as for any medium. also: the
    fields that may stand beside them."""
    refuse_upload(value, param, "file_data")
    refuse_unknown(value, (*OPTIONS["file"], *also), param, "file")
    said = _settings(FileSettings, value, param)
    if said.pages and not PAGES.fullmatch(said.pages):
        raise BadRequest(f'{param}.pages: it must be like "1-3,7".', param=f"{param}.pages")
    data, where = value.get("file_data"), f"{param}.file_data"
    if data is None and value.get("file_url") is not None:
        part = _reference("document", value["file_url"], f"{param}.file_url", limits)
    elif not isinstance(data, str) or not data:
        raise BadRequest(f"{where}: it must be a string, the file as base64.", param=where)
    else:
        url = data if data[:5].lower() == "data:" else f"data:;base64,{data}"
        part = Part("document", url=url, param=where)
    return replace(part, max_pixels=said.max_pixels, document=PageChoice(said.filename, said.pages, said.text))


def refuse_upload(fields: dict[str, Any], param: str, instead: str) -> None:
    """Raise BadRequest for a medium that is named by the id of an uploaded file. instead: the field to send it in."""
    if fields.get("file_id") is not None:
        where = f"{param}.file_id"
        why = f"files cannot be uploaded to this server yet; send the file itself as {instead}"
        raise BadRequest(f"{where}: {why}.", param=where, code="unsupported_parameter")


def _sound(value: Any, param: str) -> Part:
    if isinstance(value, dict):
        refuse_unknown(value, ("data", "format"), param, "input_audio")
    if not isinstance(value, dict) or not isinstance(value.get("data"), str):
        raise BadRequest(f"{param}.data: it must be a base64 string.", param=f"{param}.data")
    form = text_of(value, "format", param, "wav")
    return Part("audio", url=f"data:audio/{form};base64,{value['data']}", param=f"{param}.data")


def _detail(detail: Any, param: str) -> Detail:
    if not isinstance(detail, str | None) or detail not in DETAILS:
        raise BadRequest(f"{param}: it must be auto, low or high.", param=param)
    return DETAILS[detail]


def _sampling(said: ClipSettings, param: str, *, is_list: bool) -> FrameSampling | None:
    """A clip's own settings, None where it has none. The fps of a list of frames is the rate they were taken at."""
    if said.sample_fps is not None and (not is_list or said.fps is not None):
        where = f"{param}.sample_fps"
        why = "it and fps are one setting" if is_list else "only a list of frames was taken at a rate; say fps"
        raise BadRequest(f"{where}: {why}.", param=where)
    if said.nframes is not None and not (said.fps is said.min_frames is said.max_frames is None):
        where = f"{param}.nframes"
        raise BadRequest(
            f"{where}: it is a number of frames, so fps, min_frames, max_frames must be left out.", param=where
        )
    check_stretch((said.video_start, said.video_end), (said.min_frames, said.max_frames), f"{param}.", "")
    sampling = FrameSampling(
        fps=None if is_list else said.fps,
        list_fps=said.fps or said.sample_fps if is_list else None,
        min_frames=said.nframes or said.min_frames,
        max_frames=said.nframes or said.max_frames,
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
        return kind.model_validate({name: fields[name] for name in kind.model_fields if fields.get(name) is not None})
    except ValidationError as error:
        found = explain([{**e, "loc": ("body", *e["loc"])} for e in error.errors()], fields)
        raise BadRequest(f"{param}.{found.message}", param=f"{param}.{found.param}") from error
