"""The app's OpenAPI document, made true at the first time that somebody asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI

from engine.types import Json


class DescribedApi(FastAPI):
    """FastAPI with a document that is true. asks_for_key: whether the routes of /v1 ask for one."""

    asks_for_key = False

    def openapi(self) -> dict[str, Any]:
        """The document, made at the first call."""
        if self.openapi_schema is None:
            from engine.api.http.described.document import make_true  # its hundred schemas take a while to import

            make_true(super().openapi(), asks_for_key=self.asks_for_key)
        return super().openapi()


def form_with_file(fields: Mapping[str, Any], *, required: Sequence[str] = ()) -> Json:
    """What a route that takes a form with a `file` adds to the document. fields: the others, by name, as JSON Schema.
    required: those that must be there beside the file."""
    schema = {
        "type": "object",
        "required": ["file", *required],
        "properties": {"file": {"type": "string", "format": "binary"}, **fields},
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
