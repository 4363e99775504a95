"""Boxes and points of an answer, drawn over the picture where the person sees them: the API's own for the request."""

from __future__ import annotations

import json
import os

import httpx
import pytest
from PIL import Image

from tests.pictures import data_url

QUESTION = "Point at the red circle."
READ = """node => {
  const frame = node.parentElement.getBoundingClientRect(), at = node.getBoundingClientRect();
  const image = node.parentElement.querySelector("img").getBoundingClientRect();
  return {fits: Math.abs(frame.width - image.width) < 3 && Math.abs(frame.height - image.height) < 3,
          x: (at.left + at.width / 2 - image.left) / image.width,
          y: (at.top + at.height / 2 - image.top) / image.height,
          title: node.title};
}"""


def test_a_point_is_drawn_where_the_api_says(person, workbench_url, drawn):
    picture = drawn("red", "circle")
    me = person(workbench_url).arrive()
    me.drop(picture)
    me.ask(QUESTION)
    regions = me.page.locator("#chat .receipt .region")
    regions.first.wait_for()
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(picture.read_bytes())}},
        {"type": "text", "text": QUESTION},
    ]
    body = {"model": "default", "messages": [{"role": "user", "content": parts}]}
    reply = httpx.post(f"{workbench_url}/v1/chat/completions", json=body, timeout=60).json()
    (told,) = reply["usage"]["media"]
    assert told["boxes"] and regions.count() == len(told["boxes"])
    width, height = Image.open(picture).size
    for place, box in enumerate(told["boxes"]):
        shown = regions.nth(place).evaluate(READ)
        middle = box["pixels"] if box["kind"] == "point" else [sum(box["pixels"][i::2]) / 2 for i in (0, 1)]
        assert shown["fits"], "the frame is larger than its picture, so that shares of it are not the picture's"
        assert shown["x"] == pytest.approx(middle[0] / width, abs=0.02)
        assert shown["y"] == pytest.approx(middle[1] / height, abs=0.02)
        assert shown["title"].startswith(f"{box['label']} [{', '.join(f'{px:g}' for px in box['pixels'])}] ")
    me.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    me.page.locator("#chat .receipt .regions button").click()
    me.page.locator("#chat .receipt .regions button.copied").wait_for()
    copied = json.loads(me.page.evaluate("navigator.clipboard.readText()"))
    assert copied == [{name: box[name] for name in ("kind", "label", "pixels")} for box in told["boxes"]]
    if path := os.environ.get("WORKBENCH_BOXES_SCREENSHOT"):
        me.page.screenshot(path=path)


def test_an_answer_without_places_stays_closed(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.drop(drawn("green", "triangle"))
    me.ask("What colour is it?")
    receipt = me.page.locator("#chat .receipt").first
    receipt.wait_for()
    assert receipt.get_attribute("open") is None and me.page.locator("#chat .region, #chat .regions").count() == 0


INSIDE = """node => {
  const image = node.closest(".has-regions").querySelector("img").getBoundingClientRect();
  const at = node.getBoundingClientRect(), slack = 3;
  return at.top >= image.top - slack && at.bottom <= image.bottom + slack
    && at.left >= image.left - slack && at.right <= image.right + slack;
}"""


def test_a_label_stays_in_its_picture(person, workbench_url, drawn, model_says):
    """In the middle, and at each edge that it would cross."""
    sides = {
        "middle": ([100, 400, 300, 600], ""),
        "top right": ([600, 20, 950, 400], "below from-right"),
        "tall": ([20, 10, 400, 990], "within"),
        "right": ([700, 600, 980, 900], "from-right"),
    }
    model_says(json.dumps([{"bbox_2d": box, "label": name} for name, (box, _) in sides.items()]))
    me = person(workbench_url).arrive()
    me.drop(drawn("red", "circle"))
    me.ask("Where is it?")
    for name, (_, side) in sides.items():
        label = me.page.locator("#chat .receipt .region span").get_by_text(name, exact=True)
        label.wait_for()
        assert label.get_attribute("class") == (side or None), name
        assert label.evaluate(INSIDE), name
