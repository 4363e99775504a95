"""Typed decisions, in OpenAI's shape and in that of `transformers serve`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from engine.api.http.described.openai import CachedTokensSchema, OwnUsageSchema, ReasoningTokensSchema


class WrittenTokensSchema(CachedTokensSchema):
    cache_write_tokens: int = Field(description="prompt tokens that were stored")


class AnsweredTokensSchema(BaseModel):
    input_tokens: int
    input_tokens_details: WrittenTokensSchema
    output_tokens: int


class DecisionsUsageSchema(OwnUsageSchema, AnsweredTokensSchema):
    output_tokens_details: ReasoningTokensSchema
    total_tokens: int


class ProbabilitySchema(BaseModel):
    """Of one option: value, of a score with its label."""

    value: str | bool | int
    probability: float
    label: str = ""


class DecisionSchema(BaseModel):
    """probability: of a predicate; choice, or score: of the other kinds, with confidence and all probabilities."""

    type: Literal["predicate", "choice", "score"]
    name: str | None
    probability: float = 0.0
    choice: str | bool = ""
    score: float = 0.0
    confidence: float = 0.0
    probabilities: list[ProbabilitySchema] = []


class DecisionsSchema(BaseModel):
    model: str
    answers: list[DecisionSchema]
    usage: DecisionsUsageSchema


class SystemOneSchema(BaseModel):
    model: str
    answers: dict[str, dict[str, Any]] = Field(description="by the names of the questions")
    usage: AnsweredTokensSchema
