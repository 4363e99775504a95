"""Conversations as people come back to them: after a reload, in a second tab, after the server or network was away."""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx

from tests.pages import PHONE, Person
from tests.waiting import wait_until
from tests.wire import Wire

STORY = "Tell me a long story."
QUESTION = "What is in this image?"


def address(me: Person) -> str:
    """What is after the server's address, once the conversation has one."""
    me.page.wait_for_function("new URLSearchParams(location.search).get('c')?.length > 10")
    return me.page.evaluate("location.pathname + location.search")


def grows(me: Person) -> None:
    before = len(me.answer)
    wait_until(lambda: len(me.answer) > before)


def titles(me: Person) -> list[str]:
    return me.page.locator("#conversations .title").all_inner_texts()


def forgive(me: Person) -> None:
    """What the browser says of a server that was away is no fault of the page."""
    me.complaints = [said for said in me.complaints if "ERR_" not in said and "Failed to load resource" not in said]


def test_a_reload_in_mid_answer_sees_it_go_on(person, slow_url):
    me = person(slow_url).arrive()
    me.send(STORY)
    me.answers.last.wait_for()
    written = me.answer
    address(me)
    me.page.reload()
    me.answers.last.wait_for()
    assert me.answer.startswith(written[:20])
    grows(me)
    me.stop()
    me.finished()
    assert (me.asked.count(), me.answers.count(), me.notes.count()) == (1, 1, 1)
    assert "stopped" in me.notes.last.inner_text()


def test_an_answer_goes_on_while_nobody_looks(browser, person, slow_url, slow_engine):
    first = Person(browser, slow_url).arrive()
    first.send(STORY)
    first.answers.last.wait_for()
    at = address(first)
    written = len(first.answer)
    first.leave()
    time.sleep(1)
    wait_until(lambda: len(slow_engine.snapshot().running) == 1)
    me = person(slow_url, at=at).arrive()
    me.answers.last.wait_for()
    assert len(me.answer) > written
    grows(me)
    me.stop()
    me.finished()


def test_two_tabs_on_one_conversation(person, slow_url):
    one = person(slow_url).arrive()
    one.send(STORY)
    one.answers.last.wait_for()
    two = person(slow_url, at=address(one)).arrive()
    two.answers.last.wait_for()
    grows(two)
    two.stop()
    for page in (one, two):
        page.finished()
    assert one.answer == two.answer
    two.send("And then?")
    one.page.locator('#chat [data-testid="user"]').nth(1).wait_for()
    one.answers.nth(1).wait_for()
    grows(one)
    one.stop()
    for page in (one, two):
        page.finished(2)
        assert (page.asked.count(), page.answers.count()) == (2, 2)


def test_the_last_conversation_comes_back_with_its_pictures_and_draft(person, serve_page, demo_engine, drawn, tmp_path):
    """Another tab without any address, as tomorrow: the same conversation, and its picture is still seen."""
    with serve_page(demo_engine, data_folder=tmp_path) as url:
        me = person(url, at="").arrive()
        me.set("Temperature", "0")
        me.drop(drawn("blue", "square"))
        me.ask(QUESTION)
        with me.page.expect_response(
            lambda answer: "/drafts/" in answer.url and "What color" in answer.request.post_data
        ):
            me.page.fill("#composer textarea", "What color")
        again = person(url, at="").arrive()
        again.page.wait_for_function("document.querySelector('#composer textarea').value === 'What color'")
        assert again.page.get_by_label("Temperature", exact=True).input_value() == "0"
        assert again.page.locator("#chat .message img").evaluate("image => image.complete && image.naturalWidth > 0")
        assert "blue" in again.ask("What color is it?").lower()
        me.leave()
        again.leave()


