"""Files and batches, with the fields that this server gives. https://platform.openai.com/docs/api-reference/batch"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from engine.api.http.described.openai import CachedTokensSchema, ReasoningTokensSchema


class FileSchema(BaseModel):
    id: str
    object: Literal["file"]
    bytes: int
    created_at: int = Field(description="seconds since 1970")
    expires_at: None = Field(description="a file is kept until it is deleted")
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]
    status_details: None


class FilesSchema(BaseModel):
    object: Literal["list"]
    data: list[FileSchema]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedFileSchema(BaseModel):
    id: str
    object: Literal["file"]
    deleted: bool


class BatchErrorSchema(BaseModel):
    code: str
    message: str
    param: str | None
    line: int | None = Field(description="of the input file, from 1")


class BatchErrorsSchema(BaseModel):
    object: Literal["list"]
    data: list[BatchErrorSchema]


class BatchCountsSchema(BaseModel):
    total: int
    completed: int
    failed: int


class BatchUsageSchema(BaseModel):
    input_tokens: int
    input_tokens_details: CachedTokensSchema
    output_tokens: int
    output_tokens_details: ReasoningTokensSchema
    total_tokens: int


class BatchObjectSchema(BaseModel):
    """Times are in seconds since 1970, and null for what has not come."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchErrorsSchema | None = Field(description="why it has failed")
    input_file_id: str
    completion_window: Literal["24h"]
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    expires_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchCountsSchema
    usage: BatchUsageSchema | None
    metadata: dict[str, str] | None


class BatchesSchema(BaseModel):
    object: Literal["list"]
    data: list[BatchObjectSchema]
    has_more: bool
    first_id: str | None
    last_id: str | None
