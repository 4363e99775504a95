"""POST, GET and DELETE of /v1/files. https://platform.openai.com/docs/api-reference/files"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse
from starlette.datastructures import UploadFile

from engine.api.files.kept import KeptFolder
from engine.api.files.store import INPUT, FileStore, KeptFile
from engine.api.http.guard import guarded_route
from engine.api.http.openapi import form_with_file
from engine.config import ServerConfig
from engine.errors import BadRequest, Conflict
from engine.types import Json

MAX_FIELDS = 8
OCTETS = "application/octet-stream"
FORM = form_with_file({"purpose": {"type": "string", "enum": [INPUT]}}, required=["purpose"])
BYTES: Any = {200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}}


def files_router(
    config: ServerConfig, kept: KeptFolder, store: FileStore, reader: Callable[[str], str | None]
) -> APIRouter:
    """reader: the batch that is reading a file of this id, None where none is."""
    router = APIRouter(prefix="/v1/files", tags=["OpenAI"], route_class=guarded_route(config))

    def owner(http: Request) -> str:
        return kept.owner(http.state.caller)

    @router.post("", summary="Keep a file for a batch", openapi_extra=FORM)
    async def upload(http: Request) -> Json:
        mine = owner(http)
        async with http.form(max_files=1, max_fields=MAX_FIELDS) as form:
            file, purpose = form.get("file"), form.get("purpose")
            if not isinstance(file, UploadFile):
                why = "file: this field is required, as a file."
                raise BadRequest(why, param="file", code="missing_required_parameter")
            if purpose != INPUT:
                raise BadRequest(f"purpose: it must be {INPUT}; other files are not kept here.", param="purpose")
            for name in sorted(set(form) - {"file", "purpose"}):
                why = f"{name[:100]}: not served; a file is kept until it is deleted."
                raise BadRequest(why, param=name[:100], code="unsupported_parameter")
            data, filename = await file.read(), file.filename or ""
        if not data:
            raise BadRequest("file: it is empty (0 bytes).", param="file")
        return (await store.add(mine, filename, INPUT, data)).to_json()

    @router.get("", summary="The files that are kept")
    async def listed(
        http: Request,
        purpose: str | None = None,
        limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
        order: Literal["asc", "desc"] = "desc",
        after: str | None = None,
    ) -> Json:
        files = [file for file in store.of(owner(http)) if purpose in (None, file.purpose)]
        return page([file.to_json() for file in files], limit, after, newest_first=order == "desc")

    @router.get("/{file_id}", summary="What a file is")
    async def retrieve(file_id: str, http: Request) -> Json:
        return store.find(owner(http), file_id).to_json()

    @router.get("/{file_id}/content", summary="The bytes of a file", response_class=FileResponse, responses=BYTES)
    async def content(file_id: str, http: Request) -> FileResponse:
        file = store.find(owner(http), file_id)
        return FileResponse(store.path(file), media_type=OCTETS, filename=file.filename or file.id)

    @router.delete("/{file_id}", summary="Delete a file")
    async def delete(file_id: str, http: Request) -> Json:
        file = store.find(owner(http), file_id)
        _check_unread(file, reader)
        store.remove(file)
        return {"id": file.id, "object": "file", "deleted": True}

    return router


def _check_unread(file: KeptFile, reader: Callable[[str], str | None]) -> None:
    batch = reader(file.id)
    if batch is not None:
        raise Conflict(f"The file is read by {batch}. Cancel that first.", code="file_in_use", param="file_id")


def page(entries: Sequence[Json], limit: int, after: str | None, *, newest_first: bool) -> Json:
    """One page of a list, as OpenAI's clients turn them. entries: the oldest first. after: the last id of the page
    before. Raises BadRequest for an id that is not among them."""
    ordered = list(reversed(entries)) if newest_first else list(entries)
    if after is not None:
        ids = [entry["id"] for entry in ordered]
        if after not in ids:
            raise BadRequest(f"after: there is no {after[:100]!r} in this list.", param="after")
        ordered = ordered[ids.index(after) + 1 :]
    shown = ordered[:limit]
    ends = {"first_id": shown[0]["id"] if shown else None, "last_id": shown[-1]["id"] if shown else None}
    return {"object": "list", "data": shown, "has_more": len(ordered) > limit, **ends}
