"""Searching and downloading from the stand-in hub, through the shelf as the page and the routes use it."""

from __future__ import annotations

import asyncio
import errno
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.errors import BadRequest, Conflict, EngineError, ModelNotFound, Unavailable
from engine.hub import download as download_module
from engine.hub import fetch as fetch_module
from engine.hub.download import DownloadState
from engine.hub.shelf import Shelf
from engine.inventory.inventory import Inventory
from tests.engine.inventory.folders import write_model
from tests.hub import Faults, StandInHub
from tests.waiting import until as eventually

NAME = "org/small"
WEIGHTS = "model.safetensors"
BYTES = 8 * 1024**2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("remote") / "small", shard_bytes=BYTES)


@asynccontextmanager
async def shelf(hub: StandInHub, tmp_path: Path) -> AsyncIterator[Shelf]:
    opened = Shelf(Inventory([], tmp_path / "cache"), hub.url)
    try:
        yield opened
    finally:
        opened.close()


async def until(here: Shelf, wanted: Callable[[DownloadState], bool], timeout_s: float = 60) -> DownloadState:
    """The download's state as soon as it is as wanted."""
    async with asyncio.timeout(timeout_s):
        while not wanted(here.download(NAME)):
            await asyncio.sleep(0.01)
    return here.download(NAME)


def ended(state: DownloadState) -> bool:
    return not state.is_running


async def test_a_model_is_downloaded_and_then_here(model: Path, tmp_path: Path) -> None:
    with StandInHub({NAME: model}) as hub:
        async with shelf(hub, tmp_path) as here:
            assert here.pull(NAME).is_running
            state = await until(here, ended)
            assert (state.stage, state.error) == ("done", "")
            assert state.done_bytes == state.total_bytes > BYTES
            found = {one.place.source: one for one in await here.models()}[NAME]
            assert found.problems == () and found.can_delete
            assert (found.place.folder / WEIGHTS).read_bytes() == (model / WEIGHTS).read_bytes()
            assert hub.sent_bytes[WEIGHTS] == (model / WEIGHTS).stat().st_size, "the weights came twice"


async def test_what_the_engine_itself_finds_afterwards(model: Path, tmp_path: Path) -> None:
    """huggingface_hub, without a hub: the snapshot and what main points to are laid out."""
    from huggingface_hub import snapshot_download

    with StandInHub({NAME: model}) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            await until(here, ended)
    folder = snapshot_download(NAME, cache_dir=tmp_path / "cache", local_files_only=True)
    assert {path.name for path in Path(folder).iterdir()} == {path.name for path in model.iterdir()}


async def test_a_connection_that_is_cut_is_taken_up_where_it_was(model: Path, tmp_path: Path) -> None:
    with StandInHub({NAME: model}, faults=Faults(cut={WEIGHTS: [0.6]})) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            state = await until(here, ended)
            size = (model / WEIGHTS).stat().st_size
            assert (state.stage, state.done_bytes) == ("done", state.total_bytes)
            assert size <= hub.sent_bytes[WEIGHTS] < 1.5 * size, "it began anew"