def test_a_server_that_is_started_anew(person, serve_page, demo_engine, drawn, tmp_path):
    """The page stays, says so, comes back by itself, and goes on where it was; the picture is seen again."""
    with serve_page(demo_engine, data_folder=tmp_path) as url:
        me = person(url).arrive()
        me.drop(drawn("green", "triangle"))
        me.ask(QUESTION)
        me.page.evaluate("window.stayed = true")
        me.page.fill("#composer textarea", "What shape is it?")
    me.page.get_by_text("Connection lost").wait_for()
    with serve_page(demo_engine, port=int(url.rpartition(":")[2]), data_folder=tmp_path):
        me.page.get_by_text("Connection lost").wait_for(state="detached")
        assert me.page.evaluate("window.stayed"), "the page was loaded anew"
        assert me.page.input_value("#composer textarea") == "What shape is it?"
        me.page.press("#composer textarea", "Enter")
        me.finished(2)
        assert "triangle" in me.answer.lower()
        me.page.reload()
        me.notes.nth(1).wait_for()
        assert me.page.locator("#chat .message img").evaluate("image => image.complete && image.naturalWidth > 0")
        forgive(me)
        me.leave()


def test_a_drop_of_the_network_in_mid_answer(person, slow_url, slow_engine):
    """Seconds without a wire, while an answer is written and something is typed: all of it is there afterwards. On a
    phone, which is where it happens."""
    with Wire(slow_url) as wire:
        me = person(wire.url, **PHONE).arrive()
        me.send(STORY)
        me.answers.last.wait_for()
        me.page.evaluate("window.stayed = true")
        written = len(me.answer)
        wire.cut()
        me.page.get_by_text("Connection lost").wait_for()
        me.page.fill("#composer textarea", "and then?")
        me.page.wait_for_timeout(1500)
        assert len(slow_engine.snapshot().running) == 1
        wire.mend()
        me.page.get_by_text("Connection lost").wait_for(state="detached")
        wait_until(lambda: len(me.answer) > written)
        grows(me)
        assert me.page.evaluate("window.stayed"), "the page was loaded anew"
        assert me.page.input_value("#composer textarea") == "and then?"
        me.stop()
        me.finished()
        assert me.page.locator(".toast-wrap .toast-body").count() == 0
        forgive(me)
        me.leave()


def test_what_is_sent_without_a_connection_arrives_once(person, workbench_url):
    with Wire(workbench_url) as wire:
        me = person(wire.url).arrive()
        me.ask("Hello!")
        wire.cut()
        me.page.get_by_text("Connection lost").wait_for()
        me.send("Hello!")
        me.page.wait_for_timeout(1000)
        wire.mend()
        me.finished(2)
        me.page.wait_for_timeout(1000)
        assert (me.asked.count(), me.answers.count(), me.notes.count()) == (2, 2, 2)
        forgive(me)
        me.leave()


def choose(me: Person, title: str, entry: str) -> None:
    """An entry of the menu of this conversation."""
    item = me.page.locator("#conversations .item", has_text=title)
    item.hover()
    item.locator(".more").click()
    me.page.get_by_role("menuitem", name=entry, exact=True).click()


def late(route: Any) -> None:
    """What is asked for when a page hears of a change comes after all else."""
    reply = route.fetch()
    time.sleep(0.5)
    route.fulfill(response=reply)


def test_the_list(person, serve_page, demo_engine, artifacts):
    with serve_page(demo_engine) as url:
        me = person(url).arrive()
        page = me.page
        for words in ("Hello there", "What is a zebra?"):
            me.ask(words)
            page.locator('#chat button[aria-label="New chat"]').click()
            page.locator("#chat .welcome").wait_for()
        assert titles(me) == ["What is a zebra?", "Hello there"]
        assert page.locator("#conversations h3").all_inner_texts() == ["Today"]

        page.locator("#conversations .open", has_text="Hello there").click()
        page.wait_for_function("document.querySelector('#chat [data-testid=user]')?.innerText.includes('Hello there')")
        assert page.title().startswith("Hello there")

        choose(me, "Hello there", "Pin")
        page.get_by_role("heading", name="Pinned").wait_for()
        assert titles(me) == ["Hello there", "What is a zebra?"]
        choose(me, "What is a zebra?", "Rename")
        page.get_by_label("New title").fill("Stripes")
        page.keyboard.press("Enter")
        page.locator("#conversations .title", has_text="Stripes").wait_for()

        page.get_by_label("Search conversations").fill("zebra")
        wait_until(lambda: titles(me) == ["Stripes"])
        assert "zebra" in page.locator("#conversations .excerpt").inner_text()
        page.get_by_label("Search conversations").fill("nothing of the kind")
        page.get_by_text("Nothing found.").wait_for()
        page.get_by_label("Search conversations").fill("")
        wait_until(lambda: len(titles(me)) == 2)
        me.shoot(artifacts / "conversations.png")
        me.leave()


