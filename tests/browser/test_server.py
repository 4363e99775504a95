"""The dialog "This server": the log, followed and filtered, and a restart. Visitors have none of it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from engine.config import ServerConfig
from engine.log_ring import LogRing
from engine.own_process import OwnProcess, Restart, StartCommand
from tests import pages
from tests.browser.test_frame import DESKTOP, PHONE, serious_in_both
from tests.browser.test_language import CUT, SHOWN, english
from tests.waiting import wait_until
from tests.workbench.conftest import Command

expect.set_options(timeout=60_000)


class Dialog:
    """An operator in front of the dialog."""

    def __init__(self, me: pages.Person, way: str = "Log and restart") -> None:
        self.me, self.page = me.arrive(), me.page
        self.page.locator("#header .model").click()
        self.page.locator("#model-card").get_by_role("button", name=way).click()
        self.node = self.page.locator(".server-dialog")
        expect(self.node).to_be_visible()
        self.box = self.node.get_by_role("log")

    @property
    def lines(self) -> list[str]:
        return list(self.box.locator(".text").all_inner_texts())

    def is_at_the_end(self) -> bool:
        return bool(self.box.evaluate("box => box.scrollHeight - box.scrollTop - box.clientHeight < 24"))


@pytest.fixture
def logger() -> logging.Logger:
    return logging.Logger("engine.test")


@pytest.fixture
def url(
    demo_engine: Any, serve: Any, logger: logging.Logger, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A server with a log of the test's own, which could be restarted."""
    from workbench.app import create_app

    pages.uploads(tmp_path_factory.getbasetemp())
    ring = LogRing("info")
    logger.addHandler(ring)
    command = StartCommand(("/bin/sh", "-c", "exit 3"), dict(os.environ))
    with serve(create_app(demo_engine, ServerConfig(), OwnProcess(ring, Restart(command)))) as served:
        yield served


def test_the_log_is_text_and_is_filtered(url, person, logger):
    logger.info("hello")
    logger.warning("<img src=x onerror=alert(1)> **bold**\nsecond line")
    logger.error("a key: sk-abcdefghijklmnopqrstuvwx")
    here = Dialog(person(url))
    expect(here.box.locator("li")).to_have_count(3)
    assert here.lines == ["hello", "<img src=x onerror=alert(1)> **bold**\nsecond line", "a key: [secret]"]
    assert here.box.locator("img, strong").count() == 0, "it became markup"
    here.node.get_by_label("Which lines").select_option("Warnings and errors")
    expect(here.box.locator("li")).to_have_count(2)
    here.node.get_by_label("Only lines with these words").fill("SECOND")
    expect(here.box.locator("li")).to_have_count(1)
    expect(here.node.locator(".count")).to_have_text("1 of 3 lines")
    logger.error("the second one")
    expect(here.box.locator("li")).to_have_count(2)
    here.node.get_by_label("Only lines with these words").fill("nowhere")
    expect(here.box).to_contain_text("No line has these words.")


def test_it_is_copied_and_downloaded_as_shown(url, person, logger):
    logger.warning("one\nmore of it")
    logger.error("two")
    here = Dialog(person(url, permissions=["clipboard-read", "clipboard-write"]))
    here.node.get_by_label("Only lines with these words").fill("one")
    with here.page.expect_download() as arriving:
        here.node.get_by_role("button", name="Download").click()
    text = Path(arriving.value.path()).read_text(encoding="utf-8")
    assert re.fullmatch(r"\d{4}-\S+Z WARNING engine\.test: one\n    more of it\n", text)
    assert re.fullmatch(r"mlx-workbench-[\dT-]+\.log\.txt", arriving.value.suggested_filename)
    here.node.get_by_role("button", name="Copy").click()
    here.node.get_by_role("button", name="Copied").wait_for()
    assert here.page.evaluate("navigator.clipboard.readText()") == text


def test_it_follows_the_end_until_somebody_reads(url, person, logger):
    for number in range(200):
        logger.info("line %d", number)
    here = Dialog(person(url))
    expect(here.box.locator("li")).to_have_count(200)
    assert here.is_at_the_end()
    logger.info("one more")
    expect(here.box.locator("li")).to_have_count(201)
    assert here.is_at_the_end(), "it does not follow"
    here.box.focus()
    here.page.keyboard.press("Home")
    here.node.get_by_role("button", name="To the end").wait_for()
    wait_until(lambda: here.box.evaluate("box => box.scrollTop") == 0, "the keyboard does not scroll it")
    logger.info("and more")
    expect(here.box.locator("li")).to_have_count(202)
    assert here.box.evaluate("box => box.scrollTop") == 0, "who reads was taken away"
    here.node.get_by_role("button", name="To the end").click()
    wait_until(here.is_at_the_end, "it does not go to the end")
    logger.info("the last")
    expect(here.box.locator("li")).to_have_count(203)
    wait_until(here.is_at_the_end, "it does not follow again")
    here.node.get_by_role("button", name="Restart…").click()  # which takes room from the log
    wait_until(here.is_at_the_end, "the end was left when the log became smaller")


