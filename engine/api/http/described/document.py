"""The OpenAPI document, made true: which errors come of which operation, in our shape, and no others.

FastAPI promises a 422 that never comes, since an error_handler answers 400 in OpenAI's shape. What a route may answer
follows from what it takes: a body, a model's name, a key. What only one route answers is declared where the route is.
https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from engine.api.answering.sse import JSON_LINES, SERVER_SENT
from engine.api.http.described import ANSWERS, ERRORS
from engine.api.http.paths import is_guarded

BODY_STATUSES = (400, 408, 413, 415, 429)
"""Of whatever takes a body: it is wrong, too slow, too large, packed, or there are too many of them."""

MODEL_STATUSES = (404, 502, 503, 504)
"""Of whatever asks the model: it is not here, another server that answers for it fails, it is not ready, or not done in
time."""

EVENTS, LINES = SERVER_SENT.media_type, JSON_LINES.media_type
STREAMS = {
    **dict.fromkeys(("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"), EVENTS),
    "/v1/audio/transcriptions": EVENTS,
    **dict.fromkeys(("/api/chat", "/api/generate", "/v1/models/pull"), LINES),
}
"""What comes with stream: true."""
KEPT = {403, 409, 503}
"""Of what is kept on disk: nothing is, another server does, the disk is full."""

OWN_STATUSES = {
    "/v1/files": KEPT,
    "/v1/files/{file_id}": KEPT,
    "/v1/files/{file_id}/content": KEPT,
    "/v1/batches": KEPT,
    "/v1/batches/{batch_id}": KEPT,
    "/v1/batches/{batch_id}/cancel": KEPT,
    "/health": {503},
    "/health/live": {503},
    "/health/ready": {503},
    "/v1/models/{name}": {503},
    "/v1/logs": {403},
    "/v1/server": {403},
    "/v1/server/restart": {409, 503},
    "/v1/requests/{request_id}/as/{form}": {409},
    "/v1/requests/{request_id}/zip": {409},
    "/v1/models/load": {409},
    "/v1/models/unload": {409},
    "/v1/models/pull": {409},
    "/api/chat": {409},
    "/api/generate": {409},
    "/v1/cache/blocks": {503},
    "/v1/cache/features": {503},
    "/v1/cache/replay/{request_id}": {504},
}
SCHEMAS = "#/components/schemas/"
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


def make_true(document: dict[str, Any], *, asks_for_key: bool) -> None:
    """Correct FastAPI's document in place. asks_for_key: whether the routes of /v1 ask for one."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas |= _own_schemas()
    for path, method, operation in _operations(document):
        _correct(path, method, operation, schemas, asks_for_key)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    if asks_for_key:
        document["components"]["securitySchemes"] = {"key": KEY}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Operation]]:
    for path, methods in document.get("paths", {}).items():
        for method, operation in methods.items():
            yield path, method, operation


def _correct(path: str, method: str, operation: Operation, schemas: dict[str, Any], asks_for_key: bool) -> None:
    """Give an operation the statuses that it has, with what they hold."""
    responses: dict[str, Any] = operation["responses"]
    responses.pop("422", None)
    fields = _body_fields(operation, schemas)
    if asks_for_key and is_guarded(path):
        operation["security"] = [{"key": []}]
    if (method, path) in ANSWERS:
        name = ANSWERS[method, path].__name__
        responses["200"]["content"] = {"application/json": {"schema": {"$ref": SCHEMAS + name}}}
    for status in statuses(path, fields, method=method, asks_for_key=asks_for_key):
        responses.setdefault(str(status), _error(path, status))
    if "stream" in fields and path in STREAMS:
        events = {"schema": {"type": "string", "description": "with stream: one event or one line after the other"}}
        responses["200"]["content"][STREAMS[path]] = events
    if path == "/v1/audio/transcriptions":
        responses["200"]["content"]["text/plain"] = {"schema": {"type": "string"}}
    operation["responses"] = dict(sorted(responses.items()))


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
    if "{" in path:
        codes |= {404}
    if path.startswith("/v1/cache/") and method == "post":
        codes |= {503}
        codes |= {409} if "{" in path else set()  # a pin, or a running request
    return codes | OWN_STATUSES.get(path, set())


def _body_fields(operation: Operation, schemas: dict[str, Any]) -> set[str]:
    """Names of the fields in the body, whatever its type is; none where there is no body."""
    content = operation.get("requestBody", {}).get("content", {})
    given = [kind.get("schema", {}) for kind in content.values()]
    whole = [schemas.get(schema.get("$ref", "").rsplit("/", 1)[-1], schema) for schema in given]
    return {field for schema in whole for field in schema.get("properties", {})}


def _error(path: str, status: int) -> dict[str, Any]:
    model = next((schema for start, schema in ERRORS if path.startswith(start)), ErrorAnswer)
    content = {"application/json": {"schema": {"$ref": SCHEMAS + model.__name__}}}
    answer: dict[str, Any] = {"description": HTTPStatus(status).phrase, "content": content}
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return answer


def _own_schemas() -> dict[str, Any]:
    """Those of the answers and the errors, by name."""
    models = dict.fromkeys([*ANSWERS.values(), *(schema for _, schema in ERRORS), ErrorAnswer])
    _, top = models_json_schema([(model, "serialization") for model in models], ref_template=SCHEMAS + "{model}")
    return dict(top["$defs"])
