"""The JSON of POST /v1/batches. https://platform.openai.com/docs/api-reference/batch/create"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_METADATA = 16
MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class BatchRequest(BaseModel):
    """A field that is not known is an error: nobody would look at what it asks for until a day later."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(max_length=100)
    endpoint: str = Field(max_length=100, description="the route that every line of the file is for")
    completion_window: Literal["24h"] = Field(description="what is not answered by then has failed")
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=MAX_METADATA)
