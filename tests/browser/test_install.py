"""The page as an app: it can be installed, says when the server is gone, and tells of an answer that is done."""

from __future__ import annotations

from typing import Any

from tests.browser.test_conversations import STORY, address, forgive, wait_until
from tests.pages import Person

SWITCH = "Notify me when a long answer is done"
IS_INSTALLED = "navigator.serviceWorker.ready.then(() => true)"
ASKED = """
    window.asked = 0;
    const ask = Notification.requestPermission.bind(Notification);
    Notification.requestPermission = (...all) => { window.asked += 1; return ask(...all); };
    window.isAway = false;
    Object.defineProperty(document, "visibilityState", { get: () => (window.isAway ? "hidden" : "visible") });
"""


def test_the_page_can_be_installed(person, workbench_url):
    me = person(workbench_url).arrive()
    me.page.wait_for_function(IS_INSTALLED)
    wire = me.page.context.new_cdp_session(me.page)
    found = wire.send("Page.getAppManifest")
    assert found["url"] == f"{workbench_url}/manifest.json" and not found["errors"]
    errors = {one["errorId"] for one in wire.send("Page.getInstallabilityErrors")["installabilityErrors"]}
    assert errors <= {"in-incognito"}  # as all contexts of these tests are
    assert me.page.evaluate("navigator.serviceWorker.ready.then(one => one.scope)") == f"{workbench_url}/"


def test_a_server_that_is_gone_is_said_and_nothing_was_kept(person, serve_page, demo_engine):
    with serve_page(demo_engine) as url:
        me = person(url).arrive()
        me.page.wait_for_function(IS_INSTALLED)
        me.ask("Hello!")
        assert me.page.evaluate("caches.keys()") == []
        reply = "fetch('/v1/models').then(one => one.status, error => error.name)"
        assert me.page.evaluate(reply) == 200
        before = me.page.title()
    assert me.page.evaluate(reply) == "TypeError", "the worker answered in the server's place"
    me.page.goto(url)
    me.page.get_by_role("heading", name="The server cannot be reached").wait_for()
    assert me.page.locator("script").count() == 0
    with serve_page(demo_engine, port=int(url.rpartition(":")[2])):
        me.arrive()  # it looks again by itself
        assert me.page.title() != "MLX Workbench cannot be reached" != before
        forgive(me)
        me.leave()


def away(me: Person, is_away: bool) -> None:
    me.page.evaluate(
        "away => { window.isAway = away; document.dispatchEvent(new Event('visibilitychange')); }", is_away
    )


def told(me: Person) -> list[Any]:
    return me.page.evaluate(
        "navigator.serviceWorker.ready.then(one => one.getNotifications())"
        ".then(all => all.map(one => [one.title, one.body, one.data]))"
    )


def stop_elsewhere(person: Any, url: str, at: str) -> None:
    other = person(url, at=at).arrive()
    other.stop()
    other.finished()


def test_a_long_answer_that_is_done_while_nobody_looks_is_told(person, whole_browser, slow_url):
    me = Person(whole_browser, slow_url)
    me.page.context.grant_permissions(["notifications"], origin=slow_url)
    me.page.add_init_script(ASKED)
    me.page.reload()
    me.arrive()
    me.page.wait_for_function(IS_INSTALLED)
    me.set("Seed", "1")
    assert me.page.evaluate("window.asked") == 0, "the page asked by itself"
    me.page.get_by_label(SWITCH).click()
    me.page.wait_for_function("window.asked === 1")
    wait_until(me.page.get_by_label(SWITCH).is_checked)  # on once the browser has said yes
    me.send(STORY)
    me.answers.last.wait_for()
    at = address(me)
    away(me, True)
    me.page.wait_for_timeout(5500)  # what the page calls long
    assert told(me) == []
    stop_elsewhere(person, slow_url, at)
    wait_until(lambda: told(me) == [["Your answer is done", STORY, slow_url + at]])
    wait_until(lambda: me.page.title().startswith("● "))
    away(me, False)
    wait_until(lambda: me.page.title() == f"{STORY} · MLX Workbench")
    me.close()


def test_nothing_is_told_to_who_looks_or_did_not_switch_it_on(person, whole_browser, slow_url):
    me = Person(whole_browser, slow_url)
    me.page.context.grant_permissions(["notifications"], origin=slow_url)
    me.page.add_init_script(ASKED)
    me.page.reload()
    me.arrive()
    me.page.wait_for_function(IS_INSTALLED)
    me.send(STORY)
    me.answers.last.wait_for()
    at = address(me)
    me.page.wait_for_timeout(5500)
    stop_elsewhere(person, slow_url, at)
    me.finished()
    assert not me.page.title().startswith("●")
    me.send("And then?")
    me.answers.nth(1).wait_for()
    away(me, True)
    me.page.wait_for_timeout(5500)
    stop_elsewhere(person, slow_url, at)
    wait_until(lambda: me.page.title().startswith("● "))
    assert told(me) == [] and me.page.evaluate("window.asked") == 0
    me.close()


def test_a_browser_that_blocks_notifications_is_said(person, workbench_url):
    me = person(workbench_url).arrive()
    me.page.evaluate("Notification.requestPermission = async () => 'denied'")
    me.set("Seed", "1")
    me.page.get_by_label(SWITCH).click()
    me.page.get_by_text("The browser blocks notifications of this page").wait_for()
    assert not me.page.get_by_label(SWITCH).is_checked()
