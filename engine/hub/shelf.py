"""Shelf: what is on this machine, what is on the hub, and what is on its way from there. Safe from any event loop.

Its own threads ask the disk and the hub; none of MLX's work waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Literal, TypeVar

from engine.config import given_folder
from engine.errors import BadRequest, Conflict, ModelNotFound
from engine.hub.download import Download, DownloadState, Hub
from engine.hub.remote import check_repo
from engine.hub.search import HubModel, search
from engine.inventory.inventory import Inventory, ModelHere
from engine.models.hub_failures import in_words

DownloadAction = Literal["pause", "resume", "cancel"]
_MAIN = "main"
"""The revision where none is named."""

MAX_DOWNLOADS = 64
"""Remembered, those that have ended included."""

_ASKING_THREADS = 2
_FETCHING_THREADS = 2
T = TypeVar("T")


class Shelf:
    """inventory: of this machine. endpoint: of the hub; None for HF_ENDPOINT, else the hub's own."""

    def __init__(self, inventory: Inventory, endpoint: str | None = None) -> None:
        self._inventory = inventory
        self._endpoint = endpoint
        self._asking = ThreadPoolExecutor(_ASKING_THREADS, thread_name_prefix="shelf")
        self._fetching = ThreadPoolExecutor(_FETCHING_THREADS, thread_name_prefix="download")
        self._downloads: dict[str, Download] = {}
        self._models: tuple[ModelHere, ...] | None = None

    @property
    def known(self) -> tuple[ModelHere, ...] | None:
        """The models of this machine as they were found last; None before the first time. Any thread, never blocks."""
        return self._models

    async def models(self) -> tuple[ModelHere, ...]:
        """The models of this machine, as they are now."""
        self._models = await self._ask(self._inventory.models)
        return self._models

    async def look_at(self, folder: str) -> ModelHere:
        """The model in a folder of this machine. Raises BadRequest where there is none, with the reason.

        Who calls this has checked that the asker may name paths (engine.access).
        """
        path = given_folder(folder.strip())
        if not folder.strip() or not path.is_absolute():
            raise BadRequest("Give the whole path of a folder, like /home/me/models/name.", param="folder")
        found = await self._ask(partial(self._inventory.look_at, path))
        if found.problems:
            raise BadRequest(f"{path} cannot be loaded. {' '.join(found.problems)}", param="folder")
        return found

    async def delete(self, source: str, in_use: Iterable[str] = ()) -> int:
        """Delete a model from the disk: see Inventory.delete. Raises Conflict while it is being downloaded."""
        running = self._downloads.get(source)
        if running is not None and running.state.is_running:
            raise Conflict(f"{source!r} is being downloaded. Cancel that first.", code="model_in_use")
        freed = await self._ask(partial(self._inventory.delete, source, tuple(in_use)))
        self._downloads.pop(source, None)
        if self._models is not None:
            self._models = tuple(model for model in self._models if model.place.source != source)
        return freed

    async def search(self, words: str, *, only_mlx: bool = False) -> tuple[HubModel, ...]:
        """Models of the hub: see engine.hub.search. Raises EngineError with the reason in words."""
        return await self._asked_of_the_hub(partial(search, self._hub.api, words, only_mlx=only_mlx), words)

    @property
    def downloads(self) -> tuple[DownloadState, ...]:
        """All downloads since the start, the latest first. Any thread."""
        return tuple(download.state for download in reversed(tuple(self._downloads.values())))

    def download(self, repo: str) -> DownloadState:
        """How far a download is. Raises ModelNotFound where there is none."""
        return self._found(repo).state

    def pull(self, repo: str, revision: str | None = None) -> DownloadState:
        """Download a model, or go on with it; one that runs is left alone. Returns at once.

        Raises BadRequest for what is no name of a model, and Conflict while another revision of it is on its way.
        """
        try:
            check_repo(repo)
        except ValueError as error:
            raise in_words(error, repo) from None
        download = self._downloads.get(repo)
        if download is None:
            download = Download(repo, revision, self._hub)
        elif download.state.is_running:
            if (revision or _MAIN) != (download.revision or _MAIN):
                why = f"revision {download.revision or _MAIN} of {repo} is being downloaded; ask again when it is there"
                raise Conflict(f"revision: {why}.", param="revision", code="download_running")
            return download.state
        self._downloads.pop(repo, None)
        self._downloads[repo] = download
        self._forget_ended()
        download.begin(revision)
        self._fetching.submit(download.run)
        return download.state

    def change(self, action: DownloadAction, repo: str) -> DownloadState:
        """Pause, resume or cancel a download. Raises ModelNotFound."""
        download = self._found(repo)
        if action == "resume":
            return self.pull(repo, download.revision)
        download.halt("paused" if action == "pause" else "cancelled")
        if download.state.stage == "cancelled":
            self._asking.submit(download.remove_partials)
        return download.state

    def close(self) -> None:
        """Halt all downloads; what has arrived stays. Idempotent. Returns at once."""
        for download in self._downloads.values():
            download.halt("paused")
        self._asking.shutdown(wait=False, cancel_futures=True)
        self._fetching.shutdown(wait=False, cancel_futures=True)

    @property
    def _hub(self) -> Hub:
        return Hub(self._inventory.cache, self._endpoint)

    def _found(self, repo: str) -> Download:
        if repo not in self._downloads:
            raise ModelNotFound(f"There is no download of {repo[:200]!r}.", param="model", code="download_not_found")
        return self._downloads[repo]

    def _forget_ended(self) -> None:
        ended = [repo for repo, download in self._downloads.items() if not download.state.is_running]
        for repo in ended[: max(0, len(self._downloads) - MAX_DOWNLOADS)]:
            del self._downloads[repo]

    async def _ask(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._asking, work)

    async def _asked_of_the_hub(self, work: Callable[[], T], about: str) -> T:
        try:
            return await self._ask(work)
        except Exception as error:  # whatever the hub's client raises: it is words for the page
            raise in_words(error, about) from error
