"""Where a disk is full, and where a proxy shows the page under a prefix: the chat goes on."""

from __future__ import annotations

import errno
import os
import sqlite3
from typing import Any

from engine.config import ServerConfig
from tests.pictures import picture
from workbench.conversations import media
from workbench.conversations.database import Database

QUESTION = "What is in this image?"


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_picture_that_no_disk_takes_goes_back_into_the_composer(
    person, serve_page, demo_engine, tmp_path, monkeypatch
):
    drawing = tmp_path / "drawing.png"
    picture("red", "circle", (250, 240)).save(drawing)  # no other test has had this one kept
    with serve_page(demo_engine, data_folder=tmp_path / "data") as url:
        me = person(url).arrive()
        me.ask("Hello!")
        monkeypatch.setattr(media, "_place", no_room)  # before the draft has it kept
        me.drop(drawing)
        me.send(QUESTION)
        me.page.get_by_text("cannot be stored on the server (No space left").first.wait_for()
        me.page.locator("#composer .thumbnail-item").wait_for()
        assert me.page.locator("#composer textarea").input_value() == QUESTION
        assert me.page.locator("#chat .turn").count() == 2, "the chat is as it was"
        monkeypatch.undo()
        me.finished(1)
        me.page.press("#composer textarea", "Enter")
        me.finished(2)
        assert "circle" in me.answer.lower()
        # The page kept its draft meanwhile, and was told that there is no room.
        me.complaints = [said for said in me.complaints if "503" not in said]
        me.leave()


def test_a_page_is_told_at_once_that_its_chats_are_not_kept_any_more(
    person, serve_page, demo_engine, tmp_path, monkeypatch
):
    plain = Database._commit

    def full(self: Database, change: Any) -> Any:
        if not self.on_disk:
            return plain(self, change)
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise error

    with serve_page(demo_engine, data_folder=tmp_path) as url:
        me = person(url).arrive()
        me.page.locator("#conversations .kept", has_text="Kept on").wait_for()
        monkeypatch.setattr(Database, "_commit", full)
        me.ask("Hello!")
        me.page.locator("#conversations .kept.problem", has_text="lost at the end").wait_for()
        me.ask("Hello again!")
        assert me.answers.count() == 2
        me.leave()


class Strips:
    """A reverse proxy that shows an app under a prefix, and takes it away."""

    def __init__(self, app: Any, prefix: str) -> None:
        self._app = app
        self._prefix = prefix
        self.outside: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if not path.startswith(f"{self._prefix}/"):
                await send({"type": "http.response.start", "status": 404, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                self.outside.append(path)
                return
            path = path.removeprefix(self._prefix)
            scope = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(scope, receive, send)


def test_the_page_behind_a_prefix_like_its_own_paths(person, serve, serve_page, demo_engine, drawn):
    from workbench.app import create_app

    app = create_app(demo_engine, ServerConfig(root_path="/workbench"))
    proxy = Strips(app, "/workbench")
    with serve(proxy) as url:
        me = person(f"{url}/workbench").arrive()
        me.drop(drawn("blue", "square"))
        assert "square" in me.ask(QUESTION).lower()
        me.page.wait_for_function("new URLSearchParams(location.search).get('c')?.length > 10")
        me.page.locator("#conversations .title", has_text=QUESTION).wait_for()
        me.page.reload()
        me.page.locator("#chat .message img").wait_for()
        assert (
            me.page.locator("#chat .message img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        )
        with me.page.expect_download() as taken:
            me.page.locator("#conversations .more").first.click(force=True)
            me.page.get_by_role("menuitem", name="Export as JSON").click()
        assert "square" in taken.value.path().read_text().lower()
        me.complaints = [said for said in me.complaints if "404" not in said]  # told by `outside` in full
        me.leave()
        assert set(proxy.outside) <= {"/favicon.ico"}, "which a browser asks by itself"
