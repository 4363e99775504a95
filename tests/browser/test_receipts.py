"""The receipt under each answer, against the API's own for the same request."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from typing import Any

import httpx
import pytest
from PIL import Image

from engine.api.answering.usage import receipt_json
from engine.assets import asset
from tests.pictures import data_url

NUMBER = re.compile(r"[\d,]*\d(?:\.\d+)?")
TIMED = ("fetch_ms", "decode_ms", "resize_ms", "encode_ms")


def milliseconds(fact: str) -> float:
    """ "resize 12 ms", "resize 1.02 s" -> milliseconds."""
    return float(NUMBER.search(fact)[0]) * (1 if fact.endswith("ms") else 1000)


def said(row: Any) -> dict[str, Any]:
    """What the page says of one medium, read off its words."""
    line, *facts = row["words"]
    words = line.split(" · ")
    sizes = [tuple(map(int, pair)) for pair in re.findall(r"(\d+) × (\d+)", words[0])]
    return {
        "kind": {"picture": "image", "clip": "video"}[words[0].split()[0]],
        "decoded": list(sizes[0]),
        "seen": list(sizes[1]),
        "tokens": next(int(word.split()[0].replace(",", "")) for word in words if word.endswith(" tokens")),
        "reuse": next((word for word in words if word.endswith(("reused", "encoded"))), ""),
        "sha256": facts[-1],
        "times": [float(time.split()[0]) for time in row["times"]],
        **{f"{name}_ms": fact for name, fact in zip(("fetch", "decode", "resize", "encode"), facts[1:5], strict=True)},
    }


def receipts(me: Any, place: int) -> list[dict[str, Any]]:
    """Open the receipt of the answer at `place`, and read it."""
    receipt = me.page.locator("#chat .receipt").nth(place)
    if receipt.get_attribute("open") is None:
        receipt.locator("summary").click()
    receipt.locator(".frames > li > span > img").first.wait_for()
    receipt.locator("p, summary").filter(has_text=" × ").first.wait_for()
    return receipt.evaluate(
        """receipt => [...receipt.querySelectorAll(":scope > ol > li")].map(row => ({
            words: [(row.querySelector("p") ?? receipt.querySelector("summary")).textContent,
                    ...[...row.querySelectorAll("ul > li")].map(fact => fact.textContent)],
            times: [...row.querySelectorAll(".frames > li")].map(frame => frame.textContent).filter(Boolean),
            shown: [...row.querySelectorAll(".frames img")].map(image => [image.naturalWidth, image.naturalHeight]),
            urls: [...row.querySelectorAll(".frames img")].map(image => image.src),
        }))"""
    )


def agrees(row: dict[str, Any], told: dict[str, Any]) -> None:
    """The page's row says what the API says, to the figures that the page shows."""
    page = said(row)
    for name in ("kind", "decoded", "seen", "tokens"):
        assert page[name] == told[name], f"the page says another {name}"
    assert told["sha256"].startswith(page["sha256"])
    assert page["times"] == [pytest.approx(frame["time"], abs=0.005) for frame in told["frames"]]
    assert row["shown"] == [told["seen"]] * max(1, len(told["frames"]))


def test_the_receipt_of_every_request_is_right(person, workbench_url, demo_engine):
    """A picture, a clip beside it, a follow-up: each answer's receipt is the API's of the same request."""
    samples = asset("samples")
    me = person(workbench_url).arrive()
    asked = [
        (("two-shapes.jpg",), "Describe this image."),
        (("moving-circle.mp4",), "What happens in this video?"),
        ((), "Why?"),
    ]
    for place, (names, question) in enumerate(asked):
        if names:
            me.drop(*(samples / name for name in names))
        me.ask(question)
        mine = next(record for record in demo_engine.snapshot().recent if record.source == "chat")
        told = [receipt_json(receipt) for receipt in mine.done.media]
        rows = receipts(me, place)
        assert len(rows) == len(told) == min(place + 1, 2)
        for row, receipt in zip(rows, told, strict=True):
            agrees(row, receipt)
            page = said(row)
            for name in TIMED:
                assert milliseconds(page[name]) == pytest.approx(receipt[name], rel=0.06, abs=0.06), name
            use = receipt["features"]
            assert page["reuse"] == ("reused" if not use["misses"] else "encoded" if not use["hits"] else page["reuse"])
    assert said(rows[0])["reuse"] == "reused", "the follow-up did not look again"
    assert me.page.locator("#chat .receipt[open]").count() == 3, "what was opened stays open"
    with pytest.raises(AssertionError, match="the page says another"):  # twin: the other's receipt
        agrees(rows[0], told[1])


def test_the_api_says_the_same_of_the_same_media(person, workbench_url, drawn):
    picture = drawn("green", "triangle")
    me = person(workbench_url).arrive()
    me.drop(picture)
    me.ask("What shape is it?")
    (row,) = receipts(me, 0)
    parts = [
        {"type": "image_url", "image_url": {"url": data_url(picture.read_bytes())}},
        {"type": "text", "text": "What shape is it?"},
    ]
    body = {"model": "default", "messages": [{"role": "user", "content": parts}]}
    reply = httpx.post(f"{workbench_url}/v1/chat/completions", json=body, timeout=60).json()
    (told,) = reply["usage"]["media"]
    agrees(row, told)
    assert hashlib.sha256(picture.read_bytes()).hexdigest() != told["sha256"], "the hash is of the pixels"
    shown = Image.open(io.BytesIO(base64.b64decode(row["urls"][0].split(",")[1]))).convert("RGB")
    red, green, blue = shown.getpixel((shown.width // 2, shown.height // 2))
    assert green > 100 > max(red, blue), "the picture in the receipt is the one that was sent"


def test_words_alone_have_no_receipt(person, workbench_url):
    me = person(workbench_url).arrive()
    me.ask("Hello!")
    assert me.page.locator("#chat .receipt").count() == 0