def test_deleting_and_its_way_back(person, serve_page, demo_engine):
    """However late the page hears of its own change; and where the server cannot be reached, nothing changes."""
    with serve_page(demo_engine) as url:
        me = person(url).arrive()
        page = me.page
        me.ask("What is a zebra?")
        page.locator('#chat button[aria-label="New chat"]').click()
        page.locator("#chat .welcome").wait_for()
        me.ask("Hello there")
        undo = page.locator(".list-toast").get_by_role("button", name="Undo", exact=True)
        page.clock.install()
        page.route("**/run/predict*", late)
        choose(me, "Hello there", "Delete")
        undo.hover()
        page.locator("#chat .welcome").wait_for()
        page.unroute("**/run/predict*")
        wait_until(lambda: titles(me) == ["What is a zebra?"])
        page.clock.fast_forward(25_000)  # it stays while the pointer is on it
        undo.click()
        wait_until(lambda: len(titles(me)) == 2)
        me.answers.last.wait_for()

        page.route("**/workbench/conversations/*", lambda route: route.abort())
        choose(me, "Hello there", "Delete")
        page.locator(".list-toast", has_text="The server cannot be reached.").wait_for()
        page.unroute("**/workbench/conversations/*")
        assert len(titles(me)) == 2 and me.answers.count() == 1
        me.ask("Still here?")
        forgive(me)
        me.leave()


COVERED = """toast => {
    const box = toast.getBoundingClientRect(), found = new Set();
    for (let x = box.left + 1; x < box.right; x += 8) for (let y = box.top + 1; y < box.bottom; y += 8) {
        const all = document.elementsFromPoint(x, y);
        const home = all.findIndex(node => node !== toast && node.contains(toast));
        if (!all.slice(0, home).every(node => toast.contains(node))) found.add(all[0].className);
    }
    return [...found];
}"""
"""What lies between the line and the part of the page that it stands in, or over it."""

STAYS = """() => {
    const later = window.setTimeout;
    window.setTimeout = (act, ms, ...more) => later(act, ms === 10_000 ? 1_000_000_000 : ms, ...more);
}"""


def test_the_line_with_undo_covers_nothing_that_can_be_pressed(person, serve_page, demo_engine):
    with serve_page(demo_engine) as url:
        me = person(url).arrive()
        page = me.page
        me.ask("What is a zebra?")
        page.locator('#chat button[aria-label="New chat"]').click()
        page.locator("#chat .welcome").wait_for()
        me.ask("Hello there")
        page.evaluate(STAYS)
        for width in (2560, 1280, 1099, 640, 360):
            page.set_viewport_size({"width": width, "height": 800})
            delete_and_undo(me, width)
        me.leave()


