"""Pictures, clips and sounds as a program has them -> Part: paths, URLs, bytes, PIL images, numpy arrays. Any thread.

    picture   "cat.jpg"  Path  "https://…"  "data:…"  bytes of a file  PIL image  uint8 array (H, W), (H, W, 3 or 4)
    clip      the same as a file, or its frames: a list of pictures, a uint8 array (T, H, W, 3);
              (frames, fps) where the rate they were taken at is known
    sound     the same as a file, or (samples, rate): float32 in -1..1, (N,)

Equal pixels are the same picture to the cache, however it came.
"""

from __future__ import annotations

import base64
import io
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from engine.errors import BadRequest
from engine.types import FrameSampling, Kind, Part

if TYPE_CHECKING:
    import numpy as np

URLS = ("http://", "https://", "data:")
WAV_FLOAT = 3
PAIR = 2
"""(frames, fps), (samples, rate)."""


def medium(kind: Kind, value: Any, param: str) -> Part:
    """A Part of kind image, video or audio. param: its place, for errors. Raises BadRequest for any other form."""
    if isinstance(value, str | Path):
        return _named(kind, value, param)
    if isinstance(value, bytes | bytearray | memoryview):
        return _data(kind, bytes(value), param)
    if kind == "image":
        return _data(kind, _png(_picture(value, param)), param)
    if kind == "video":
        return _frames(value, param)
    return _sound(value, param)


def media(kind: Kind, values: Any, param: str) -> list[Part]:
    """One medium or a list of them. A list of nothing but pictures is one clip."""
    if kind == "video" and isinstance(values, list) and values and all(map(_is_picture, values)):
        return [medium(kind, values, param)]
    if not isinstance(values, list):
        return [medium(kind, values, param)]
    return [medium(kind, value, f"{param}[{i}]") for i, value in enumerate(values)]


def of_mapping(given: Mapping[str, Any], param: str) -> tuple[Part, ...]:
    """vLLM's multi_modal_data: {"image": one or a list, "video": …, "audio": …}, in this order."""
    parts: list[Part] = []
    for name, values in given.items():
        if name not in ("image", "video", "audio"):
            where = f"{param}.{name}"
            raise BadRequest(f"{where}: it holds image, video and audio.", param=where)
        parts += media(cast(Kind, name), values, f"{param}.{name}")
    return tuple(parts)


def is_live(value: Any) -> bool:
    """Whether it is an object of this program, which no JSON can hold."""
    if isinstance(value, list | tuple):
        return any(map(is_live, value))
    return not isinstance(value, str | Mapping | int | float | bool | None)


def _named(kind: Kind, value: str | Path, param: str) -> Part:
    text = str(value)
    if isinstance(value, str) and text[:8].lower().startswith(URLS):
        return Part(kind, url=text, param=param)
    if isinstance(value, str) and text.lower().startswith("file:"):
        text = unquote(urlsplit(text).path)
    return Part(kind, path=str(Path(text).expanduser()), param=param)


def _data(kind: Kind, data: bytes, param: str) -> Part:
    return Part(kind, url=f"data:;base64,{base64.b64encode(data).decode()}", param=param)


def _is_picture(value: Any) -> bool:
    from PIL import Image

    return isinstance(value, Image.Image) or (_is_array(value) and value.ndim == 3 and value.shape[2] in (3, 4))


def _is_array(value: Any) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray)


def _picture(value: Any, param: str) -> np.ndarray[Any, Any]:
    """uint8 RGB (H, W, 3), as a browser shows it on white."""
    from PIL import Image

    from engine.media.image import to_rgb

    image: Image.Image
    if isinstance(value, Image.Image):
        image = value
    elif _is_array(value):
        if str(value.dtype) != "uint8" or not (value.ndim == 2 or (value.ndim == 3 and value.shape[2] in (3, 4))):
            why = f"an array must be uint8, (H, W), (H, W, 3) or (H, W, 4), not {value.dtype} {value.shape}"
            raise BadRequest(f"{param}: {why}.", param=param)
        image = Image.fromarray(value)
    else:
        why = "a picture is a path, a URL, bytes, a PIL image or a numpy array"
        raise BadRequest(f"{param}: {why}, not {type(value).__name__}.", param=param)
    return to_rgb(Part("image", param=param), image)


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _frames(value: Any, param: str) -> Part:
    fps = None
    if isinstance(value, tuple) and len(value) == PAIR:
        value, fps = value
        fps = fps.get("fps") if isinstance(fps, Mapping) else fps  # as vLLM has it: (frames, metadata)
        if fps is not None and not (isinstance(fps, int | float) and fps > 0):
            raise BadRequest(f"{param}: the rate of the frames must be more than 0, not {fps!r}.", param=param)
        if isinstance(value, str | Path | bytes):
            raise BadRequest(f"{param}: a file knows its rate; say the path alone.", param=param)
    if not (isinstance(value, Sequence) or (_is_array(value) and value.ndim == 4)) or not len(value):
        why = "a clip is a path, a URL, bytes, a list of pictures or an array (T, H, W, 3)"
        raise BadRequest(f"{param}: {why}.", param=param)
    parts = tuple(medium("image", frame, f"{param}[{i}]") for i, frame in enumerate(value))
    return Part("video", parts=parts, frames=FrameSampling(list_fps=float(fps)) if fps else None, param=param)


def _sound(value: Any, param: str) -> Part:
    import numpy as np

    if not (isinstance(value, tuple) and len(value) == PAIR):
        why = "a sound is a path, a URL, bytes, or (samples, rate)"
        raise BadRequest(f"{param}: {why}, not {type(value).__name__}.", param=param)
    samples, rate = np.asarray(value[0]), value[1]
    if samples.ndim != 1 or samples.dtype.kind != "f" or not len(samples):
        why = f"samples must be floats in -1..1, (N,), not {samples.dtype} {samples.shape}"
        raise BadRequest(f"{param}: {why}.", param=param)
    if not (isinstance(rate, int | np.integer) and rate > 0):
        raise BadRequest(f"{param}: the rate is a whole number of samples a second, not {rate!r}.", param=param)
    return _data("audio", _wav(samples.astype("<f4").tobytes(), int(rate)), param)


def _wav(data: bytes, rate: int) -> bytes:
    """A WAV file of one channel of 32-bit floats, https://www.mmsp.ece.mcgill.ca/Documents/AudioFormats/WAVE/WAVE.html"""
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, WAV_FLOAT, 1, rate, 4 * rate, 4, 32)
    body = b"WAVE" + head + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body
