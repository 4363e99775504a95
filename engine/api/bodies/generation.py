"""The fields of every request that generates: how the answer is drawn, and what ends it -> fields of Request. Pure.

Every number has a bound, which its error and the OpenAPI document name. Fields beside these are looked at in `refused`
and `fields`, messages in `chat.messages`, where the whole path of a wrong field is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StrictBool, StrictInt, model_validator

from engine.api.bodies.grammars import GrammarFields
from engine.api.bodies.json_body import WholeNumbers, readable
from engine.api.bodies.refused import Refusals
from engine.errors import BadRequest
from engine.types import NO_LIMIT, SAMPLING_RANGES, Coordinates, Sampling

MAX_STOPS = 16


MAX_STOP_CHARS = 1000


MAX_SEED = 2**63 - 1


MAX_COUNT = 2**31 - 1


MAX_IDS = 128


MAX_CHOICES_PER_REQUEST = 128


MAX_TOP_LOGPROBS = 20


LIMIT = f"most tokens of the answer, at least 1; {NO_LIMIT}: all that is left of the context"


TokenId = Annotated[int, Field(strict=True, ge=0, le=MAX_COUNT)]


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


def shared_fields(body: GenerationBody) -> dict[str, Any]:
    """Fields of the Request of every kind of completion: how the answer is drawn, and which texts and tokens end it."""
    if body.stream_options is not None and not body.stream:
        raise BadRequest("stream_options: only allowed when stream is true.", param="stream_options")
    return {
        "sampling": read_sampling(body),
        "min_tokens": body.min_tokens or 0,
        "ignore_eos": bool(body.ignore_eos),
        "stop": read_texts("stop", (body.stop,) if isinstance(body.stop, str) else body.stop, MAX_STOPS),
        "stop_token_ids": tuple(body.stop_token_ids or ()),
        "bad_words": read_texts("bad_words", body.bad_words, MAX_IDS),
        "n": body.n or 1,
        "coordinates": body.coordinates,
    }


def read_sampling(body: GenerationBody) -> Sampling:
    return Sampling(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=None if body.top_k is None else max(body.top_k, 0),
        min_p=body.min_p,
        repetition_penalty=body.repetition_penalty,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        logit_bias=tuple(sorted((body.logit_bias or {}).items())),
        seed=body.seed,
    )


def cache_salt(body: GenerationBody) -> str:
    """vLLM's cache_salt: whoever knows it shares, nobody else."""
    if body.cache_salt == "":
        raise BadRequest("cache_salt: it must not be empty.", param="cache_salt")
    return body.cache_salt or ""


def read_limit(limit: int | None, name: str) -> int | None:
    """The most tokens of an answer, as the field of this name has it."""
    if limit == 0:
        raise BadRequest(f"{name}: it must be at least 1, or {NO_LIMIT} for no limit, got 0.", param=name)
    return limit


def read_texts(param: str, given: Sequence[str] | None, most: int) -> tuple[str, ...]:
    """A list of texts, none of them empty. param: where they stand."""
    texts = tuple(given or ())
    if len(texts) > most:
        raise BadRequest(f"{param}: at most {most} texts are allowed, got {len(texts)}.", param=param)
    if not all(texts):
        raise BadRequest(f"{param}: a text here must not be empty.", param=param)
    if longest := max((len(text) for text in texts if len(text) > MAX_STOP_CHARS), default=0):
        why = f"a text has {longest} characters; at most {MAX_STOP_CHARS} are allowed"
        raise BadRequest(f"{param}: {why}.", param=param)
    return texts