def delete_and_undo(me: Person, width: int) -> None:
    """Another conversation than the one that is shown is deleted, and comes back."""
    page = me.page
    toast, opener = page.locator(".list-toast"), page.get_by_role("button", name="Conversations", exact=True)
    me.at_rest()
    composer = page.locator("#composer").bounding_box()["y"]
    if opener.is_visible():
        opener.click()
    choose(me, "What is a zebra?", "Delete")
    toast.get_by_role("button", name="Undo", exact=True).wait_for()
    me.at_rest()
    assert toast.evaluate(COVERED) == [], f"with the list open, {width}"
    assert page.locator("#composer").bounding_box()["y"] == composer, f"the composer moves, {width}"
    page.get_by_label("Close the list of conversations").click()
    me.at_rest()
    assert toast.evaluate(COVERED) == [], f"with the list closed, {width}"
    assert page.locator("#composer").bounding_box()["y"] == composer, f"the composer moves, {width}"
    page.get_by_role("tab", name="Requests").click()
    page.locator("#requests h3").wait_for()
    toast.wait_for()
    me.at_rest()
    assert toast.evaluate(COVERED) == [], f"in another tab, {width}"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
    toast.get_by_role("button", name="Undo", exact=True).click()
    page.get_by_role("tab", name="Chat").click()
    me.asked.get_by_text("What is a zebra?").wait_for()
    opener.click()
    page.locator("#conversations .item", has_text="Hello there").locator(".open").click()
    me.asked.get_by_text("Hello there").wait_for()
    if page.get_by_label("Close the list of conversations").is_visible():
        page.get_by_label("Close the list of conversations").click()


