"""Responses, Anthropic's messages and Ollama's answers, with the fields that this server gives."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.api.http.described.openai import CachedTokensSchema, OwnUsageSchema, ReasoningTokensSchema

Loose = dict[str, Any]


class ResponseCachedTokensSchema(CachedTokensSchema):
    cache_write_tokens: int


class ResponseUsageSchema(OwnUsageSchema):
    input_tokens: int
    input_tokens_details: ResponseCachedTokensSchema
    output_tokens: int
    output_tokens_details: ReasoningTokensSchema
    total_tokens: int


class ResponseSchema(BaseModel):
    """https://platform.openai.com/docs/api-reference/responses/object"""

    id: str
    object: Literal["response"]
    created_at: int
    model: str
    status: Literal["completed", "incomplete", "in_progress", "failed", "cancelled", "queued"]
    background: bool
    error: Loose | None
    incomplete_details: Loose | None
    instructions: Any
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: Loose | None
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Loose | None
    safety_identifier: str | None
    service_tier: str | None
    store: bool
    temperature: float | None
    text: Loose
    tool_choice: Any
    tools: list[Loose]
    top_logprobs: int | None
    top_p: float | None
    truncation: str | None
    usage: ResponseUsageSchema | None
    user: str | None
    output: list[Loose] = Field(description="items: messages, reasoning, calls of functions")


class DeletedResponseSchema(BaseModel):
    id: str
    object: Literal["response"]
    deleted: bool


class InputItemsSchema(BaseModel):
    object: Literal["list"]
    data: list[Loose]
    has_more: bool
    first_id: str | None
    last_id: str | None


class ResponseTokensSchema(BaseModel):
    object: Literal["response.input_tokens"]
    input_tokens: int


class MessageUsageSchema(OwnUsageSchema):
    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class AnthropicMessageSchema(BaseModel):
    """https://docs.claude.com/en/api/messages"""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[Loose]
    stop_reason: str | None
    stop_sequence: str | None
    usage: MessageUsageSchema


class MessageTokensSchema(BaseModel):
    input_tokens: int


class AnthropicErrorDetailSchema(BaseModel):
    type: str
    message: str
    param: str | None
    code: str


class AnthropicErrorSchema(BaseModel):
    type: Literal["error"]
    error: AnthropicErrorDetailSchema


class OllamaEndSchema(BaseModel):
    """Durations in nanoseconds. A model that was only asked for has none of them."""

    model: str
    created_at: str
    done: bool
    done_reason: str
    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0
    cached_tokens: int = 0


class OllamaChatSchema(OllamaEndSchema):
    """https://github.com/ollama/ollama/blob/main/docs/api.md"""

    message: Loose


class OllamaTextSchema(OllamaEndSchema):
    response: str
    thinking: str = ""


class OllamaDetailsSchema(BaseModel):
    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModelSchema(BaseModel):
    name: str
    model: str
    modified_at: str
    size: int
    digest: str
    details: OllamaDetailsSchema
    size_vram: int = 0
    context_length: int = 0
    expires_at: str = ""


class OllamaModelsSchema(BaseModel):
    models: list[OllamaModelSchema]


class OllamaVersionSchema(BaseModel):
    version: str


class OllamaShowSchema(BaseModel):
    model_config = ConfigDict(protected_namespaces=())

    modelfile: str
    parameters: str
    template: str
    license: str
    modified_at: str
    details: OllamaDetailsSchema
    model_info: Loose
    capabilities: list[str]


class OllamaErrorSchema(BaseModel):
    error: str
    param: str | None
    code: str
