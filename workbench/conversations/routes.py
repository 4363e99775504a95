"""The plain routes of the page: its events, the list, drafts, export, import. Who sees what: engine.access.visibility.

What changes something asks for a header that only our own page can send: a browser sends none across sites without
asking first, and this server never allows it (https://fetch.spec.whatwg.org/#cors-preflight-fetch).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse, Response

from engine.access.visibility import caller, manages_models, runs_server
from engine.api.answering.sse import EventStream
from engine.config import MediaLimits, ServerConfig
from engine.errors import BadRequest, Forbidden, TooLarge, Unauthorized
from engine.types import Json, Kind
from workbench.conversations import export
from workbench.conversations.feed import Voices, feed
from workbench.conversations.imported import read_conversation
from workbench.conversations.library import ConversationLibrary
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.search import search
from workbench.conversations.types import Conversation, Draft, SearchHit
from workbench.language import t

VISITOR_HEADER = "x-workbench-visitor"
PAGE_SIZE = 200
MAX_DRAFT_CHARS = 1_000_000
MAX_DRAFT_FILES = 64
MAX_OFFSET = 1_000_000
EXPORTS = {"md": "text/markdown; charset=utf-8", "json": "application/json", "zip": "application/zip"}


@dataclass
class PageLogin:
    """Who is logged in to the page. page: Gradio's app, once it is mounted; it holds the tokens of its login."""

    needs_login: bool
    page: Any = None

    def is_known(self, request: Request) -> bool:
        try:
            self.name(request)
        except Unauthorized:
            return False
        return True

    def name(self, request: Request) -> str:
        """The name of the login, "" where none is asked for. Raises Unauthorized."""
        if not self.needs_login:
            return ""
        names = (f"access-token-{self.page.cookie_id}", f"access-token-unsecure-{self.page.cookie_id}")
        tokens = (request.cookies.get(name) for name in names)
        login = next((self.page.tokens[token] for token in tokens if token in self.page.tokens), None)
        if login is None:
            raise Unauthorized(t("Log in to the page first."))
        return str(login)


def visitor_of(request: Request) -> str:
    """What the browser's tab calls itself. A link that the browser follows carries it in its query.

    Raises Forbidden where something is to be changed without the header that only our own page can send.
    """
    visitor = request.headers.get(VISITOR_HEADER)
    if visitor is None and request.method != "GET":
        raise Forbidden(t("Only this server's own page may do this."), code="not_this_page")
    return request.query_params.get("visitor", "") if visitor is None else visitor


async def whole_body(request: Request, max_bytes: int) -> bytes:
    """A file that the page sends. Raises TooLarge."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise TooLarge(t("The file is too large; at most {count} bytes are allowed.", count=max_bytes))
    return bytes(body)


@dataclass(frozen=True)
class Files:
    """uploaded: the real path of an uploaded file, or BadMedia. kind: what a file of this name is sent as."""

    uploaded: Callable[[str], str]
    kind: Callable[[str], Kind]


class Changes(BaseModel):
    title: str | None = None
    is_pinned: bool | None = None


class SentDraft(BaseModel):
    text: str = ""
    files: list[str] = []
    settings: dict[str, str] | None = None


def conversation_routes(
    library: ConversationLibrary, config: ServerConfig, login: PageLogin, voices: Voices, files: Files
) -> APIRouter:
    """Every route below /workbench."""
    router = APIRouter(prefix="/workbench", include_in_schema=False)

    def owned(request: Request) -> OwnedConversations:
        return library.owned(login.name(request), visitor_of(request))

    @router.get("/live")
    async def live(request: Request, page: str, conversation: str = "") -> Response:
        mine = owned(request)
        who = caller(config, login.name(request), request.query_params.get("visitor", ""))
        heard = replace(voices, manages_models=manages_models(config, who), runs_server=runs_server(config, who))
        return EventStream(feed(library, mine, page, conversation, heard))

    @router.get("/conversations")
    async def conversations(request: Request, q: str = "", offset: int = 0) -> Json:
        mine = owned(request)
        if not 0 <= offset <= MAX_OFFSET:
            raise BadRequest(t("offset: it must be from 0 to {most}.", most=MAX_OFFSET), param="offset")
        return await library.in_thread(_listed, mine, q, offset, library.answers.conversations)

    @router.patch("/conversations/{conversation}")
    async def change(request: Request, conversation: str, changes: Changes) -> Json:
        mine = owned(request)
        if changes.title is not None:
            await library.in_thread(mine.rename, conversation, changes.title)
        if changes.is_pinned is not None:
            await library.in_thread(mine.pin, conversation, changes.is_pinned)
        await library.tell(mine, conversation)
        return line(await library.in_thread(mine.get, conversation))

    @router.delete("/conversations/{conversation}")
    async def delete(request: Request, conversation: str) -> Json:
        mine = owned(request)
        await library.delete(mine, conversation)
        return {"deleted": conversation}

    @router.post("/conversations/{conversation}/restore")
    async def restore(request: Request, conversation: str) -> Json:
        mine = owned(request)
        await library.restore(mine, conversation)
        return {"restored": conversation}

    @router.put("/drafts/{conversation}")
    async def draft(request: Request, conversation: str, sent: SentDraft) -> Json:
        mine = owned(request)
        place = "" if conversation == "new" else conversation
        await library.in_thread(_keep_draft, mine, place, sent, files)
        return {"kept": True}

    @router.get("/conversations/{conversation}/export.{suffix}")
    async def take_away(request: Request, conversation: str, suffix: Literal["md", "json", "zip"]) -> Response:
        mine = owned(request)
        return await library.in_thread(_exported, mine, conversation, suffix)

    @router.get("/conversations/{conversation}/turns/{turn}/tokens")
    async def tokens(request: Request, conversation: str, turn: str) -> Json:
        """An answer's tokens: [text, log-probability, [[text, log-probability] of the likeliest ones there]]."""
        mine = owned(request)
        written = await library.in_thread(mine.tokens, conversation, turn)
        return {"tokens": [token.json() for token in written]}

    @router.get("/conversations/{conversation}/print")
    async def page_to_print(request: Request, conversation: str) -> Response:
        mine = owned(request)
        return await library.in_thread(_to_print, mine, conversation)

    @router.post("/import")
    async def bring(request: Request, name: str = "conversation") -> Json:
        mine = owned(request)
        data = await whole_body(request, config.max_upload_bytes)
        made = await library.in_thread(_imported, mine, data, name, config.max_upload_bytes)
        await library.tell(mine, made.id)
        return line(made)

    return router


