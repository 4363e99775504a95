"""The JSON of both protocols. Items of the input and parts are read in `items`, where their whole path is known.

https://developers.openai.com/api/docs/guides/decisions; transformers.cli.serving.systemone
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr, model_validator

from engine.api.bodies.json_body import check_readable
from engine.runtime.decisions.decide import MAX_OPTIONS, MAX_QUESTIONS

MAX_NAME_CHARS = 512
MAX_SYSTEMONE_QUESTIONS = 64
MAX_SYSTEMONE_ASSETS = 4
Instructions = str | list[dict[str, Any]]
JsonOrText = str | dict[str, Any] | list[Any]


class Strict(BaseModel):
    """A field that is not known is an error: in a question it would change what is asked."""

    model_config = ConfigDict(extra="forbid")


class ChoiceOption(Strict):
    """value: a text and a boolean that look alike are two values."""

    value: StrictBool | Annotated[StrictStr, Field(min_length=1)]
    description: str | None = None


class ScoreLevel(Strict):
    label: str = Field(min_length=1)
    description: str | None = None


class QuestionBody(Strict):
    """What all kinds have. name: given back in the answer."""

    name: str | None = Field(None, max_length=MAX_NAME_CHARS)
    instructions: Instructions = Field(description="a text, or parts: input_text, input_image, input_json, clips")


class PredicateBody(QuestionBody):
    """How likely is it that this is true?"""

    type: Literal["predicate"]


class ChoiceBody(QuestionBody):
    """Which of these is it? Their order means nothing."""

    type: Literal["choice"]
    choices: list[ChoiceOption] = Field(min_length=2, max_length=MAX_OPTIONS)


class ScoreBody(QuestionBody):
    """Which of these levels, the lowest first?"""

    type: Literal["score"]
    levels: list[ScoreLevel] = Field(min_length=2, max_length=MAX_OPTIONS)


QuestionUnion = Annotated[PredicateBody | ChoiceBody | ScoreBody, Field(discriminator="type")]


class CacheOptions(Strict):
    """mode: "explicit" reuses nothing unless the input marks a place with prompt_cache_breakpoint."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] | None = Field(None, description="taken; what is kept for how long is the cache's own rule")


class DecisionsRequest(BaseModel):
    """POST /v1/decisions."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None
    input: str | list[dict[str, Any]] = Field(description="a text, or messages, function calls and their outputs")
    questions: list[QuestionUnion] = Field(min_length=1, max_length=MAX_QUESTIONS)
    prompt_cache_key: str | None = Field(None, description="shares cached work with requests of the same key only")
    prompt_cache_options: CacheOptions | None = None
    safety_identifier: str | None = Field(None, description="taken; this server tells its users apart by their keys")

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, body: Any) -> Any:
        check_readable(body)
        return body


class NoulBody(Strict):
    """Is it so? criteria: what true and false mean."""

    type: Literal["noul"]
    instructions: JsonOrText | None = None
    criteria: dict[Literal["true", "false"], JsonOrText | None] | None = None


class ChoiceOfBody(Strict):
    """criteria: the options, each with what it means or null."""

    type: Literal["choice"]
    instructions: JsonOrText | None = None
    criteria: dict[str, JsonOrText | None] = Field(min_length=1, max_length=MAX_OPTIONS)


class ScoreOfBody(Strict):
    """criteria: the levels, the lowest first."""

    type: Literal["score"]
    instructions: JsonOrText | None = None
    criteria: list[JsonOrText] = Field(min_length=1, max_length=MAX_OPTIONS)


SystemOneQuestion = Annotated[NoulBody | ChoiceOfBody | ScoreOfBody, Field(discriminator="type")]


class SystemOneAsset(Strict):
    """A picture."""

    type: Literal["image"] = "image"
    format: str | None = None
    data_base64: str = Field(min_length=1)


class SystemOneRequest(Strict):
    """POST /v1/systemone. assets: pictures by the placeholder that stands for each in state, instructions, criteria."""

    model: str | None = None
    state: JsonOrText
    questions: dict[str, SystemOneQuestion] = Field(min_length=1, max_length=MAX_SYSTEMONE_QUESTIONS)
    assets: dict[str, SystemOneAsset] = Field(default_factory=dict, max_length=MAX_SYSTEMONE_ASSETS)

    @model_validator(mode="before")
    @classmethod
    def _readable(cls, body: Any) -> Any:
        check_readable(body)
        return body
