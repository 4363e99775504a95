"""What the request log answers (engine.request_log.form). Times in milliseconds; created in seconds since 1970."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from engine.types import StageName


class LoggedStageSchema(BaseModel):
    """start_ms: since the request was accepted."""

    stage: StageName
    start_ms: float
    ms: float


class LoggedSummarySchema(BaseModel):
    """num_texts: of /v1/embeddings and /v1/rerank, whose texts are not kept."""

    id: str
    object: Literal["request"]
    created: float
    source: str
    dialect: str
    model: str
    key: str
    status: Literal["waiting", "running", "finished", "cancelled", "failed"]
    stage: StageName
    finish_reason: str | None
    error: str | None
    num_media: int
    num_texts: int | None
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int
    ttft_ms: float | None
    total_ms: float
    stages: list[LoggedStageSchema]


class LoggedListSchema(BaseModel):
    object: Literal["list"]
    data: list[LoggedSummarySchema]
    has_more: bool


class FirstTokenSchema(BaseModel):
    """share: of the time to the first token, 0 to 1."""

    stage: StageName
    ms: float
    share: float


class RanMeanwhileSchema(BaseModel):
    """id: None for a request that is not the reader's."""

    id: str | None
    source: str
    stage: StageName
    ms: float


class LoggedWaitSchema(LoggedStageSchema):
    """place: which of the stages; meanwhile: the requests that ran."""

    place: int
    meanwhile: list[RanMeanwhileSchema]


class LoggedTokenSchema(BaseModel):
    id: int
    text: str = ""
    logprob: float | None
    top: list[dict[str, Any]]


class LoggedChoiceSchema(BaseModel):
    text: str
    reasoning: str
    finish_reason: str
    tool_calls: list[dict[str, Any]]
    tokens: list[LoggedTokenSchema]


class FailureSchema(BaseModel):
    """causes: what led to it, the nearest first; for the operator only."""

    message: str
    code: str
    status: int
    param: str | None
    causes: list[str]


class LoggedRequestSchema(LoggedSummarySchema):
    """All that is known of one request. parameters: what was asked for beside the messages. media_dropped: its media
    were too large to be kept."""

    parameters: dict[str, Any]
    messages: list[dict[str, Any]]
    prompt: str | list[int] | None
    questions: list[dict[str, Any]]
    answer: list[LoggedChoiceSchema]
    decisions: list[list[float]] | None
    first_token: list[FirstTokenSchema]
    waits: list[LoggedWaitSchema]
    usage: dict[str, int] | None
    timing: dict[str, float] | None
    receipts: list[dict[str, Any]]
    cache: dict[str, Any] | None
    descriptions: list[dict[str, Any]]
    served_by: dict[str, str] | None
    failure: FailureSchema | None
    media_dropped: bool
