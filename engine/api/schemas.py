"""The JSON that clients send, and plain words for what is wrong with it.

Fields that OpenAI has and this server does not serve are refused when they ask for something (`UNSUPPORTED`); fields
nobody knows are ignored, as OpenAI-compatible servers do. Messages are checked in `convert`, where the whole path of
a wrong field is known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt, model_validator

from engine.errors import BadRequest

MAX_STOPS = 16
MAX_STOP_CHARS = 1000
MAX_DEPTH = 64
HALF = re.compile("[\ud800-\udfff]")
MAX_SEED = 2**63 - 1
TokenId = Annotated[int, Field(strict=True, ge=0)]


class StreamOptions(BaseModel):
    include_usage: StrictBool | None = None


class GenerationBody(BaseModel):
    """What both kinds of completion take. None, or leaving a field out, means the server's default."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, body: Any) -> Any:
        check_readable(body)
        return body

    @model_validator(mode="before")
    @classmethod
    def _merge_extra_body(cls, body: Any) -> Any:
        """OpenAI's Python client merges its extra_body into the body; who writes the JSON by hand may not know that."""
        if isinstance(body, dict) and isinstance(body.get("extra_body"), dict):
            return {**body["extra_body"], **{name: value for name, value in body.items() if name != "extra_body"}}
        return body

    model: str | None = None
    max_tokens: StrictInt | None = Field(None, ge=1)
    min_tokens: StrictInt | None = Field(None, ge=0, description="the answer may not end before so many (as in vLLM)")
    temperature: FiniteFloat | None = Field(None, ge=0)
    top_p: FiniteFloat | None = Field(None, gt=0, le=1)
    top_k: StrictInt | None = Field(None, ge=-1, description="0 or -1: off")
    min_p: FiniteFloat | None = Field(None, ge=0, le=1)
    repetition_penalty: FiniteFloat | None = Field(None, gt=0)
    presence_penalty: FiniteFloat | None = Field(None, ge=-2, le=2)
    frequency_penalty: FiniteFloat | None = Field(None, ge=-2, le=2)
    logit_bias: dict[int, Annotated[FiniteFloat, Field(ge=-100, le=100)]] | None = None
    seed: StrictInt | None = Field(None, ge=-MAX_SEED - 1, le=MAX_SEED)
    stop: str | list[str] | None = Field(None, description=f"up to {MAX_STOPS} texts that end the answer")
    n: StrictInt | None = Field(None, ge=1)
    cache_salt: str | None = Field(None, description="shares cached work with requests of the same salt only")
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(GenerationBody):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: StrictInt | None = Field(None, ge=1, description="the newer name of max_tokens")
    chat_template_kwargs: dict[str, Any] | None = None
    video_fps: FiniteFloat | None = Field(None, gt=0, description="frames per second taken from a clip")
    video_max_frames: StrictInt | None = Field(None, ge=1, description="most frames taken from a clip")
    video_min_frames: StrictInt | None = Field(None, ge=1, description="fewest frames taken from a clip")
    video_start: FiniteFloat | None = Field(None, ge=0, description="where the stretch begins, in seconds")
    video_end: FiniteFloat | None = Field(None, gt=0, description="where the stretch ends, in seconds")
    video_max_pixels: StrictInt | None = Field(None, ge=1, description="most pixels of all frames together")


class TokenizeRequest(ChatRequest):
    """POST /v1/tokenize, after vLLM's: a chat, or a raw prompt."""

    messages: list[dict[str, Any]] | None = None  # type: ignore[assignment]
    prompt: str | list[str] | list[TokenId] | list[list[TokenId]] | None = None


