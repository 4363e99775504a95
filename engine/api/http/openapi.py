"""The app's OpenAPI document, made true at the first time that somebody asks for it."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI


class DescribedApi(FastAPI):
    """FastAPI with a document that is true. asks_for_key: whether the routes of /v1 ask for one."""

    asks_for_key = False

    def openapi(self) -> dict[str, Any]:
        """The document, made at the first call."""
        if self.openapi_schema is None:
            from engine.api.http.described.document import make_true  # its hundred schemas take a while to import

            make_true(super().openapi(), asks_for_key=self.asks_for_key)
        return super().openapi()
