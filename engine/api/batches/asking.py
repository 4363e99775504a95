"""A line of a batch is asked as if it had come over HTTP: by the function of its route, with the same checks."""

from __future__ import annotations

import asyncio
import json
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import Message

from engine.access.visibility import Caller
from engine.api.answering.failures import failure
from engine.api.bodies.json_body import explain
from engine.api.http.guard import name_request
from engine.errors import BadRequest, EngineError
from engine.types import Json

PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings")
"""Whose requests a batch may hold."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route: its path, the class of its body, and its function."""

    path: str
    body: type[BaseModel]
    answer: Callable[..., Awaitable[Response]]

    async def ask(self, given: Json, who: Caller) -> Json:
        """A line's answer as a record: {"response": ...}. Raises EngineError."""
        if given.get("stream"):
            raise BadRequest("stream: a batch's answers are not streamed.", param="stream")
        try:
            body = self.body.model_validate(given)
        except ValidationError as error:
            raise explain([{**e, "loc": ("body", *e["loc"])} for e in error.errors()], given) from error
        request_id = name_request(self.path)
        http = Request({"type": "http", "method": "POST", "path": self.path, "headers": []}, _nothing_more)
        http.state.caller, http.state.request_id = who, request_id
        try:
            response = await self.answer(body=body, http=http)
        except EngineError:
            raise
        except Exception as error:
            raise failure(error, request_id) from error
        found = json.loads(bytes(response.body))
        return {"response": {"status_code": response.status_code, "request_id": request_id, "body": found}}


async def _nothing_more() -> Message:
    """A client that sends nothing more and does not go away."""
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def endpoints(routers: Sequence[APIRouter]) -> Mapping[str, Endpoint]:
    """Those of PATHS, found among the routes."""
    found = {}
    for router in routers:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path in PATHS and "POST" in (route.methods or ()):
                body = typing.get_type_hints(route.endpoint)["body"]
                found[route.path] = Endpoint(route.path, body, route.endpoint)
    return found
