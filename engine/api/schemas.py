"""The JSON that clients send, and plain words for what is wrong with it.

Every number has a bound, which its error and the OpenAPI document name. An integer may be written as 4.0; null means
"not given". Fields beside these are looked at in `refused` and `fields`, messages in `messages`, where the whole path
of a wrong field is known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any, ClassVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    StrictBool,
    StrictInt,
    model_validator,
)

from engine.api.grammars import GrammarFields
from engine.api.reasoning import ReasoningFields
from engine.api.refused import Refusals
from engine.api.tools import ToolFields
from engine.errors import BadRequest
from engine.types import NO_LIMIT, SAMPLING_RANGES, Coordinates

MAX_STOPS = 16
MAX_STOP_CHARS = 1000
MAX_DEPTH = 64
MAX_PATH_CHARS = 200
"""Of a field's path in an error: names of fields may be of any length."""

HALF = re.compile("[\ud800-\udfff]")
MAX_SEED = 2**63 - 1
MAX_COUNT = 2**31 - 1
MAX_IDS = 128
MAX_CHOICES_PER_REQUEST = 128
MAX_TOP_LOGPROBS = 20
LIMIT = f"most tokens of the answer, at least 1; {NO_LIMIT}: all that is left of the context"


TokenId = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]


def _holds_integers(annotation: Any) -> bool:
    """Whether int is the only number in a type."""
    inner = [_holds_integers(arg) for arg in get_args(annotation)]
    return annotation is int or (any(inner) and float not in get_args(annotation))


def _whole(value: Any) -> Any:
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


@cache
def _integers_of(kind: type[BaseModel]) -> frozenset[str]:
    """Names of the fields of a class whose numbers are integers."""
    return frozenset(name for name, field in kind.model_fields.items() if _holds_integers(field.annotation))


class WholeNumbers(BaseModel):
    """Takes 4.0 for an integer: some clients' languages have only one kind of number."""

    @model_validator(mode="before")
    @classmethod
    def _take_whole(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        integers = _integers_of(cls)
        return {name: _whole(value) if name in integers else value for name, value in body.items()}


def between(name: str, default: float | None = None) -> Any:
    """A field with the bounds of a setting of Sampling."""
    low, high = SAMPLING_RANGES[name]
    return Field(default, ge=low, le=high)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")
    refusals: ClassVar[Refusals] = {"continuous_usage_stats": (bool, "usage comes once, in the last chunk")}

    include_usage: StrictBool | None = None


class GenerationBody(WholeNumbers, GrammarFields):
    """What both kinds of completion take. None, or leaving a field out, means the server's default."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, body: Any) -> Any:
        return readable(body)

    @model_validator(mode="before")
    @classmethod
    def _merge_extra_body(cls, body: Any) -> Any:
        """OpenAI's Python client merges its extra_body into the body; who writes the JSON by hand may not know that."""
        if isinstance(body, dict) and isinstance(body.get("extra_body"), dict):
            return {**body["extra_body"], **{name: value for name, value in body.items() if name != "extra_body"}}
        return body

    model: str | None = None
    max_tokens: StrictInt | None = Field(None, ge=NO_LIMIT, le=MAX_COUNT, description=LIMIT)
    min_tokens: StrictInt | None = Field(
        None,
        ge=0,
        le=MAX_COUNT,
        description="the answer may not end before so many, unless its form leaves nothing else",
    )
    ignore_eos: StrictBool | None = Field(None, description="the model may not end the answer (as in vLLM)")
    temperature: FiniteFloat | None = between("temperature")
    top_p: FiniteFloat | None = between("top_p")
    top_k: StrictInt | None = Field(None, ge=-1, le=MAX_COUNT, description="0 or -1: off")
    min_p: FiniteFloat | None = between("min_p")
    repetition_penalty: FiniteFloat | None = between("repetition_penalty")
    presence_penalty: FiniteFloat | None = between("presence_penalty")
    frequency_penalty: FiniteFloat | None = between("frequency_penalty")
    logit_bias: dict[int, Annotated[FiniteFloat, Field(ge=-100, le=100)]] | None = None
    seed: StrictInt | None = Field(None, ge=-MAX_SEED - 1, le=MAX_SEED)
    stop: str | list[str] | None = Field(None, description=f"up to {MAX_STOPS} texts that end the answer")
    stop_token_ids: list[TokenId] | None = Field(
        None, max_length=MAX_IDS, description="tokens that end the answer beside the model's own (as in vLLM)"
    )
    bad_words: list[str] | None = Field(
        None, max_length=MAX_IDS, description="texts that may not come in the answer (as in vLLM)"
    )
    n: StrictInt | None = Field(None, ge=1, le=MAX_CHOICES_PER_REQUEST)
    coordinates: Coordinates | None = Field(
        None,
        description="boxes and points in the answer: as the model wrote them, or in pixels of the original picture",
    )
    cache_salt: str | None = Field(None, description="shares cached work with requests of the same salt only")
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(GenerationBody, ToolFields, ReasoningFields):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]]
    max_completion_tokens: StrictInt | None = Field(
        None, ge=NO_LIMIT, le=MAX_COUNT, description="the newer name of max_tokens"
    )
    logprobs: StrictBool | None = Field(None, description="each token of the answer with its log-probability")
    top_logprobs: StrictInt | None = Field(None, ge=0, le=MAX_TOP_LOGPROBS, description="and so many of the likeliest")
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: StrictBool | None = Field(None, description="false: the template opens no new message")
    continue_final_message: StrictBool | None = Field(None, description="the answer goes on from the last message")
    video_fps: FiniteFloat | None = Field(None, gt=0, description="frames per second taken from a clip")
    video_max_frames: StrictInt | None = Field(None, ge=1, description="most frames taken from a clip")
    video_min_frames: StrictInt | None = Field(None, ge=1, description="fewest frames taken from a clip")
    video_start: FiniteFloat | None = Field(None, ge=0, description="where the stretch begins, in seconds")
    video_end: FiniteFloat | None = Field(None, gt=0, description="where the stretch ends, in seconds")
    video_max_pixels: StrictInt | None = Field(None, ge=1, description="most pixels of all frames together")


