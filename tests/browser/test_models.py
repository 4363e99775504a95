"""The Models tab: what is here, loading and unloading, the hub, deleting, the header's switch, what visitors see."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.config import EngineConfig
from engine.hub.shelf import Shelf
from engine.inventory.inventory import Inventory
from tests.browser.test_frame import DESKTOP, PHONE, serious_in_both
from tests.engine.inventory.folders import write_model
from tests.hub import Faults, StandInHub
from tests.pages import Person
from tests.tiny import build

REMOTE = "org/remote"
BYTES = 8 * 1024**2


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("remote") / "remote", shard_bytes=BYTES)


@pytest.fixture
def hub(remote: Path) -> Iterator[StandInHub]:
    with StandInHub({REMOTE: remote}) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A models folder: one that works, one with a missing shard, one that is too large."""
    build("qwen2", "float32", tmp_path / "models")
    broken = write_model(tmp_path / "models" / "broken", shards=3)
    (broken / "model-00002-of-00003.safetensors").unlink()
    return tmp_path / "models"


@pytest.fixture
def engine(hub: StandInHub, folder: Path, tmp_path: Path) -> Iterator[Any]:
    """An engine of the test's own, whose hub is the stand-in and whose hub's cache is a folder of the test."""
    from engine.core import Engine

    made = Engine(EngineConfig(models_folders=(folder,)))
    made.shelf = Shelf(Inventory([folder], tmp_path / "cache"), hub.url)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def url(engine: Any, serve_page: Any) -> Iterator[str]:
    with serve_page(engine) as served:
        yield served


class Models:
    """A person at the Models tab."""

    def __init__(self, me: Person) -> None:
        self.me, self.page = me.arrive(), me.page
        self.page.get_by_role("tab", name="Models").click()
        self.page.locator("#models .list .model").first.wait_for()

    def row(self, name: str, part: str = ".model") -> Any:
        return self.page.locator(f"#models {part}", has=self.page.get_by_role("heading", name=name, exact=True))

    def press(self, what: str, name: str) -> None:
        self.page.locator(f'#models button[aria-label="{what}: {name}"]').click()

    def halt(self, what: str, name: str, held: threading.Event) -> None:
        """Pause or cancel a download whose bytes are held, and let them go once the server has heard of it."""
        with self.page.expect_response(lambda answer: answer.url.endswith(f"/downloads/{what.lower()}")):
            self.press(what, name)
        held.set()

    def stage(self, name: str, words: str) -> None:
        self.row(name).locator(".stage", has_text=words).wait_for()

    def chosen(self, name: str) -> None:
        """The header says that this one answers."""
        self.page.locator(f'#header .model[aria-label="Model: {name}"]').wait_for()

    def choose(self, name: str) -> None:
        self.page.locator("#header .model").click()
        self.page.locator("#model-card .choices button", has_text=name).click()
        self.page.keyboard.press("Escape")
        self.chosen(name)


def test_what_is_here_is_listed_loaded_and_unloaded(url, person):
    here = Models(person(url))
    here.stage("demo", "loaded · default")
    here.row("demo").locator(".fit", has_text="fits, with 16,384 tokens of context").wait_for()
    here.row("broken").locator(".problems", has_text="model-00002-of-00003.safetensors is missing.").wait_for()
    assert here.page.locator('#models button[aria-label="Load: broken"]').is_hidden()
    assert here.row("demo").locator(".remove").is_hidden()
    here.press("Load", "qwen2-float32")
    here.stage("qwen2-float32", "loaded")
    here.page.locator("#models .held li", has_text="qwen2-float32").wait_for()
    here.press("Unload", "qwen2-float32")
    here.page.locator("#models .held li", has_text="qwen2-float32").wait_for(state="detached")


def test_a_conversation_keeps_its_model_and_goes_on_with_another(url, person):
    here = Models(person(url))
    here.press("Load", "qwen2-float32")
    here.stage("qwen2-float32", "loaded")
    here.page.get_by_role("tab", name="Chat").click()
    here.choose("qwen2-float32")
    here.page.locator("body.no-image").wait_for()
    here.me.set("Max tokens", "4")
    here.me.ask("Hello")
    here.page.get_by_role("tab", name="Decide").click()
    here.page.locator("#decide .text").fill("A cat.")
    here.page.locator("#decide .question input, #decide .question textarea").first.fill("Is it a cat?")
    here.page.get_by_role("button", name="Decide", exact=True).click()
    here.page.locator("#decide .summary", has_text="1 question in").wait_for()
    (asked,) = [one for one in httpx.get(f"{url}/v1/requests").json()["data"] if one["source"] == "decide"]
    assert asked["model"] == "qwen2-float32", "the model that the header shows"
    here.page.get_by_role("tab", name="Chat").click()
    here.page.reload()
    here.me.arrive()
    here.chosen("qwen2-float32")
    here.choose("demo")
    here.page.locator("body:not(.no-image)").wait_for()
    here.me.ask("What is this?")
    answered = httpx.get(f"{url}/health").json()["models"]
    assert {one["id"] for one in answered if one["state"] == "ready"} == {"demo", "qwen2-float32"}


def test_a_model_of_the_switch_that_cannot_be_loaded_is_said_so(url, person, folder):
    here = Models(person(url))
    here.press("Load", "qwen2-float32")
    here.stage("qwen2-float32", "loaded")
    here.press("Unload", "qwen2-float32")
    here.page.locator("#models .held li", has_text="qwen2-float32").wait_for(state="detached")
    (folder / "qwen2-float32" / "config.json").unlink()
    here.page.get_by_role("tab", name="Chat").click()
    here.page.locator("#header .model").click()
    # Within a window as low as this, the card scrolls.
    here.page.set_viewport_size({"width": 900, "height": 260})
    here.page.wait_for_function(
        """() => { const card = document.querySelector("#model-card"), box = card.getBoundingClientRect();
                   return box.bottom <= innerHeight && card.scrollHeight > card.clientHeight; }"""
    )
    here.page.locator("#model-card .choices button", has_text="qwen2-float32").click()
    here.page.locator(".list-toast", has_text="config.json").wait_for()
    here.me.complaints.clear()  # the browser logs every refused request