async def test_paused_and_resumed(model: Path, tmp_path: Path) -> None:
    held = threading.Event()
    with StandInHub({NAME: model}, faults=Faults(held={WEIGHTS: held})) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            await until(here, lambda state: state.done_bytes > BYTES // 4)
            here.change("pause", NAME)
            held.set()
            paused = await until(here, ended)
            assert paused.stage == "paused" and BYTES // 4 < paused.done_bytes < paused.total_bytes
            assert (paused.speed_bytes_s, paused.left_s) == (0, None)
            half = {one.place.source: one for one in await here.models()}[NAME]
            assert half.problems and "not downloaded to the end" in half.problems[0]
            await eventually(lambda: hub.is_quiet, "the hub still sends")
            before = hub.sent_bytes[WEIGHTS]
            here.change("resume", NAME)
            assert (await until(here, ended)).stage == "done"
            assert hub.sent_bytes[WEIGHTS] - before < BYTES, "it began anew"


async def test_resumed_after_a_restart(model: Path, tmp_path: Path) -> None:
    """Another shelf, which remembers nothing, goes on with what is on the disk."""
    held = threading.Event()
    with StandInHub({NAME: model}, faults=Faults(held={WEIGHTS: held})) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            await until(here, lambda state: state.done_bytes > BYTES // 4)
            here.close()
            held.set()
            assert (await until(here, ended)).stage == "paused"
        await eventually(lambda: hub.is_quiet, "the hub still sends")
        before = hub.sent_bytes[WEIGHTS]
        async with shelf(hub, tmp_path) as again:
            again.pull(NAME)
            assert (await until(again, ended)).stage == "done"
        assert hub.sent_bytes[WEIGHTS] - before < BYTES


async def test_a_hub_that_ignores_range_sends_it_anew(model: Path, tmp_path: Path) -> None:
    faults = Faults(cut={WEIGHTS: [0.6]}, ignores_range=True)
    with StandInHub({NAME: model}, faults=faults) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            state = await until(here, ended)
            assert (state.stage, state.done_bytes) == ("done", state.total_bytes)


async def test_cancelled(model: Path, tmp_path: Path) -> None:
    held = threading.Event()
    with StandInHub({NAME: model}, faults=Faults(held={WEIGHTS: held})) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            await until(here, lambda state: state.done_bytes > BYTES // 4)
            with pytest.raises(Conflict, match="being downloaded"):
                await here.delete(NAME)
            here.change("cancel", NAME)
            held.set()
            assert (await until(here, ended)).stage == "cancelled"
            assert [one.place.source for one in await here.models()] == ["demo"]
            assert not (tmp_path / "cache" / "models--org--small").exists()


async def test_cancelling_what_is_paused_does_not_wait_for_the_disk(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is resumed meanwhile is not removed: it waits for the disk in a thread of its own."""
    held, disk, removers = threading.Event(), threading.Event(), []
    unlink = Path.unlink

    def slow(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".incomplete":
            removers.append(threading.current_thread())
            disk.wait(timeout=60)
        unlink(path, missing_ok)

    with StandInHub({NAME: model}, faults=Faults(held={WEIGHTS: held})) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            await until(here, lambda state: state.done_bytes > BYTES // 4)
            here.change("pause", NAME)
            held.set()
            await until(here, ended)
            monkeypatch.setattr(Path, "unlink", slow)
            assert here.change("cancel", NAME).stage == "cancelled"
            await eventually(lambda: removers, "nobody removes what is half there")
            assert removers[0] is not threading.current_thread()
            here.pull(NAME)
            disk.set()
            assert (await until(here, ended)).stage == "done"


@pytest.mark.parametrize("file", [WEIGHTS, "config.json"])
async def test_other_bytes_than_the_hub_names_are_thrown_away(model: Path, tmp_path: Path, file: str) -> None:
    with StandInHub({NAME: model}, faults=Faults(wrong={file})) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            state = await until(here, ended)
            assert (state.stage, state.error_code) == ("failed", "wrong_bytes")
            assert file in state.error and "thrown away" in state.error
            blobs = tmp_path / "cache" / "models--org--small" / "blobs"
            assert not list(blobs.glob("*.incomplete"))
            hub.faults.wrong.clear()
            here.pull(NAME)
            assert (await until(here, ended)).stage == "done"


def _gated(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.faults.gated.add(NAME)


def _gone(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories.clear()


def _down(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.down = True


def _offline(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is refused inside the hub's client."""
    import httpx2

    def refused(*_: Any, **__: Any) -> Any:
        raise httpx2.ConnectError("connection refused")

    monkeypatch.setattr(httpx2.HTTPTransport, "handle_request", refused)


def _no_room(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]


def _disk_full(hub: StandInHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full while a file is being written."""

    def full(self: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_module.Path, "replace", full)


FAILURES = {
    "gated": (_gated, "gated_model", "accept its terms"),
    "gone": (_gone, "model_not_found", "no model 'org/small'"),
    "down": (_down, "hub_unreachable", "503"),
    "offline": (_offline, "hub_unreachable", "cannot be reached"),
    "no room": (_no_room, "disk_full", "are free on the disk"),
    "disk full": (_disk_full, "disk_full", "The disk is full"),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_what_goes_wrong_is_said_in_words(
    model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    inject, code, words = FAILURES[name]
    with StandInHub({NAME: model}) as hub:
        async with shelf(hub, tmp_path) as here:
            with monkeypatch.context() as patch:
                inject(hub, patch)
                here.pull(NAME)
                state = await until(here, ended)
            assert (state.stage, state.error_code) == ("failed", code)
            assert words in state.error and "\n" not in state.error


async def test_a_repository_without_safetensors(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "gguf")
    (folder / WEIGHTS).rename(folder / "model.gguf")
    with StandInHub({NAME: folder}) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            state = await until(here, ended)
            assert (state.stage, state.error_code) == ("failed", "no_safetensors")


@pytest.mark.parametrize("name", ["", "small", "/etc/passwd", "../..", "a/../b", "org/na me", "org/small/x", "a--b/c"])
async def test_what_is_no_name_of_a_model(tmp_path: Path, name: str) -> None:
    with StandInHub({}) as hub:
        async with shelf(hub, tmp_path) as here:
            with pytest.raises(BadRequest, match="not the name of a model"):
                here.pull(name)
            assert hub.requests == []


async def test_there_is_no_such_download(tmp_path: Path) -> None:
    with StandInHub({}) as hub:
        async with shelf(hub, tmp_path) as here:
            for action in ("pause", "resume", "cancel"):
                with pytest.raises(ModelNotFound):
                    here.change(action, NAME)  # type: ignore[arg-type]


async def test_searching(model: Path, tmp_path: Path) -> None:
    sees = write_model(tmp_path / "sees", {"model_type": "qwen3_vl"})
    with StandInHub({NAME: model, "org/other": sees}, faults=Faults(gated={"org/other"})) as hub:
        async with shelf(hub, tmp_path) as here:
            (hit,) = await here.search("small")
            assert (hit.repo, hit.weight_bytes, hit.is_gated) == (NAME, BYTES, False)
            (hit,) = await here.search("other")
            assert (hit.family_name, hit.is_gated) == ("Qwen3-VL", True)
            assert await here.search("nothing like it") == ()


async def test_searching_where_the_hub_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StandInHub({}) as hub:
        async with shelf(hub, tmp_path) as here:
            _offline(hub, monkeypatch)
            with pytest.raises(Unavailable, match="cannot be reached"):
                await here.search("small")


async def test_deleting_looks_through_the_cache_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    with StandInHub({NAME: model}) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            await until(here, ended)
            assert {one.place.source for one in await here.models()} == {"demo", NAME}
            scan, scanned = huggingface_hub.scan_cache_dir, []
            monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda cache: scanned.append(cache) or scan(cache))
            assert await here.delete(NAME) > BYTES
            assert len(scanned) == 1
            assert [one.place.source for one in here.known or ()] == ["demo"]
            assert await here.models() == here.known


@pytest.mark.parametrize(("status", "ends"), [(429, "done"), (503, "done"), (403, "failed")])
async def test_an_answer_that_may_pass_is_asked_for_again(
    model: Path, tmp_path: Path, status: int, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_module, "_PAUSE_S", 0.01)
    with StandInHub({NAME: model}, faults=Faults(refused={WEIGHTS: [status, status]})) as hub:
        async with shelf(hub, tmp_path) as here:
            here.pull(NAME)
            assert (await until(here, ended)).stage == ends


async def test_a_folder_by_its_path(model: Path, tmp_path: Path) -> None:
    with StandInHub({}) as hub:
        async with shelf(hub, tmp_path) as here:
            assert (await here.look_at(str(model))).place.folder == model
            for path in ("", "relative/path", str(tmp_path / "none"), str(tmp_path), "~nosuchuser/x", "/a\0b"):
                with pytest.raises(EngineError):
                    await here.look_at(path)


def test_the_hub_client_works_as_fetch_needs_it() -> None:
    """A contract: what of huggingface_hub is used beyond its documented calls."""
    import inspect

    from huggingface_hub import snapshot_download
    from huggingface_hub.file_download import repo_folder_name
    from huggingface_hub.utils import WeakFileLock, get_session

    assert repo_folder_name(repo_id="org/small", repo_type="model") == "models--org--small"
    assert "timeout" in inspect.signature(WeakFileLock).parameters
    assert {"endpoint", "cache_dir", "allow_patterns", "tqdm_class"} <= set(
        inspect.signature(snapshot_download).parameters
    )
    assert callable(get_session().stream)