def test_edits_and_retries_are_branches(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    page = me.page
    me.drop(drawn("blue", "circle"))
    me.ask("What shape is it?")
    me.button("Edit")
    page.fill("#chat textarea", "What color is it?")
    page.press("#chat textarea", "Enter")
    page.get_by_text("2/2", exact=True).wait_for()
    me.finished()
    page.get_by_label("Version before").click()
    page.get_by_text("1/2", exact=True).wait_for()
    assert "What shape is it?" in me.asked.last.inner_text()
    assert "circle" in me.answer.lower()
    page.get_by_label("Version after").click()
    page.get_by_text("2/2", exact=True).wait_for()
    assert "blue" in me.answer.lower()


def download(me: Person, entry: str) -> Path:
    item = me.page.locator("#conversations .item.current")
    item.hover()
    item.locator(".more").click()
    with me.page.expect_download() as download_:
        me.page.get_by_role("menuitem", name=entry).click()
    return Path(download_.value.path())


def test_a_chat_is_taken_away_and_brought_back(person, workbench_url, drawn, tmp_path):
    me = person(workbench_url).arrive()
    me.drop(drawn("red", "circle"))
    me.ask(QUESTION)
    answer = me.answer
    markdown = download(me, "Export as Markdown").read_text()
    places = [markdown.rindex(words) for words in ("## You", QUESTION, "## Assistant", answer)]
    assert places == sorted(places)
    messages = json.loads(download(me, "Export as JSON").read_text())["messages"]
    assert messages[0]["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert messages[1] == {"role": "assistant", "content": answer}
    archive = tmp_path / "chat.zip"
    archive.write_bytes(download(me, "Export with media").read_bytes())
    assert {name.partition("/")[0] for name in zipfile.ZipFile(archive).namelist()} == {
        "conversation.json",
        "conversation.md",
        "messages.json",
        "media",
    }
    before = address(me)
    me.page.set_input_files('#conversations input[type="file"]', archive)
    me.page.wait_for_function("before => location.pathname + location.search !== before", arg=before)
    me.notes.first.wait_for()
    assert me.answer == answer
    assert "red" in me.ask("What color is it?").lower()


def test_all_branches_are_taken_away_and_brought_back(person, workbench_url, tmp_path):
    me = person(workbench_url).arrive()
    me.ask("What is a circle?")
    me.button("Edit")
    me.page.fill("#chat textarea", "What is a square?")
    me.page.press("#chat textarea", "Enter")
    me.page.get_by_text("2/2", exact=True).wait_for()
    me.finished()
    me.page.get_by_label("Version before").click()
    me.page.get_by_text("1/2", exact=True).wait_for()
    answer, cost = me.answer, me.notes.last.inner_text()
    archive = tmp_path / "chat.zip"
    archive.write_bytes(download(me, "Export with media").read_bytes())
    before = address(me)
    me.page.set_input_files('#conversations input[type="file"]', archive)
    me.page.wait_for_function("before => location.pathname + location.search !== before", arg=before)
    me.page.get_by_text("1/2", exact=True).wait_for()
    assert (me.answer, me.notes.last.inner_text()) == (answer, cost)
    me.page.get_by_label("Version after").click()
    me.page.get_by_text("2/2", exact=True).wait_for()
    assert "What is a square?" in me.asked.last.inner_text()


def test_the_phone(person, workbench_url, artifacts):
    me = person(workbench_url, **PHONE).arrive()
    page = me.page
    me.ask("What is a circle?")
    page.locator('#chat button[aria-label="New chat"]').click()
    page.locator("#chat .welcome").wait_for()
    me.ask("Hello!")
    me.shoot(artifacts / "phone-chat.png")
    page.get_by_role("button", name="Conversations", exact=True).click()
    page.locator("#conversations .item.current").wait_for()
    page.wait_for_timeout(300)
    me.shoot(artifacts / "phone-list.png")
    for button in page.locator("#conversations button:visible").all():
        box = button.bounding_box()
        assert min(box["width"], box["height"]) >= 43.5, button.get_attribute("class")
    page.locator("#conversations .item").nth(1).locator(".open").click()
    page.wait_for_function("!document.documentElement.classList.contains('with-list')")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_visitor_sees_only_their_own_tab(person, serve_page, demo_engine):
    with serve_page(demo_engine, host="0.0.0.0", open_access=True) as url:
        one, two = person(url, at="").arrive(), person(url, at="").arrive()
        one.ask("Hello!")
        one.page.get_by_text("Not kept: only in this browser tab").wait_for()
        at = address(one)
        two.page.get_by_text("No conversations yet.").wait_for()
        one.page.reload()
        one.notes.first.wait_for()
        two.page.goto(url + at)
        two.arrive().page.get_by_text("not here any more").wait_for()
        assert two.answers.count() == 0
        one.leave()
        two.leave()


OPEN = """async id => {
    const begun = performance.now();
    workbenchLive.open(id, "switch");
    while (!document.querySelector("#chat")?.innerText.includes("Message 1999"))
        await new Promise(requestAnimationFrame);
    const time = performance.now() - begun;
    workbenchLive.open("", "switch");
    while (!document.querySelector("#chat .welcome:not([hidden])")) await new Promise(requestAnimationFrame);
    return time;
}"""
"""How long a conversation takes to be there, in ms."""

FRAME_MS = """async moves => {
    const box = document.querySelector("#chat .conversation"), frames = [];
    let last = performance.now();
    for (let step = 0; step < 60; step += 1) {
        if (moves) box.scrollTop = box.scrollHeight * (1 - step / 60);
        await new Promise(requestAnimationFrame);
        frames.push(performance.now() - last);
        last = performance.now();
    }
    return frames.sort((a, b) => a - b)[Math.floor(frames.length / 2)];
}"""
"""The median time of a frame, while all of it is scrolled through or not."""


def test_two_thousand_messages_open_at_once_and_scroll(person, workbench_url):
    """Only the end is drawn; what came before is drawn when it is asked for."""
    messages = [
        {"role": ("user", "assistant")[number % 2], "content": f"Message {number}: " + "words and words " * 20}
        for number in range(2000)
    ]
    headers = {"X-Workbench-Visitor": "a" * 32}
    made, short = (
        httpx.post(f"{workbench_url}/workbench/import", json=content, headers=headers).json()["id"]
        for content in (messages, messages[-2:])
    )
    me = person(workbench_url).arrive()
    page = me.page
    page.locator("#conversations .open").first.wait_for()
    times_ms, short_ms = ([page.evaluate(OPEN, id) for _ in range(3)] for id in (made, short))
    assert min(times_ms) < max(1000, 3 * min(short_ms)), (times_ms, short_ms)
    page.goto(f"{workbench_url}/?c={made}")
    page.get_by_text("Message 1999:").wait_for()
    assert page.locator("#chat .turn").count() <= 2 * 40
    page.get_by_role("button", name="Show earlier messages").click()
    page.get_by_text("Message 1925:").wait_for()
    still_ms, median_ms = (page.evaluate(FRAME_MS, moves) for moves in (False, True))
    assert median_ms < max(40, 2 * still_ms), "half of the frames come within two of 50 fps, or of this machine's own"