def test_a_model_that_is_gone_is_said_so_and_nobody_answers_for_it(url, person):
    me = person(url).arrive()
    me.page.evaluate(
        """() => {
            const field = document.querySelector("#chat-model :is(textarea, input)");
            field.value = "ghost";
            field.dispatchEvent(new Event("input", {bubbles: true}));
        }"""
    )
    me.page.locator('#header .model.failed[aria-label="Model: ghost"]').wait_for()
    me.send("What is this?")
    me.page.locator("#chat .note-error", has_text="The model 'ghost' is not loaded").wait_for()
    me.page.locator("#header .model").click()
    me.page.locator("#model-card .gone", has_text="ghost, which is not here any more").wait_for()
    me.page.locator("#model-card .choices button", has_text="demo").click()
    me.page.locator('#header .model.ready[aria-label="Model: demo"]').wait_for()
    me.page.keyboard.press("Escape")
    count = me.notes.count()
    me.send("What colour is a red circle?")
    me.finished(count + 1)
    assert me.page.locator("#chat .note-error").count() == 1


def test_a_download_is_watched_paused_resumed_and_then_deleted(url, person, hub, tmp_path):
    held = threading.Event()
    hub.faults = Faults(held={"model.safetensors": held})
    here = Models(person(url))
    page = here.page
    page.get_by_label("Words to search the hub for").fill("remote")
    page.get_by_role("button", name="Search", exact=True).click()
    here.row(REMOTE, ".hit").locator(".fit", has_text="fits").wait_for()
    here.press("Download", REMOTE)
    here.row(REMOTE, ".download").locator(".words", has_text=re.compile(r"downloading · .* of 8 MB")).wait_for()
    here.halt("Pause", REMOTE, held)
    here.row(REMOTE, ".download").locator(".words", has_text="paused").wait_for()
    here.row(REMOTE).locator(".problems", has_text="not downloaded to the end").wait_for()
    here.press("Resume", REMOTE)
    here.row(REMOTE, ".download").locator(".words", has_text="done").wait_for()
    here.row(REMOTE).locator(".fit.yes").wait_for()
    here.row(REMOTE).locator(".remove").click()
    page.get_by_role("button", name="Delete from the disk?").wait_for()
    assert (tmp_path / "cache" / "models--org--remote").is_dir(), "it was not asked"
    here.row(REMOTE).locator(".remove").click()
    here.row(REMOTE).wait_for(state="detached")
    page.locator("#models .note", has_text="was deleted").wait_for()
    assert not (tmp_path / "cache" / "models--org--remote").exists()


def test_what_goes_wrong_is_said_beside_what_was_pressed(url, person, hub):
    here = Models(person(url))
    page = here.page
    hub.repositories.clear()
    page.get_by_label("Words to search the hub for").fill("remote")
    page.get_by_role("button", name="Search", exact=True).click()
    page.locator("#models .hub .said", has_text="no such model").wait_for()
    page.get_by_label("Path of a folder on this machine").fill("/nowhere/at/all")
    page.get_by_role("button", name="Load it").click()
    page.locator("#models .folder .said.problem", has_text="cannot be loaded").wait_for()
    here.me.complaints.clear()  # the browser logs every refused request


def test_a_folder_by_its_path(url, person, tmp_path):
    build("llama", "float32", tmp_path / "elsewhere")
    here = Models(person(url))
    here.page.get_by_label("Path of a folder on this machine").fill(str(tmp_path / "elsewhere" / "llama-float32"))
    here.page.get_by_role("button", name="Load it").click()
    here.page.locator("#models .folder .said", has_text="llama-float32 is loaded").wait_for()
    here.stage("llama-float32", "loaded")


def test_a_visitor_sees_what_is_loaded_and_can_do_nothing(serve_page, engine, folder, person):
    with serve_page(engine, open_access=True) as url:
        here = Models(person(url))
        here.stage("demo", "loaded")
        assert here.page.locator("#models .model").count() == 1
        assert str(folder) not in here.page.content()
        assert here.page.locator("#models button:visible, #models input:visible").count() == 0
        headers = {"X-Workbench-Visitor": "a" * 32}
        asked = {"load": {"source": "demo"}, "try": {"folder": str(folder)}, "delete": {"source": "demo"}, "look": {}}
        asked |= {"pull": {"repo": REMOTE}, "search": {"words": "x"}, "unload": {"source": "demo"}}
        for action, body in asked.items():
            reply = httpx.post(f"{url}/workbench/models/{action}", json=body, headers=headers)
            assert reply.status_code == 403, action
        here.me.leave()


@pytest.mark.parametrize("context", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_serious_finding_of_axe(url, person, hub, context):
    hub.faults = Faults(held={"model.safetensors": threading.Event()})
    here = Models(person(url, **context, color_scheme="light"))
    here.page.get_by_label("Words to search the hub for").fill("remote")
    here.page.get_by_role("button", name="Search", exact=True).click()
    here.press("Download", REMOTE)
    here.row(REMOTE, ".download").locator(".words", has_text="downloading").wait_for()
    assert serious_in_both(here.me) == []
    here.halt("Cancel", REMOTE, hub.faults.held["model.safetensors"])
    here.row(REMOTE, ".download").locator(".words", has_text="cancelled").wait_for()
