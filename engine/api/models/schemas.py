"""The JSON of the routes that load and unload models."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ModelName(BaseModel):
    """Which model is meant."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = Field(description="its name in /v1/models, or an alias")
