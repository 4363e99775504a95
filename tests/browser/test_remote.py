"""The page over another server: a chat with a picture, the header, Compare with a model here and one there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import expect

from engine.config import EngineConfig, ModelSpec
from engine.core import Engine
from engine.types import RemoteServer, Sampling
from tests.browser.test_compare import Compare
from tests.waiting import wait_until

QUESTION = "What is in this image?"
QUESTIONS_CSV = b"question,type,options\nWhat color is it?,choice,red | green | blue\n"


@pytest.fixture
def engine_at() -> Iterator[Callable[..., Engine]]:
    """engine_at(url, *models here): another server's model is the default one."""
    made: list[Engine] = []

    def make(url: str, *here: ModelSpec) -> Engine:
        far = ModelSpec.remote(RemoteServer.at(url), "far")
        made.append(Engine(EngineConfig(model=far, more_models=here, sampling=Sampling(temperature=0.0))))
        made[-1].start()
        wait_until(lambda: made[-1].models()[0].stage != "known", "nobody has looked")
        return made[-1]

    yield make
    for engine in made:
        engine.finish_imports()  # its thread must not be in the middle of them when the process ends
        engine.stop()


def test_a_picture_is_asked_about_there(
    person: Any, serve_page: Any, demo_server: Any, engine_at: Any, drawn: Any
) -> None:
    engine, host = engine_at(demo_server.url), demo_server.url.partition("://")[2]
    wait_until(lambda: (card := engine.snapshot().model) and card.takes_known, "it is never reached")
    with serve_page(engine) as url:
        me = person(url).arrive()
        expect(me.page.locator(".pill.model .head")).to_have_text("far")
        me.drop(drawn("red", "circle"))
        me.page.fill("#composer textarea", QUESTION)
        expect(me.page.locator("#cost")).to_contain_text(f"what it costs is known once {host} has answered")
        answer = me.ask(QUESTION).lower()
        assert "red" in answer and "circle" in answer
        words = (
            rf"served by {re.escape(host)} · \d+ tokens in( \(\d+ cached there\))? · \d+ out · first token [\d.]+ m?s"
        )
        assert re.match(words, me.notes.last.inner_text()), me.notes.last.inner_text()
        receipt = me.page.locator("#chat .receipt > summary")
        expect(receipt).to_contain_text("256 × 256")
        again = me.ask("What colour is it?")
        assert again and "cached there" in me.notes.last.inner_text()
        assert me.page.locator("#chat .note a").count() == 0, "its cache is not in this page"
        me.page.reload()
        expect(me.notes.last).to_contain_text(f"served by {host}")
        me.page.get_by_role("tab", name="Cache").click()
        expect(me.page.locator("#tab-cache, #cache").first).to_contain_text(f"{host} serves this model")
        me.page.get_by_role("tab", name="Decide").click()
        me.page.locator("#decide .about input[type=file]").set_input_files(drawn("red", "circle"))
        me.page.locator("#decide .shown img").wait_for()
        me.page.locator("#decide .questions input[type=file]").set_input_files(
            {"name": "questions.csv", "mimeType": "text/csv", "buffer": QUESTIONS_CSV}
        )
        me.page.get_by_role("button", name="Decide", exact=True).click()
        expect(me.page.locator("#decide .said strong")).to_have_text("red")
        me.page.get_by_role("tab", name="Benchmark").click()
        expect(me.page.locator("#bench")).to_contain_text(f"{host} is asked over the network")
        me.page.get_by_role("tab", name="Models").click()
        row = me.page.locator("#models li.model[data-name=far]")
        expect(row).to_contain_text(f"served by {host}")
        assert (
            row.get_by_role("button", name="Unload").is_hidden() and row.get_by_role("button", name="Load").is_hidden()
        )
        me.leave()


def test_a_server_that_does_not_answer_is_said_so(person: Any, serve_page: Any, engine_at: Any) -> None:
    with serve_page(engine_at("http://127.0.0.1:9")) as url:
        me = person(url).arrive()
        expect(me.page.locator(".pill.model.failed")).to_be_visible()
        expect(me.page.locator(".pill.model")).to_have_attribute("title", re.compile("connection refused"))
        me.send("Hello")
        expect(me.notes.last).to_contain_text("127.0.0.1:9 cannot be reached: connection refused.")
        me.leave()


def test_a_column_here_and_one_there(
    person: Any, serve_page: Any, demo_server: Any, engine_at: Any, drawn: Any
) -> None:
    engine = engine_at(demo_server.url, ModelSpec(name="near"))
    with serve_page(engine) as url:
        at = Compare(person(url))
        at.add(drawn("blue", "square"))
        at.sides.nth(1).locator("header select").select_option("near")
        at.run(QUESTION)
        for column in range(2):
            expect(at.answer(column)).to_contain_text("blue")
        there, here = at.numbers(0), at.numbers(1)
        assert there["Tokens in"] == here["Tokens in"] and there["Tokens out"] == here["Tokens out"]
        for column in range(2):
            expect(at.sides.nth(column).locator(".receipt > summary")).to_contain_text("256 × 256")
        at.sides.nth(0).get_by_label("Use the cache").evaluate("box => box.click()")
        at.run(QUESTION)
        expect(at.note(0)).to_contain_text("whether it uses its cache is up to that server")
        expect(at.answer(1)).to_contain_text("blue")
        at.me.leave()
