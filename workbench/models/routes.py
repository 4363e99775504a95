"""What the buttons of the Models tab do: plain POSTs, for whoever manages the models of this server (engine.access).

As with all routes of the page, what changes something asks for a header that only our own page can send
(workbench.conversations.routes).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from engine.access.visibility import caller, check_manages_models
from engine.config import ModelSpec, ServerConfig
from engine.errors import ModelNotFound
from engine.inventory.inventory import ModelHere
from engine.types import Json, ModelState
from workbench.conversations.routes import PageLogin, visitor_of
from workbench.language import t
from workbench.models.listing import hit_json, is_same
from workbench.models.live import LiveModels

if TYPE_CHECKING:
    from engine.core import Engine

MAX_CHARS = 4096


class ModelChosen(BaseModel):
    """source: as the list has it."""

    source: str = Field(max_length=MAX_CHARS)


class FolderChosen(BaseModel):
    folder: str = Field(max_length=MAX_CHARS)


class HubSearch(BaseModel):
    words: str = Field(max_length=200)
    only_mlx: bool = False


class DownloadChosen(BaseModel):
    repo: str = Field(max_length=200)


def model_routes(engine: Engine, config: ServerConfig, login: PageLogin, live: LiveModels) -> APIRouter:
    """Every route below /models of the page's router."""
    router = APIRouter(prefix="/models", include_in_schema=False)

    def check(request: Request) -> None:
        check_manages_models(config, caller(config, login.name(request), visitor_of(request)))

    async def found(source: str) -> ModelHere:
        """The model of the list. Only what is on the list is loaded: a path is none of it."""
        models = engine.shelf.known or await engine.shelf.models()
        model = next((model for model in models if model.place.source == source), None)
        if model is None:
            raise ModelNotFound(t("There is no model {name} on this machine.", name=repr(source[:200])), param="source")
        return model

    def known(source: str) -> ModelState | None:
        states = engine.models()
        named = next((state for state in states if source == state.name), None)
        return named or next((state for state in states if source == state.source and not state.parent), None)

    async def loaded(model: ModelHere) -> Json:
        state = next((state for state in engine.models() if is_same(state, model)), None)
        if state is None:
            name = model.place.name if model.place.origin == "folder" else None
            state = engine.add_model(ModelSpec(source=model.place.source, name=name))
        return {"name": (await engine.load_model(state.name)).name}

    @router.post("/look")
    async def look(request: Request) -> Json:
        check(request)
        await engine.shelf.models()
        return {"done": True}

    @router.post("/load")
    async def load(request: Request, chosen: ModelChosen) -> Json:
        check(request)
        if (state := known(chosen.source)) is not None:
            return {"name": (await engine.load_model(state.name)).name}
        return await loaded(await found(chosen.source))

    @router.post("/try")
    async def try_folder(request: Request, chosen: FolderChosen) -> Json:
        check(request)
        return await loaded(await engine.shelf.look_at(chosen.folder))

    @router.post("/unload")
    async def unload(request: Request, chosen: ModelChosen) -> Json:
        check(request)
        state = known(chosen.source)
        if state is None:
            raise ModelNotFound(t("The engine does not know {name}.", name=repr(chosen.source[:200])), param="source")
        return {"name": (await engine.unload_model(state.name)).name}

    @router.post("/delete")
    async def delete(request: Request, chosen: ModelChosen) -> Json:
        check(request)
        in_use = [state.source for state in engine.models() if state.stage in ("ready", "loading", "downloading")]
        return {"freed_bytes": await engine.shelf.delete(chosen.source, in_use)}

    @router.post("/search")
    async def search(request: Request, wanted: HubSearch) -> Json:
        check(request)
        hits = await engine.shelf.search(wanted.words, only_mlx=wanted.only_mlx)
        here = [model.place.source for model in engine.shelf.known or () if not model.problems]
        return {"hits": [hit_json(hit, live.machine(), here) for hit in hits]}

    @router.post("/pull")
    async def pull(request: Request, chosen: DownloadChosen) -> Json:
        check(request)
        engine.shelf.pull(chosen.repo.strip())
        return {"done": True}

    @router.post("/downloads/{action}")
    async def change(request: Request, action: Literal["pause", "resume", "cancel"], chosen: DownloadChosen) -> Json:
        check(request)
        engine.shelf.change(action, chosen.repo)
        return {"done": True}

    return router
