"""The pictures of the README, made when they are asked for: WORKBENCH_README_PICTURES=assets/screenshots.

To be looked at before they are kept; on a busy machine their times are those of a busy machine.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.assets import asset
from engine.config import EngineConfig
from engine.core import Engine
from tests.browser.test_batch import Batch
from tests.browser.test_bench import BenchTab
from tests.browser.test_cache import CacheTab
from tests.browser.test_requests import ask, line, open_requests
from tests.pages import Person
from tests.waiting import wait_until

FOLDER = os.environ["WORKBENCH_README_PICTURES"]
SAMPLES = asset("samples")


@pytest.fixture
def url(serve_page: Any, tmp_path: Path) -> Any:
    """A workbench that nobody has used yet."""
    engine = Engine(EngineConfig())
    engine.start()
    try:
        with serve_page(engine, data_folder=tmp_path) as served:
            yield served
    finally:
        engine.stop()


@pytest.fixture
def arrives(person: Any, url: str) -> Any:
    """arrives() -> somebody in front of the chat, in a window of the pictures' size."""
    here: list[Person] = []

    def make(width: int = 1180, height: int = 780) -> Person:
        here.append(person(url, viewport={"width": width, "height": height}, device_scale_factor=2).arrive())
        return here[-1]

    yield make
    for one in here:
        one.leave()


Arrives = Callable[..., Person]


def shoot(me: Person, name: str) -> None:
    me.page.mouse.move(0, 0)
    me.page.evaluate("document.activeElement.blur()")
    me.at_rest()
    me.shoot(Path(FOLDER) / f"{name}.png")


def test_chat(arrives: Arrives) -> None:
    """With its receipt open: what the model saw."""
    me = arrives(height=860)
    me.drop(SAMPLES / "three-shapes.png")
    me.ask("Describe this image.")
    me.page.locator("#chat .receipt summary").click()
    me.page.locator("#chat .receipt img").wait_for()
    shoot(me, "chat")


def test_conversations(arrives: Arrives) -> None:
    me = arrives(1440)
    page = me.page
    for sample, question in (
        ("circle.png", "What shape is it?"),
        ("triangle.png", "What color is the triangle?"),
        ("moving-circle.mp4", "What happens in this video?"),
        ("three-shapes.png", "How many shapes are there?"),
    ):
        page.locator("#chat .welcome").wait_for()
        me.drop(SAMPLES / sample)
        me.ask(question)
        if sample != "three-shapes.png":
            page.locator('#chat button[aria-label="New chat"]').click()
    me.ask("What color is the star?")
    page.locator("#conversations .item").nth(3).wait_for()
    shoot(me, "conversations")


def test_video(arrives: Arrives) -> None:
    me = arrives(height=1080)
    page = me.page
    page.get_by_role("tab", name="Video").click()
    page.get_by_role("button", name="changing square").click()
    page.locator('#video .option[data-frames="16"]').wait_for()
    page.get_by_role("button", name="Which frame mattered?").click()
    page.get_by_text("Each bar: how much less likely").wait_for()
    shoot(me, "video")


def test_decide(arrives: Arrives) -> None:
    me = arrives()
    page = me.page
    page.get_by_role("tab", name="Decide").click()
    page.locator("#decide input[type=file]").first.set_input_files(SAMPLES / "three-shapes.png")
    page.get_by_role("button", name="Examples").click()
    page.locator("#decide .shown img").wait_for()
    page.get_by_role("button", name="Decide", exact=True).click()
    page.locator("#decide .summary", has_text="3 questions in").wait_for()
    shoot(me, "decide")


def test_batch(arrives: Arrives, drawings: Path) -> None:
    at = Batch(arrives())
    at.drop(sorted(drawings.glob("*-112x112.png"))[:12], "12 files")
    at.start()
    at.comes_to("done")
    shoot(at.me, "batch")


def test_cache(arrives: Arrives) -> None:
    me = arrives()
    for sample, questions in (
        ("moving-circle.mp4", ("What happens in this video?", "What color is it?")),
        ("three-shapes.png", ("Describe this image.", "What color is the star?")),
    ):
        me.drop(SAMPLES / sample)
        for question in questions:
            me.ask(question)
        if sample.endswith(".mp4"):
            me.page.locator('#chat button[aria-label="New chat"]').click()
            me.page.locator("#chat .welcome").wait_for()
    tab = CacheTab(me).open()
    tab.lane("reused")
    tab.page.get_by_role("button", name="Check the latest reuse").click()
    tab.lanes.first.locator('.verdict[data-lamp="green"]').wait_for()
    shoot(me, "cache")


def test_requests(arrives: Arrives, url: str) -> None:
    """Six at once, of which some wait for others."""
    me = arrives()
    page = open_requests(me)
    long, ids = "Once there were a circle, a square and a star. " * 30, []
    asking = [
        threading.Thread(target=lambda words=words, count=count: ids.append(ask(url, words, count)))
        for words, count in (
            *((f"{place} {long}", 60) for place in range(3)),
            *((f"A short one, the {place}.", 30) for place in range(3)),
        )
    ]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    wait_until(lambda: all("finished" in line(page, id).inner_text() for id in ids), "one never ended on the page")
    line(page, ids[-1]).locator(".waits").click()
    page.locator("#requests .meanwhile", has_text=".").wait_for()
    page.locator("#requests .axis .bars").first.wait_for(state="attached")
    page.evaluate("scrollTo(0, 0)")
    shoot(me, "requests")


def test_bench(arrives: Arrives) -> None:
    tab = BenchTab(arrives()).open()
    tab.run("Pictures", prompts=5, tokens=64).ended()
    shoot(tab.me, "bench")
