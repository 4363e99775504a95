"""What is sent and logged when something goes wrong: OpenAI's error object, and never the text of a user in the log."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from engine.api.bodies.json_body import explain
from engine.api.models.cards import without_folders
from engine.errors import BadRequest, Busy, EngineError, Internal, TimedOut, Unauthorized, Unavailable

log = logging.getLogger(__name__)

RETRY_S = {
    "model_not_ready": 2,
    "shutting_down": 5,
    "restarting": 5,
    "server_unreachable": 5,
    "server_unavailable": 5,
}
"""Seconds until it makes sense to ask again, by the code of an Unavailable."""


def add_error_handlers(app: FastAPI) -> None:
    """Every error of our own routes leaves in OpenAI's shape; a mounted app keeps its own. app.state.models: how the
    models are that it may be about."""
    app.add_exception_handler(EngineError, _engine_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


def error_response(error: EngineError) -> JSONResponse:
    """The answer for an error, with the headers that its status asks for."""
    headers: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Busy):
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unavailable) and error.code in RETRY_S:
        headers["Retry-After"] = str(RETRY_S[error.code])
    if isinstance(error, TimedOut):
        headers["X-Should-Retry"] = "false"  # OpenAI's clients would ask again, for as long again
    return JSONResponse(error.to_openai(), status_code=error.status, headers=headers)


def failure(error: BaseException, request_id: str) -> Internal:
    """Log an unexpected error and give what the client is told: the id under which it is in the log.

    The log says what kind it was and where it came from. Its message stays out: it may quote what a user wrote.
    """
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("request %s failed: %s\n%s", request_id, type(error).__name__, where)
    return Internal(f"The server failed to answer request {request_id}; its log says where.")


async def _engine_error(request: Request, error: Any) -> JSONResponse:
    return _labelled(request, error_response(without_folders(error, request.app.state.models())))


async def _validation_error(request: Request, error: Any) -> JSONResponse:
    return _labelled(request, error_response(explain(error.errors(), error.body)))


async def _http_error(request: Request, error: Any) -> JSONResponse:
    refusal = BadRequest(str(error.detail), code="http_error")
    return _labelled(request, JSONResponse(refusal.to_openai(), status_code=error.status_code, headers=error.headers))


def _labelled(request: Request, response: JSONResponse) -> JSONResponse:
    """With the id under which the request is in the log, where it came so far that it has one."""
    if request_id := getattr(request.state, "request_id", None):
        response.headers["X-Request-Id"] = request_id
    return response
