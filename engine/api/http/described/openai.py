"""OpenAI's completions, with what is this server's own in usage. https://platform.openai.com/docs/api-reference"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

FinishReasonText = Literal["stop", "length", "tool_calls", "content_filter"]


class CachedTokensSchema(BaseModel):
    cached_tokens: int = Field(description="prompt tokens that were reused")


class ReasoningTokensSchema(BaseModel):
    reasoning_tokens: int


class CompletionTokensSchema(ReasoningTokensSchema):
    accepted_prediction_tokens: int = Field(description="tokens of the answer that were proposed by speculation")
    rejected_prediction_tokens: int = Field(description="tokens that were proposed and are not in the answer")


class FeatureUseSchema(BaseModel):
    hits: int
    misses: int


class RegionSchema(BaseModel):
    """A box or a point that the answer gives on a medium."""

    kind: Literal["box", "point"]
    label: str
    pixels: list[float] = Field(description="[left, top, right, bottom] or [x, y] in pixels of the decoded medium")
    written: list[float] = Field(description="the numbers as the model wrote them")
    time: float | None = Field(description="of the clip's frame, in seconds, where the model named one")
    choice: int
    cut: bool = Field(description="part of it lay outside of the medium")


class CropSchema(BaseModel):
    """Which part of a picture went in, [x, y, width, height], and [width, height] of the whole."""

    part: list[int]
    of: list[int]


class ReceiptSchema(BaseModel):
    """What happened to one medium. Sizes are [width, height] in pixels, times in seconds unless _ms."""

    kind: Literal["image", "video", "audio"]
    param: str
    bytes: int
    decoded: list[int]
    seen: list[int]
    tokens: int
    sha256: str
    frames: list[dict[str, Any]]
    duration: float
    fetch_ms: float
    decode_ms: float
    resize_ms: float
    encode_ms: float
    features: FeatureUseSchema | None
    notes: list[str]
    crop: CropSchema | None
    boxes: list[RegionSchema]


class CacheTraceSchema(BaseModel):
    """How much of the prompt was reused, and why not more."""

    reused_tokens: int
    computed_tokens: int
    reason: str
    before: str
    here: str
    other: str
    evicted_s: float
    media_first: bool
    disk_tokens: int


class DescriptionSchema(BaseModel):
    """What another model said about one medium, where the answering one cannot see. Its tokens and seconds are not in
    the rest of the usage."""

    kind: Literal["image", "video"]
    param: str
    sha256: str
    text: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    seconds: float
    kept: bool
    edited: bool


class CoordinatesSchema(BaseModel):
    """In what the answer's coordinates are given, of a request for pixels of the original; why not, or not all."""

    given_in: Literal["model", "original"]
    why: str


class ServedBySchema(BaseModel):
    """The other server that gave the answer. usage_known: it told the tokens; else the counts are 0."""

    server: str
    model: str
    usage_known: bool


class OwnUsageSchema(BaseModel):
    """What every protocol's usage has beside its own fields."""

    media: list[ReceiptSchema]
    descriptions: list[DescriptionSchema]
    cache: CacheTraceSchema | None
    coordinates: CoordinatesSchema | None
    served_by: ServedBySchema | None = None


class UsageSchema(OwnUsageSchema):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokensSchema
    completion_tokens_details: CompletionTokensSchema


class TopTokenSchema(BaseModel):
    token: str
    logprob: float
    bytes: list[int] | None


class TokenSchema(TopTokenSchema):
    top_logprobs: list[TopTokenSchema]


class ChatLogprobsSchema(BaseModel):
    content: list[TokenSchema]
    refusal: None


class FunctionCallSchema(BaseModel):
    name: str
    arguments: str = Field(description="JSON")


class ToolCallSchema(BaseModel):
    id: str
    type: Literal["function"]
    function: FunctionCallSchema


class ChatMessageSchema(BaseModel):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[ToolCallSchema] = []


class ChatChoiceSchema(BaseModel):
    index: int
    message: ChatMessageSchema
    logprobs: ChatLogprobsSchema | None
    finish_reason: FinishReasonText


class EnvelopeSchema(BaseModel):
    id: str
    created: int = Field(description="seconds since 1970")
    model: str
    system_fingerprint: str
    usage: UsageSchema


class ChatCompletionSchema(EnvelopeSchema):
    object: Literal["chat.completion"]
    choices: list[ChatChoiceSchema]


class TextLogprobsSchema(BaseModel):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class TextChoiceSchema(BaseModel):
    index: int
    text: str
    logprobs: TextLogprobsSchema | None
    finish_reason: FinishReasonText


class TextCompletionSchema(EnvelopeSchema):
    object: Literal["text_completion"]
    choices: list[TextChoiceSchema]


class TranscriptionSchema(BaseModel):
    text: str
    usage: dict[str, Any] | None


class TextsUsageSchema(BaseModel):
    prompt_tokens: int
    total_tokens: int


class EmbeddingSchema(BaseModel):
    object: Literal["embedding"]
    index: int
    embedding: list[float] | str = Field(description="numbers, or base64 of float32 in little-endian bytes")


class EmbeddingsSchema(BaseModel):
    object: Literal["list"]
    data: list[EmbeddingSchema]
    model: str
    usage: TextsUsageSchema


class RankedTextSchema(BaseModel):
    text: str


class RankedSchema(BaseModel):
    index: int
    relevance_score: float = Field(description="the probability that the document answers the query")
    document: RankedTextSchema | None = None


class RerankSchema(BaseModel):
    id: str
    model: str
    usage: TextsUsageSchema
    results: list[RankedSchema] = Field(description="the best first")
