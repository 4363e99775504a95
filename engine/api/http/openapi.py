"""The OpenAPI document, made true: which errors come of which operation, in our shape, and no others.

FastAPI promises a 422 that never comes, since an error_handler answers 400 in OpenAI's shape. What a route may answer
follows from what it takes: a body, a model's name, a key. What only one route answers is declared where the route is.
https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

BODY_STATUSES = (400, 408, 413, 415, 429)
"""Of whatever takes a body: it is wrong, too slow, too large, packed, or there are too many of them."""

MODEL_STATUSES = (404, 503, 504)
"""Of whatever asks the model: it is not here, not ready, or not done in time."""

EVENTS = "text/event-stream"
KEY = {"type": "http", "scheme": "bearer", "description": "A key of --api-key; X-Api-Key: KEY is fine, too."}
Operation = dict[str, Any]


class ErrorDetail(BaseModel):
    """What went wrong, in words for a person and in a word for a program."""

    message: str
    type: str
    param: str | None = Field(description="JSON path of the field that is wrong")
    code: str = Field(description="the reason as one word")


class ErrorAnswer(BaseModel):
    """OpenAI's error object, with every status from 400 on."""

    error: ErrorDetail


def answers(*statuses: int, of: Any = None) -> dict[int | str, dict[str, Any]]:
    """For `responses=` of a route: statuses that only this route has. of: their model, an ErrorAnswer if None."""
    return {status: {"model": of or ErrorAnswer} for status in statuses}


class DescribedApi(FastAPI):
    """FastAPI with a document that is true. asks_for_key: whether the routes of /v1 ask for one."""

    asks_for_key = False

    def openapi(self) -> dict[str, Any]:
        """The document, made at the first call."""
        if self.openapi_schema is None:
            document = super().openapi()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas |= _schemas_of_errors()
            for path, method, operation in _operations(document):
                _correct(path, method, operation, schemas, self.asks_for_key)
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            if self.asks_for_key:
                document["components"]["securitySchemes"] = {"key": KEY}
        return super().openapi()


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, methods in document.get("paths", {}).items():
        for method, operation in methods.items():
            yield path, method, operation


def _correct(path: str, method: str, operation: Operation, schemas: dict[str, Any], asks_for_key: bool) -> None:
    """Give an operation the statuses that it has."""
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    fields = _body_fields(operation, schemas)
    if asks_for_key and is_guarded(path):
        operation["security"] = [{"key": []}]
    for status in statuses(path, fields, method=method, asks_for_key=asks_for_key):
        responses.setdefault(str(status), _error(status))
    if "stream" in fields and path.startswith("/v1"):
        events = {"schema": {"type": "string", "description": "with stream: server-sent events"}}
        responses["200"].setdefault("content", {}).setdefault(EVENTS, events)
    operation["responses"] = dict(sorted(responses.items()))


def is_guarded(path: str) -> bool:
    """Whether a key is asked for where there are keys."""
    return path.startswith(("/v1", "/api", "/metrics", "/tokenize", "/detokenize"))


def statuses(path: str, fields: set[str], *, method: str, asks_for_key: bool) -> set[int]:
    """Statuses from 400 on of an operation whose body has these fields (none: it takes no body)."""
    codes = {400, 500}  # a wrong Host header, a fault of ours
    if is_guarded(path):
        codes |= {401} if asks_for_key else set()
        codes |= {403, 429} if method == "post" else set()  # a foreign web page; --rate-limit
    if fields:
        codes |= set(BODY_STATUSES)
    if "model" in fields or "messages" in fields:
        codes |= set(MODEL_STATUSES)
    return codes


def _body_fields(operation: Operation, schemas: dict[str, Any]) -> set[str]:
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    name = schema.get("$ref", "").rsplit("/", 1)[-1]
    return set(schemas.get(name, schema).get("properties", {}))


def _error(status: int) -> dict[str, Any]:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorAnswer"}}}
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase, "content": content}
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return answer


def _schemas_of_errors() -> dict[str, Any]:
    schema = ErrorAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "ErrorAnswer": schema}
