"""Boxes and points of an answer, drawn over the picture where the person sees them: the API's own for the request."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.pages import LOOKS
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


LABELS = """() => {
  const sides = (node) => {
    const {left, top, right, bottom} = node.getBoundingClientRect();
    return [left, top, right, bottom];
  };
  const picture = sides(document.querySelector("#chat .receipt .has-regions img"));
  const isOut = (at) => at.some((side, axis) => (axis < 2 ? side < picture[axis] - 1 : side > picture[axis] + 1));
  return [...document.querySelectorAll("#chat .receipt .region span")]
    .filter((node) => getComputedStyle(node).visibility === "visible")
    .map((node) => ({name: node.textContent, sides: sides(node), isOut: isOut(sides(node))}));
}"""


def crossing(labels: list[Any]) -> list[tuple[str, str]]:
    """Pairs of labels that lie on each other by more than a rounding."""
    return [
        (one["name"], other["name"])
        for place, one in enumerate(labels)
        for other in labels[place + 1 :]
        if all(
            one["sides"][axis] < other["sides"][axis + 2] - 0.5 and other["sides"][axis] < one["sides"][axis + 2] - 0.5
            for axis in (0, 1)
        )
    ]


@pytest.mark.parametrize("look", LOOKS)
def test_labels_neither_cover_each_other_nor_leave_the_picture(person, workbench_url, drawn, model_says, look):
    """Boxes at each edge, two around the same place, two that touch, one over the whole picture, and points."""
    boxes = {
        "middle": [100, 400, 300, 600],
        "the same": [100, 400, 300, 600],
        "beside the middle": [150, 420, 350, 620],
        "top right": [600, 20, 950, 400],
        "whole": [0, 0, 1000, 1000],
        "right with a rather long label": [850, 600, 980, 900],
    }
    points = {"dot": [500, 500], "its neighbour": [530, 510]}
    model_says(
        json.dumps(
            [{"bbox_2d": box, "label": name} for name, box in boxes.items()]
            + [{"point_2d": point, "label": name} for name, point in points.items()]
        )
    )
    me = person(workbench_url, **LOOKS[look]).arrive()
    me.drop(drawn("red", "circle"))
    me.ask("Where is it?")
    me.page.locator("#chat .receipt .region").nth(7).wait_for()
    me.at_rest()
    labels = me.page.evaluate(LABELS)
    assert {one["name"] for one in labels} == {*boxes, *points}, "there is room for all"
    assert not [one["name"] for one in labels if one["isOut"]]
    assert not crossing(labels)


def test_the_labels_of_the_example_card_are_apart(person, workbench_url, model_says):
    boxes = [[20, 380, 320, 640], [320, 380, 620, 640], [620, 380, 920, 640]]
    model_says(json.dumps([{"bbox_2d": box, "label": "a large shape"} for box in boxes]))
    me = person(workbench_url).arrive()
    me.page.locator("#chat .example", has_text="Locate all shapes.").click()
    me.page.locator("#chat .receipt .region").nth(2).wait_for(timeout=120_000)  # the model's own answer has 147 tokens
    me.at_rest()
    labels = me.page.evaluate(LABELS)
    assert len(labels) == 3 and not any(one["isOut"] for one in labels)
    assert not crossing(labels)