def test_by_the_keyboard(url, person):
    """Opened, closed and opened again; the focus comes back to where it was."""
    me = person(url).arrive()
    me.page.get_by_role("tab", name="Models").click()
    opener = me.page.locator("#models").get_by_role("button", name="Log and restart")
    opener.focus()
    me.page.keyboard.press("Enter")
    dialog = me.page.locator(".server-dialog")
    expect(dialog).to_be_visible()
    me.page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
    me.page.keyboard.press("Enter")
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Restart…").focus()
    me.page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    me.page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Restart…")).to_be_focused()


def test_a_start_that_would_fail_is_said(url, person):
    here = Dialog(person(url))
    here.node.get_by_role("button", name="Restart…").click()
    expect(here.node.locator(".question")).to_contain_text("No request runs now.")
    here.node.get_by_role("button", name="Restart now").click()
    expect(here.node.locator(".said")).to_contain_text("would not start again with its options")
    expect(here.node.get_by_role("button", name="Restart…")).to_be_visible()
    here.me.complaints.clear()  # the browser logs every refused request


def test_inside_another_program_it_says_why(workbench_url, person):
    here = Dialog(person(workbench_url))
    expect(here.node.locator(".restart-part")).to_contain_text("inside another program")
    expect(here.node.get_by_role("button", name="Restart…")).to_be_hidden()
    expect(here.box).to_contain_text("part of another program")


def test_a_visitor_has_none_of_it(serve_page, demo_engine, person):
    with serve_page(demo_engine, open_access=True) as url:
        me = person(url).arrive()
        me.page.wait_for_function("window.workbenchModels.latest().choices.length > 0")  # the first events are here
        me.page.locator("#header .model").click()
        expect(me.page.locator("#model-card")).to_be_visible()
        expect(me.page.get_by_role("button", name="Log and restart")).to_have_count(0)
        me.leave()


@pytest.mark.parametrize("context", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_serious_finding_of_axe(url, person, logger, artifacts, context, request):
    for level in (logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(level, "request chatcmpl-%s failed: %s", "0" * 24, "a long line without an end " * 12)
    here = Dialog(person(url, **context, color_scheme="light"))
    expect(here.box.locator("li")).to_have_count(3)
    here.node.get_by_role("button", name="Restart…").click()
    assert serious_in_both(here.me) == []
    box = here.node.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= here.page.viewport_size["width"]
    here.me.shoot(artifacts / f"server-{request.node.callspec.id}.png")


def test_in_german(url, person, logger):
    logger.warning("x")
    here = Dialog(person(url, locale="de-DE", viewport=PHONE["viewport"]), "Protokoll und Neustart")
    here.node.get_by_role("button", name="Neu starten…").click()
    left = english()
    wait_until(lambda: not left & set(here.page.evaluate(SHOWN)), "English is left")
    assert here.page.evaluate(CUT) == []


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Command]:
    """vllm-mlx-chat as a process of its own."""
    made = Command(["-m", "workbench.app", "--no-browser", "--port", "0", "--shutdown-timeout", "60"], {}, tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.kill()


def test_a_server_is_restarted_and_the_page_comes_back(command, person):
    """The address, the page and what was typed stay; the pages' other buttons work again."""
    url = command.value("MLX Workbench")
    command.value("Model")
    me = person(url)
    me.page.fill("#composer textarea", "half a question")
    here = Dialog(me)
    here.page.evaluate("window.stayed = true")
    before = here.node.locator(".facts").inner_text()
    here.node.get_by_role("button", name="Restart…").click()
    here.node.get_by_role("button", name="Restart now").click()
    expect(here.node.locator(".said")).to_have_text(re.compile("^The server was restarted at "), timeout=120_000)
    assert here.node.locator(".facts").inner_text() != before and command.process.poll() is None
    here.page.keyboard.press("Escape")
    assert here.page.evaluate("window.stayed"), "the page was loaded anew"
    assert here.page.input_value("#composer textarea") == "half a question"
    here.page.locator("#header .model.ready").wait_for()
    assert me.ask("Hello!")
    assert command.stop() == 0 and any("a restart was asked for" in line for line in command.lines)
    me.leave()  # and asks for nothing more
    me.complaints[:] = [one for one in me.complaints if "Failed to load resource" not in one]
    assert not any("Traceback" in line for line in command.lines), "\n".join(command.lines)
