"""How likely each token of an answer was: kept where the switch is on, shown on request, one answer at a time."""

from __future__ import annotations

import re

from tests.browser.test_conversations import forgive, wait_until
from tests.pages import Person

SWITCH = "Keep how likely each token of an answer was"


def tokens(me: Person) -> list[str]:
    return me.page.locator("#chat .token").all_text_contents()


def test_an_answer_is_shown_as_its_tokens(person, workbench_url, artifacts):
    me = person(workbench_url).arrive()
    page = me.page
    me.set("Temperature", "0")
    answer = me.ask("What is a circle?")
    assert page.locator("#chat .likely:visible").count() == 0
    page.get_by_label(SWITCH).check()
    me.button("Retry")
    page.get_by_text("2/2", exact=True).wait_for()
    me.finished()
    assert me.answer == answer
    page.locator("#chat .likely").click()
    page.locator("#chat .token").first.wait_for()
    assert "".join(tokens(me)) == answer
    assert page.locator("#chat .prose-like:visible").count() == 0

    page.locator("#chat .token").first.hover()
    tip = page.locator(".token-tip")
    tip.wait_for()
    shares = [float(one) for one in re.findall(r"([\d.]+) %", tip.inner_text())]
    assert tip.locator("li").count() == 5 and tip.locator(".taken").count() == 1
    assert shares[0] == max(shares) and sum(shares[1:]) <= 101
    me.shoot(artifacts / "probabilities.png")
    page.mouse.move(5, 400)
    tip.wait_for(state="hidden")

    page.locator("#chat .token").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement === document.querySelectorAll('#chat .token')[1]")
    second = tokens(me)[1].replace(" ", "␣", 1)
    wait_until(lambda: tip.is_visible() and tip.locator("b").inner_text().startswith(f"{second} · "))
    assert page.locator("#chat .token[tabindex='0']").count() == 1
    page.keyboard.press("Escape")
    tip.wait_for(state="hidden")

    page.reload()
    page.locator("#chat .likely:visible").click()
    page.locator("#chat .token").first.wait_for()
    assert "".join(tokens(me)) == answer
    page.locator("#chat .likely").click()
    wait_until(lambda: page.locator("#chat .token").count() == 0)
    assert me.answer == answer


def test_what_was_asked_of_another_answer_is_not_shown_and_a_server_that_is_away_is_said(person, workbench_url):
    me = person(workbench_url).arrive()
    page = me.page
    me.set("Temperature", "0")
    page.get_by_label(SWITCH).check()
    answer = me.ask("What is a circle?")
    likely = page.locator("#chat .likely:visible")
    page.route("**/tokens", lambda route: route.abort())
    likely.click()
    page.locator(".list-toast", has_text="The server cannot be reached").wait_for()
    assert me.answer == answer and likely.get_attribute("aria-pressed") == "false"
    page.unroute("**/tokens")

    held = []

    def hold(route):
        held.append(route)

    page.route("**/tokens", hold)
    with page.expect_request("**/tokens"):
        likely.click()
    me.set("Max tokens", "2")
    me.button("Retry")
    page.get_by_text("2/2", exact=True).wait_for()
    me.finished()
    with page.expect_response("**/tokens") as reply:
        held[0].continue_()
    reply.value.finished()
    page.evaluate("new Promise(done => setTimeout(done))")
    assert tokens(me) == [] and page.locator("#chat .prose-like:visible").count() == 1
    assert me.answer != answer and likely.get_attribute("aria-pressed") == "false"
    forgive(me)


def test_of_an_answer_in_parts_those_are_told_that_are_known(person, workbench_url):
    me = person(workbench_url).arrive()
    page = me.page
    me.set("Temperature", "0")
    me.set("Max tokens", "3")
    begun = me.ask("What is a circle?")
    me.set("Max tokens", "")
    page.get_by_label(SWITCH).check()
    page.locator("#chat .go-on").click()
    page.get_by_text("in 2 parts").wait_for()
    page.locator("#chat .likely").click()
    page.locator("#chat .token").first.wait_for()
    assert page.locator("#chat .unknown").all_text_contents() == [begun]
    assert page.locator("#chat .token-text").text_content().startswith(begun) and len(tokens(me)) > 0
