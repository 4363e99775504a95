"""What the states look like: screenshots to be looked at, in light and dark, on a desktop and a phone.

They go to WORKBENCH_ARTIFACTS, or to the test session's folder. Beside the pictures: nothing may be wider than the
window, and what is on the page may not lie on top of something else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from engine.config import EngineConfig
from engine.core import Engine
from tests.pages import LOOKS, Person
from tests.waiting import wait_until

KEY = "sk-looks-0123456789"


class Look:
    """One kind of window: opens pages in it, and takes their pictures."""

    def __init__(self, name: str, person: Any, folder: Path) -> None:
        self._name, self._person, self._folder = name, person, folder

    def open(self, url: str) -> Person:
        return self._person(url, **LOOKS[self._name])

    def shoot(self, me: Person, state: str) -> None:
        me.shoot(self._folder / f"{state}-{self._name}.png")


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest, person: Any, artifacts: Path) -> Look:
    return Look(request.param, person, artifacts)


def fits(me: Person) -> None:
    """No sideways scrolling, and the composer is on the screen."""
    page = me.page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    box = page.locator("#composer").bounding_box()
    size = page.viewport_size
    assert box["y"] + box["height"] <= size["height"]
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= size["width"]


def test_empty_chatting_and_settings(look, workbench_url, clip):
    me = look.open(workbench_url).arrive()
    me.page.locator("#chat .example").first.wait_for()
    me.page.wait_for_function("[...document.images].every(image => image.complete)")
    fits(me)
    look.shoot(me, "empty")
    me.drop(asset("samples") / "circle.png", clip)
    me.page.fill("#composer textarea", "What shape is it?\nAnd what happens in this video?")
    fits(me)
    look.shoot(me, "composing")
    me.page.press("#composer textarea", "Enter")
    me.finished()
    fits(me)
    look.shoot(me, "answered")
    me.page.locator("#settings .toggle-button").click()
    me.at_rest()  # the drawer slides
    look.shoot(me, "settings")


def test_decide(look, workbench_url, drawn):
    me = look.open(workbench_url).arrive()
    page = me.page
    page.get_by_role("tab", name="Decide").click()
    page.locator("#decide .sample img").first.wait_for()
    look.shoot(me, "decide-empty")
    page.locator("#decide input[type=file]").first.set_input_files(drawn("red", "circle"))
    page.get_by_role("button", name="Examples").click()
    page.locator("#decide .shown img").wait_for()
    page.get_by_role("button", name="Decide").click()
    page.locator("#decide .summary", has_text="3 questions in").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    look.shoot(me, "decide-answered")
    page.locator("#decide .go").scroll_into_view_if_needed()
    look.shoot(me, "decide-below")


def test_video(look, workbench_url):
    me = look.open(workbench_url).arrive()
    page = me.page
    page.get_by_role("tab", name="Video").click()
    page.locator("#video .sample").first.wait_for()
    look.shoot(me, "video-empty")
    page.get_by_role("button", name="changing square").click()
    page.locator('#video .option[data-frames="16"]').wait_for()
    look.shoot(me, "video-sheet")
    page.get_by_role("button", name="Which frame mattered?").click()
    page.get_by_text("Each bar: how much less likely").wait_for()
    page.locator("#video .pair").first.scroll_into_view_if_needed()
    look.shoot(me, "video-mattered")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelector('#video').scrollWidth <= document.querySelector('#video').clientWidth")
    page.get_by_role("button", name="Compare two settings").click()
    page.locator("#video .panel").nth(1).locator(".pair").first.wait_for()
    look.shoot(me, "video-compared")
    assert page.evaluate("document.querySelector('#video').scrollWidth <= document.querySelector('#video').clientWidth")


def test_streaming_and_error(look, slow_url, tmp_path):
    me = look.open(slow_url).arrive()
    me.send("Tell me a long story.")
    me.answers.last.wait_for()
    wait_until(lambda: len(me.answer) > 200)
    fits(me)
    look.shoot(me, "streaming")
    me.stop()
    me.finished()
    fake = tmp_path / "holiday.png"
    fake.write_text("words")
    me.drop(fake)
    me.send("Who is this?")
    me.page.locator("#chat .note-error").wait_for()
    fits(me)
    look.shoot(me, "error")


def test_loading(look, serve_page):
    """The page is there before the model; a message waits for it."""
    engine = Engine(EngineConfig())
    try:
        with serve_page(engine) as url:
            me = look.open(url).arrive()
            loading = me.page.locator("#header .model", has_text="Loading the model…")
            loading.wait_for()
            me.send("Hello!")
            me.page.locator("#chat .note-busy", has_text="Loading the model").wait_for()
            fits(me)
            look.shoot(me, "loading")
            engine.start()
            me.finished()
            assert me.answers.count() == 1
            loading.wait_for(state="detached")
            me.leave()
    finally:
        engine.stop()


def test_login(look, serve_page, demo_engine):
    """A port that others can reach asks for the key before it shows anything."""
    with serve_page(demo_engine, host="0.0.0.0", api_keys=(("user", KEY),)) as url:
        me = look.open(url)
        me.page.get_by_label("Username").wait_for()
        assert me.page.locator("#composer").count() == 0
        look.shoot(me, "login")
        me.page.get_by_label("Username").fill("user")
        me.page.get_by_label("Password").fill(KEY)
        me.page.get_by_role("button", name="Sign in").click()
        me.arrive()
        me.drop(asset("samples") / "circle.png")
        assert "circle" in me.ask("What is in this image?").lower()
        me.leave()