def line(conversation: Conversation, excerpt: str = "", is_writing: bool = False) -> Json:
    """One line of the list."""
    fields = asdict(conversation)
    words = {name: fields[name] for name in ("id", "title", "changed_s", "is_pinned")}
    return {**words, "excerpt": excerpt, "is_writing": is_writing}


def _listed(mine: OwnedConversations, query: str, offset: int, writing: set[str]) -> Json:
    if query.strip():
        hits, has_more = search(mine, query), False
    else:
        found = mine.listed(PAGE_SIZE + 1, offset)
        hits, has_more = [SearchHit(one) for one in found[:PAGE_SIZE]], len(found) > PAGE_SIZE
    lines = [line(hit.conversation, hit.excerpt, hit.conversation.id in writing) for hit in hits]
    return {"conversations": lines, "has_more": has_more, "now_s": time.time()}


def _keep_draft(mine: OwnedConversations, conversation: str, sent: SentDraft, files: Files) -> None:
    if len(sent.text) > MAX_DRAFT_CHARS or len(sent.files) > MAX_DRAFT_FILES:
        raise BadRequest(
            t(
                "A draft is kept up to {characters} characters and {files} files.",
                characters=MAX_DRAFT_CHARS,
                files=MAX_DRAFT_FILES,
            )
        )
    paths = [files.uploaded(path) for path in sent.files]
    kept = tuple(mine.store.media.add(path, files.kind(path)) for path in paths)
    mine.keep_draft(conversation, Draft(sent.text, kept), sent.settings)


def _exported(mine: OwnedConversations, conversation: str, suffix: str) -> Response:
    listed, turns = mine.get(conversation), mine.path(conversation)
    read = mine.store.media.read
    if suffix == "md":
        body: str | bytes = export.markdown(listed, turns)
    else:
        is_zip = suffix == "zip"
        every = mine.whole(conversation) if is_zip else ()
        body = export.zipped(listed, turns, every, read) if is_zip else export.json_text(listed, turns, read)
    name = export.file_name(listed, f".{suffix}")
    disposition = f"attachment; filename*=UTF-8''{export.quoted(name)}"
    return Response(body, media_type=EXPORTS[suffix], headers={"Content-Disposition": disposition})


def _to_print(mine: OwnedConversations, conversation: str) -> Response:
    page = export.page_to_print(mine.get(conversation), mine.path(conversation), mine.store.media.read)
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return HTMLResponse(page, headers={"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"})


def _imported(mine: OwnedConversations, data: bytes, name: str, max_bytes: int) -> Conversation:
    read = read_conversation(data, name[:200], mine.store.media.add_bytes, MediaLimits(), max_bytes)
    whole = read.whole
    made = mine.create(read.title, read.settings, whole.created_s if whole else 0.0)
    mine.add(made.id, read.turns)
    if whole is not None:
        mine.set_head(made.id, whole.head)
        mine.pin(made.id, whole.is_pinned)
    return mine.get(made.id)