class TokenizeRequest(ChatRequest):
    """POST /v1/tokenize, after vLLM's: a chat, or a raw prompt."""

    messages: list[dict[str, Any]] | None = None  # type: ignore[assignment]
    prompt: str | list[TokenId] | None = None
    add_special_tokens: StrictBool | None = Field(None, description="false: a prompt without the tokenizer's own")
    return_token_strs: StrictBool | None = Field(None, description="each token as text, too")


class DetokenizeRequest(BaseModel):
    """POST /v1/detokenize, after vLLM's."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    model: str | None = None
    tokens: list[TokenId]


class TextRequest(GenerationBody):
    """POST /v1/completions."""

    prompt: str | list[str] | list[TokenId] | list[list[TokenId]]
    max_tokens: StrictInt | None = Field(None, ge=NO_LIMIT, le=MAX_COUNT, description=f"{LIMIT}; 0: an echo only")
    add_special_tokens: StrictBool | None = Field(None, description="false: a text without the tokenizer's own")
    echo: StrictBool | None = Field(None, description="the prompt stands before its answer")
    logprobs: StrictInt | None = Field(
        None, ge=0, le=MAX_TOP_LOGPROBS, description="so many of the likeliest beside each"
    )
    best_of: StrictInt | None = Field(None, ge=1, le=MAX_CHOICES_PER_REQUEST, description="no other number than n")


def readable(body: Any) -> Any:
    """A body with its history well formed. Raises as check_readable."""
    if isinstance(body, dict):
        histories = {name: body[name] for name in ("messages", "input") if isinstance(body.get(name), list)}
        body = {**body, **{name: well_formed(history) for name, history in histories.items()}}
    check_readable(body)
    return body


def well_formed(value: Any, depth: int = 0) -> Any:
    """A JSON value with U+FFFD for each half of a surrogate pair in its texts, as in the history of a chat that was cut
    in the middle of one. What is too deep is left to check_readable, and so are names."""
    if isinstance(value, str):  # a chat of screenshots has megabytes of base64, which is ASCII
        return value if value.isascii() else HALF.sub("\ufffd", value)
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, list):
        return [well_formed(inner, depth + 1) for inner in value]
    return {k: well_formed(v, depth + 1) for k, v in value.items()} if isinstance(value, dict) else value


def check_readable(body: Any) -> None:
    """Raise BadRequest for what JSON allows and nothing behind it can read: half a character, and endless nesting."""
    left: list[tuple[Any, str, int]] = [(body, "", 0)]
    while left:
        value, path, depth = left.pop()
        if isinstance(value, str):
            if not value.isascii() and HALF.search(value):
                raise BadRequest(f"{path}: it has half of a surrogate pair in it, which is not text.", param=path)
        elif isinstance(value, dict | list):
            if depth > MAX_DEPTH:
                where = path[:MAX_PATH_CHARS]
                raise BadRequest(f"{where}: at most {MAX_DEPTH} levels are allowed.", param=where)
            if isinstance(value, dict):
                left += [(inner, f"{path}.{name}" if path else name, depth + 1) for name, inner in value.items()]
                left += [(name, path or "body", depth) for name in value]  # looked at first: they are in the paths
            else:
                left += [(inner, f"{path}[{i}]", depth + 1) for i, inner in enumerate(value)]


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
    said = f", got {got!r}"[:60] if isinstance(got, int | float | None) else f", got {_kind(got)}"
    words = re.sub("^(Input|Value) should be", "it must be", error["msg"])
    return BadRequest(f"{param}: {words[0].lower()}{words[1:]}{said}.", param=param)


def json_path(loc: Sequence[int | str], body: Any) -> str | None:
    """ "messages[0].role" from pydantic's location. Names in it that are types, not fields, are left out; of a query
    and a path there are none.

    None when the error is about the body as a whole.
    """
    if loc and loc[0] != "body":
        return ".".join(str(step) for step in loc[1:])[:MAX_PATH_CHARS] or None
    path, here = "", body
    for i, step in enumerate(loc[1:], 1):
        if isinstance(step, int) and isinstance(here, list):
            path, here = f"{path}[{step}]", here[step] if step < len(here) else None
        elif isinstance(step, str) and isinstance(here, dict) and (step in here or i == len(loc) - 1):
            path, here = f"{path}.{step}" if path else step, here.get(step)
    return path[:MAX_PATH_CHARS] or None


def _kind(value: Any) -> str:
    """What a value is in JSON's words; its content stays out of error messages, which are logged by clients."""
    names: dict[type, str] = {str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)


class ModelName(BaseModel):
    """Which model is meant."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = Field(description="its name in /v1/models, or an alias")
