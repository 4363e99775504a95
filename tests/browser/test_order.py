"""The composer's files are put into another order, and the model gets them in it; clips play beside what was seen."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.test_conversations import PHONE, wait_until
from tests.pages import Person

QUESTION = "Compare these images."
FILES = ("red-circle.png", "blue-square.png", "green-triangle.png")


def composer_names(me: Person) -> list[str]:
    return me.page.locator("#composer .file-words b").all_inner_texts()


def with_three(me: Person, drawn: Any) -> Person:
    me.arrive().drop(drawn("red", "circle"), drawn("blue", "square"), drawn("green", "triangle"))
    wait_until(lambda: composer_names(me) == list(FILES))
    return me


def centre(me: Person, place: int) -> tuple[float, float]:
    box = me.page.locator("#composer .thumbnail-wrapper").nth(place).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def sent_names(me: Person) -> list[str]:
    return me.page.locator("#chat .media figcaption").all_inner_texts()


def test_a_file_is_dragged_with_the_mouse_and_the_model_gets_that_order(person, workbench_url, drawn, demo_engine):
    me = with_three(person(workbench_url), drawn)
    mouse = me.page.mouse
    mouse.move(*centre(me, 2))
    mouse.down()
    mouse.move(*centre(me, 1), steps=3)
    mouse.move(*centre(me, 0), steps=5)
    me.page.locator("#composer .goes-before").wait_for()
    mouse.up()
    expected = ["green-triangle.png", "red-circle.png", "blue-square.png"]
    wait_until(lambda: composer_names(me) == expected)
    assert me.page.locator("dialog[open]").count() == 0, "the end of a drag is no click on the picture"
    me.ask(QUESTION)
    assert sent_names(me) == expected
    done = demo_engine.snapshot().recent[0].done
    assert [receipt.param for receipt in done.media] == expected


def test_escape_ends_a_drag_and_nothing_moves(person, workbench_url, drawn):
    me = with_three(person(workbench_url), drawn)
    me.page.mouse.move(*centre(me, 0))
    me.page.mouse.down()
    me.page.mouse.move(*centre(me, 1), steps=5)
    me.page.locator("#composer .dragged").wait_for()
    me.page.keyboard.press("Escape")
    me.page.locator("#composer .dragged").wait_for(state="detached")
    me.page.mouse.up()
    assert composer_names(me) == list(FILES)


def test_a_file_is_moved_with_the_keyboard(person, workbench_url, drawn):
    me = with_three(person(workbench_url), drawn)
    me.page.get_by_label("Move red-circle.png right").focus()
    me.page.keyboard.press("Enter")
    wait_until(lambda: composer_names(me) == ["blue-square.png", "red-circle.png", "green-triangle.png"])
    focused = "document.activeElement.getAttribute('aria-label')"
    me.page.wait_for_function(f"{focused} === 'Move red-circle.png right'")
    me.page.keyboard.press("Enter")
    wait_until(lambda: composer_names(me) == ["blue-square.png", "green-triangle.png", "red-circle.png"])
    me.page.wait_for_function(f"{focused} === 'Move red-circle.png left'")  # there is nothing to its right any more
    assert me.page.locator(".unseen[role=status]").inner_text() == "red-circle.png is now 3 of 3."
    me.page.locator("#composer .delete-button").nth(0).click()
    me.page.locator("#composer .delete-button").nth(0).click()
    wait_until(lambda: composer_names(me) == ["red-circle.png"])
    assert me.page.locator("#composer .moves:visible").count() == 0


def touch(me: Person, kind: str, *points: tuple[float, float]) -> None:
    if not hasattr(me, "wire"):
        me.wire = me.page.context.new_cdp_session(me.page)
    me.wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})


@pytest.mark.parametrize("is_held", [True, False])
def test_a_finger_drags_when_it_is_held_and_scrolls_when_not(person, workbench_url, drawn, is_held):
    me = with_three(person(workbench_url, **PHONE), drawn)
    me.page.locator("#composer .thumbnails").evaluate("node => node.scrollTo(0, 0)")
    first, second = centre(me, 0), centre(me, 1)
    touch(me, "touchStart", first)
    if is_held:
        me.page.locator("#composer .dragged").wait_for()
    for share in (0.3, 0.6, 1.0):
        touch(me, "touchMove", (first[0], first[1] + share * (second[1] - first[1])))
    touch(me, "touchEnd")
    if is_held:
        wait_until(lambda: composer_names(me) == ["blue-square.png", "red-circle.png", "green-triangle.png"])
    else:
        me.page.wait_for_timeout(500)
        assert composer_names(me) == list(FILES)


TIMES = "[...document.querySelectorAll('.marks button')].map(one => Number(one.dataset.time))"


def test_a_clip_shows_which_frames_the_model_took(person, workbench_url, clip, demo_engine, artifacts):
    me = person(workbench_url).arrive()
    me.drop(clip)
    me.ask("What happens in this video?")
    me.page.locator("#chat .marks button").first.wait_for()
    (receipt,) = demo_engine.snapshot().recent[0].done.media
    taken = [time_s for _, time_s in receipt.frames]
    assert me.page.evaluate(TIMES) == taken
    me.page.wait_for_function("document.querySelector('#chat .film video').duration > 0")
    me.page.locator("#chat .film video").dispatch_event("loadedmetadata")  # also when it comes after the answer
    assert me.page.locator("#chat .marks button").first.is_visible()
    duration_s = me.page.locator("#chat .film video").evaluate("video => video.duration")
    assert duration_s == pytest.approx(receipt.duration_s, abs=0.1)
    line = me.page.locator("#chat .frame-line").bounding_box()
    for number, time_s in enumerate(taken):
        box = me.page.locator("#chat .marks button").nth(number).bounding_box()
        at = (box["x"] + box["width"] / 2 - line["x"]) / line["width"]
        assert at == pytest.approx(time_s / receipt.duration_s, abs=0.01)
    me.shoot(artifacts / "frames.png")

    def shown_s() -> float:
        return me.page.locator("#chat .film video").evaluate("video => video.seeking ? -1 : video.currentTime")

    last = len(taken) - 1
    me.page.locator("#chat .marks button").nth(last).click()
    wait_until(lambda: shown_s() == pytest.approx(taken[last], abs=0.01))
    wait_until(lambda: me.page.locator("#chat .marks [aria-current]").evaluate("one => one.dataset.key") == str(last))
    me.page.locator("#chat .marks button").nth(last).focus()
    me.page.keyboard.press("ArrowLeft")
    wait_until(lambda: shown_s() == pytest.approx(taken[last - 1], abs=0.01))
    me.page.keyboard.press("Home")
    wait_until(lambda: shown_s() == pytest.approx(taken[0], abs=0.01))
    assert me.page.locator("#chat .marks [tabindex='0']").count() == 1, "one place in the Tab order, not one a frame"
    me.page.reload()
    me.page.locator("#chat .marks button").first.wait_for()
    assert me.page.evaluate(TIMES) == taken