class TextRequest(GenerationBody):
    """POST /v1/completions."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]


def check_readable(body: Any) -> None:
    """Raise BadRequest for what JSON allows and nothing behind it can read: half a character, and endless nesting."""
    left: list[tuple[Any, str, int]] = [(body, "", 0)]
    while left:
        value, path, depth = left.pop()
        if isinstance(value, str):
            if not value.isascii() and HALF.search(value):  # a chat of screenshots has megabytes of base64
                raise BadRequest(f"{path}: it has half of a surrogate pair in it, which is not text.", param=path)
        elif isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                raise BadRequest(f"{path[:200]}: at most {MAX_DEPTH} levels are allowed.", param=path[:200])
            if isinstance(value, dict):
                left += [(inner, f"{path}.{name}" if path else name, depth + 1) for name, inner in value.items()]
                left += [(name, path or "body", depth) for name in value]  # looked at first: they are in the paths
            else:
                left += [(inner, f"{path}[{i}]", depth + 1) for i, inner in enumerate(value)]


def _truthy(value: Any) -> bool:
    return bool(value)


def _more_than_one(value: Any) -> bool:
    return value is not None and value != 1


MEDIA_OPTIONS = (
    "not read here; say max_pixels, detail, fps or nframes in a part, or video_fps and video_max_frames in the request"
)
UNSUPPORTED: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("tools", _truthy, "tools are not supported yet"),
    ("tool_choice", lambda value: value not in (None, "none", "auto"), "tools are not supported yet"),
    ("functions", _truthy, "functions are not supported"),
    ("function_call", lambda value: value not in (None, "none", "auto"), "functions are not supported"),
    (
        "response_format",
        lambda value: value is not None and not (isinstance(value, dict) and value.get("type") == "text"),
        "only the response format of type 'text' is supported yet",
    ),
    ("logprobs", lambda value: value is not None and value is not False, "log probabilities are not supported yet"),
    ("top_logprobs", _truthy, "log probabilities are not supported yet"),
    ("prompt_logprobs", _truthy, "log probabilities are not supported yet"),
    ("modalities", lambda value: value not in (None, [], ["text"]), "answers are text only"),
    ("audio", _truthy, "answers are text only"),
    ("prediction", _truthy, "predicted outputs are not supported"),
    ("web_search_options", _truthy, "web search is not supported"),
    ("mm_processor_kwargs", _truthy, MEDIA_OPTIONS),
    ("media_io_kwargs", _truthy, MEDIA_OPTIONS),
    ("echo", _truthy, "the prompt is not echoed"),
    ("suffix", _truthy, "text is only continued, never inserted before a suffix"),
    ("best_of", _more_than_one, "one answer per request"),
    ("n", _more_than_one, "one answer per request: n must be 1"),
)


def refuse_unsupported(asked: GenerationBody) -> None:
    """Raise BadRequest for the first field that asks for what this server does not do."""
    given: Mapping[str, Any] = {**(asked.model_extra or {}), "n": asked.n}
    for name, is_asked_for, why in UNSUPPORTED:
        if is_asked_for(given.get(name)):
            raise BadRequest(f"{name}: {why}.", param=name, code="unsupported_parameter")
    if asked.stream_options is not None and not asked.stream:
        raise BadRequest("stream_options: only allowed when stream is true.", param="stream_options")


def explain(errors: Sequence[Any], body: Any) -> BadRequest:
    """The first of pydantic's errors (dicts with type, loc, msg, input) in words, with the JSON path of its field."""
    error = errors[0]
    if error["type"] == "json_invalid":
        return BadRequest(f"The body is not valid JSON: {error['ctx']['error']}.", code="invalid_json")
    param = json_path(error["loc"], body)
    if param is None:
        return BadRequest(
            "The body must be a JSON object, sent with Content-Type: application/json.", code="invalid_json"
        )
    if error["type"] == "missing":
        return BadRequest(f"{param}: this field is required.", param=param, code="missing_required_parameter")
    got = error.get("input")
    said = f", got {got!r}" if isinstance(got, int | float | None) else f", got {_kind(got)}"
    words = error["msg"].removeprefix("Input should be")
    return BadRequest(f"{param}: it must be{words}{said}.", param=param)


def json_path(loc: Sequence[int | str], body: Any) -> str | None:
    """ "messages[0].role" from pydantic's location. Names in it that are types, not fields, are left out.

    None when the error is about the body as a whole.
    """
    path, here = "", body
    for step in loc[1:]:
        if isinstance(step, int) and isinstance(here, list):
            path, here = f"{path}[{step}]", here[step] if step < len(here) else None
        elif isinstance(step, str) and isinstance(here, dict):
            path, here = f"{path}.{step}" if path else step, here.get(step)
    return path or None


def _kind(value: Any) -> str:
    """What a value is in JSON's words; its content stays out of error messages, which are logged by clients."""
    names: dict[type, str] = {str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)
