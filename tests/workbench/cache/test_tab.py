"""The Cache tab's callbacks on the demo model: its numbers are the API's, and each page gets what it may see."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import openai
import pytest
from PIL import Image

from engine.config import ServerConfig
from engine.types import CacheStats, DeviceInfo, DiskStats, Snapshot
from tests import pictures
from tests.engine.drive import ask, chat, settled
from tests.waiting import wait_until
from workbench.cache import tab as cache
from workbench.cache.tab import PARTS, CacheTab, CacheView, totals
from workbench.shared import Shared
from workbench.words import size

LOOPBACK = ServerConfig()
SPACE = ServerConfig(host="0.0.0.0", open_access=True)
TWO_KEYS = ServerConfig(host="0.0.0.0", api_keys=(("anna", "sk-anna-0123456789"), ("ben", "sk-ben-0123456789")))


class Page:
    """One page on the tab: what it was sent last of each part, and how often."""

    def __init__(self, tab: CacheTab, session: str = "page-1", username: str | None = None) -> None:
        self._tab, self._request = tab, gr.Request(session_hash=session, username=username)
        self.view = CacheView()
        self.has: dict[str, Any] = {}
        self.sent: list[str] = []

    async def look(self) -> Page:
        return self._take(await self._tab.tick(self.view, self._request))

    async def act(self, action: str, key: str = "") -> Page:
        event = gr.EventData(None, {"action": action, "key": key})
        return self._take(await self._tab.act(self.view, self._request, event))

    async def check(self, key: str) -> Page:
        return self._take(await self._tab.check(self.view, self._request, gr.EventData(None, {"request": key})))

    def _take(self, parts: list[Any]) -> Page:
        new = {
            name: value for name, value in zip(PARTS, parts, strict=True) if "lanes" in value or "__type__" not in value
        }
        self.has |= new
        self.sent = list(new)
        return self

    @property
    def lane(self) -> dict[str, Any]:
        return self.has["strips"]["lanes"][0]

    @property
    def tiles(self) -> dict[str, dict[str, str]]:
        return {tile["key"]: tile for tile in self.has["totals"]["tiles"]}


@pytest.fixture
def tab(demo_engine: Any, tmp_path: Path) -> Callable[..., CacheTab]:
    """tab(ServerConfig) -> the tab laid out in a page of its own."""

    def make(config: ServerConfig = LOOPBACK) -> CacheTab:
        with gr.Blocks(), gr.Tabs(), gr.Tab(cache.NAME):
            return cache.build(demo_engine, Shared(tmp_path, server=config))

    return make


@pytest.fixture
def api(demo_server: Any) -> Any:
    """api(question, *urls) -> the completion, once all it leaves behind is stored."""

    def ask(question: str, *urls: str) -> Any:
        media = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        messages: Any = [{"role": "user", "content": [*media, {"type": "text", "text": question}]}]
        with openai.OpenAI(base_url=f"{demo_server.url}/v1", api_key="-", max_retries=0) as client:
            answer = client.chat.completions.create(model="default", messages=messages, temperature=0, max_tokens=12)
        wait_until(lambda: any(record.id == answer.id for record in demo_server.engine.snapshot().recent))
        return answer

    httpx.post(f"{demo_server.url}/v1/cache/clear")
    return ask


def number(words: str) -> list[int]:
    return [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]*", words)]


async def test_a_strip_says_what_usage_says(tab, api):
    red = pictures.picture_url("red")
    page = Page(tab())
    for question in ("What is in this image?", "What color is it?"):
        answer = api(question, red)
        await page.look()
        usage = answer.usage
        cached, total = usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens
        assert page.lane["key"] == answer.id
        assert page.lane["words"].startswith(f"{cached} of {total} tokens reused")
        assert sum(part["tokens"] for part in page.lane["segments"]) == total
        assert sum(part["tokens"] for part in page.lane["segments"] if part["how"] == "reused") == cached
        (picture,) = [part for part in page.lane["segments"] if part["medium"]]
        assert (picture["tokens"], picture["medium"]) == (usage.media[0]["tokens"], usage.media[0]["sha256"])
        assert page.has["strips"]["pictures"][picture["medium"]].startswith("data:image/webp;base64,")
    assert picture["how"] == "reused"
    assert page.lane["segments"][-1]["how"] == "computed"
    assert "color" in page.lane["segments"][-1]["words"] and "color" in page.lane["why"]


async def test_every_total_is_the_one_of_the_api(tab, api, demo_server):
    api("What is in this image?", pictures.picture_url("red"))
    api("What shape is it?", pictures.picture_url("red"))
    page = await Page(tab()).look()
    stats = httpx.get(f"{demo_server.url}/v1/cache/stats").json()
    tiles = page.tiles
    assert tiles["reused"]["number"] == f"{100 * stats['token_hit_rate']:.0f} %"
    assert number(tiles["reused"]["words"]) == [stats["tokens_saved"], stats["tokens_seen"]]
    assert number(tiles["prompts"]["number"]) == [stats["total_queries"]]
    assert number(tiles["prompts"]["words"]) == [stats["hits"], stats["image_hits"], stats["video_hits"]]
    assert tiles["kept"]["number"] == size(stats["bytes"]["kv"])
    assert number(tiles["kept"]["words"])[:2] == [stats["blocks"], stats["limits"]["blocks"]]
    assert tiles["features"]["number"] == size(stats["bytes"]["features"])
    assert number(tiles["features"]["words"])[:2] == [stats["features"], stats["encoder_runs_avoided"]]
    charts = {chart["key"]: chart for chart in page.has["charts"]["charts"]}
    assert (charts["hits"]["now"], charts["saved"]["now"]) == (tiles["reused"]["number"], f"{stats['tokens_saved']:,}")
    kinds = {part["key"]: part["now"] for part in charts["memory"]["areas"]}
    assert (kinds["kv"], kinds["features"]) == (size(stats["bytes"]["kv"]), size(stats["bytes"]["features"]))

    held = httpx.get(f"{demo_server.url}/v1/cache/blocks").json()["data"]
    cells = page.has["blocks"]["cells"]
    assert {cell["key"] for cell in cells} == {block["key"] for block in held} and len(cells) == stats["blocks"]
    assert page.has["blocks"]["free"] == stats["limits"]["blocks"] - stats["blocks"]


async def test_nothing_is_sent_when_nothing_changed(tab, api):
    page = await Page(tab()).look()
    assert page.sent == list(PARTS)
    await page.look()
    await page.look()
    assert set(page.sent) <= {"charts"}  # time goes by
    api("Hello!")
    await page.look()
    assert {"totals", "strips"} <= set(page.sent)


async def test_a_block_is_opened_pinned_kept_by_clear_and_dropped(tab, api):
    api("What is in this image?", pictures.picture_url("red"))
    page = await Page(tab()).look()
    (picture,) = page.has["blocks"]["media"]
    await page.act("open", picture["block"])
    opened = page.has["blocks"]["open"]
    assert "What is in this image?" in opened["text"] and "▣" in opened["text"]
    assert opened["media"] == [picture["medium"]] == list(opened["pictures"])
    await page.act("pin", picture["block"])
    assert page.has["blocks"]["open"]["pinned"] and page.has["blocks"]["media"][0]["kv"]["pinned"]
    await page.act("drop", picture["block"])
    assert "pin" in page.has["blocks"]["open"]["notice"]
    await page.act("clear")
    assert len(page.has["blocks"]["cells"]) == 1 and page.has["blocks"]["open"] is None
    await page.act("unpin", picture["medium"])
    await page.act("drop", picture["medium"])
    assert page.has["blocks"]["cells"] == [] and page.has["blocks"]["media"] == []


async def test_a_clip_shows_which_frames_features_are_held(tab, demo_server, clip_path):
    """KV and features of one medium are told, pinned and dropped apart; the numbers are those of the API."""
    await demo_server.engine.cache.clear()
    (receipt,) = (await ask(demo_server.engine, chat(clip_path, "What happens?", max_tokens=2))).done.media
    page = await Page(tab()).look()
    (clip,) = page.has["blocks"]["media"]
    units = httpx.get(f"{demo_server.url}/v1/cache/features").json()["data"]
    num_frames = len(receipt.frames)
    assert (clip["medium"], clip["frames"]) == (receipt.sha256, [True] * num_frames)
    assert clip["features"]["words"] == (
        f"{num_frames} of {num_frames} frames · {size(sum(unit['num_bytes'] for unit in units))}"
    )
    sheet = page.has["blocks"]["sheets"][receipt.sha256]
    image = Image.open(io.BytesIO(base64.b64decode(sheet.partition(",")[2])))
    assert image.size == (48 * num_frames, 36)

    (first,) = [unit for unit in units if unit["media"][0]["frames"][0] == 0]
    httpx.post(f"{demo_server.url}/v1/cache/features/{first['key']}/drop")
    (clip,) = (await page.look()).has["blocks"]["media"]
    assert clip["frames"] == [False, False] + [True] * (num_frames - 2)
    await page.act("pin_features", receipt.sha256)
    (clip,) = page.has["blocks"]["media"]
    assert clip["features"]["pinned"] and not clip["kv"]["pinned"]
    await page.act("drop", receipt.sha256)
    (clip,) = page.has["blocks"]["media"]
    assert clip["kv"] is None and clip["features"]["pinned"]
    await page.act("drop_features", receipt.sha256)
    assert page.has["blocks"]["media"] == [clip], "a pin holds it"
    visitor = await Page(tab(SPACE)).look()
    assert visitor.has["blocks"]["media"] == [] and visitor.has["blocks"]["sheets"] == {}
    await visitor.act("unpin_features", receipt.sha256)
    await page.look()
    assert page.has["blocks"]["media"] == [clip]
    await page.act("unpin_features", receipt.sha256)
    await page.act("drop_features", receipt.sha256)
    assert page.has["blocks"]["media"] == []


async def test_a_family_without_blocks_is_said_to_be_one(tiny_model, engine_for):
    engine = await engine_for(tiny_model("gemma3"))
    await ask(engine, chat("Hello!", max_tokens=2))
    snapshot = await settled(engine)
    stats = snapshot.cache
    note = cache.family_note(snapshot)
    assert "cannot be kept in blocks" in note and "Features are not kept" in note
    assert f"{stats.snapshots:,} snapshot" in note and size(stats.snapshot_bytes) in note
    whole = replace(snapshot, models=(replace(snapshot.model, model_type="paligemma"),))
    assert "cannot be kept:" in cache.family_note(whole)
    blocks = replace(snapshot, models=(replace(snapshot.model, model_type="qwen3_vl"),), cache=CacheStats(enabled=True))
    assert cache.family_note(blocks) == "" == cache.family_note(replace(whole, cache=CacheStats()))


def test_what_was_checked_has_its_place_from_the_start():
    """So that nothing moves under the pointer when the first check is done."""
    device = DeviceInfo("macOS", "M4", "GPU", 1, 1, "Accelerate", "0.32")
    for checked, wrong in ((0, 0), (7, 2)):
        held = CacheStats(enabled=True, cache_verified=checked, cache_mismatches=wrong)
        tiles = {tile["key"]: tile for tile in totals(Snapshot("ready", device, cache=held))["tiles"]}
        assert tiles["verified"]["number"] == f"{checked}" and number(tiles["verified"]["words"]) == [wrong]


async def test_what_a_page_may_say_is_anything(tab, api):
    api("Hello!")
    page = await Page(tab()).look()
    for action, key in (("open", "00" * 16), ("open", "no-hex"), ("paint", "x"), ("drop", ""), ("", "")):
        await page.act(action, key)
        assert page.has["blocks"]["open"] is None
    assert page.has["blocks"]["cells"]
    await page.check("nobody")
    assert page.view.verdicts == {}


async def test_the_lamp_is_green(tab, api):
    answer = [
        api(question, pictures.picture_url("red")) for question in ("What is in this image?", "What color is it?")
    ][1]
    page = await Page(tab()).check(answer.id)
    said = page.lane["verdict"]
    assert said["lamp"] == "green"
    compared, reused, total = number(said["words"])[:3]
    assert compared >= answer.usage.completion_tokens
    assert total == answer.usage.prompt_tokens
    assert answer.usage.prompt_tokens_details.cached_tokens <= reused < total  # its own prompt is stored by now
    assert [lane["key"] for lane in page.has["strips"]["lanes"]].count(answer.id) == 1, (
        "a replay is no request of its own"
    )


async def test_a_visitor_sees_sizes_of_others_and_changes_nothing(tab, api):
    answer = api("What is in this image, my secret?", pictures.picture_url("red"))
    space = tab(SPACE)
    visitor, operator = await Page(space).look(), await Page(tab()).look()
    (sha256,) = [receipt["sha256"] for receipt in answer.usage.media]
    for secret in (answer.id, sha256, "secret", operator.has["blocks"]["cells"][0]["key"]):
        assert secret in repr(operator.has) or secret == "secret"
        assert secret not in repr(visitor.has)
    assert visitor.lane["source"] == "Another visitor" and visitor.lane["tokens"] == answer.usage.prompt_tokens
    assert len(visitor.has["blocks"]["cells"]) == len(operator.has["blocks"]["cells"])
    key = operator.has["blocks"]["cells"][0]["key"]
    for action in ("open", "pin", "drop", "clear"):
        await visitor.act(action, key)
        assert visitor.has["blocks"]["open"] is None
    await visitor.check(answer.id)
    assert visitor.view.verdicts == {}
    await operator.look()
    assert [cell["state"] for cell in operator.has["blocks"]["cells"]] == ["stored"] * len(
        visitor.has["blocks"]["cells"]
    )


async def test_with_several_keys_the_first_is_the_operator(tab, api):
    api("What is in this image?", pictures.picture_url("red"))
    keyed = tab(TWO_KEYS)
    anna, ben = await Page(keyed, username="anna").look(), await Page(keyed, username="ben").look()
    assert anna.has["blocks"]["operator"] and anna.has["blocks"]["media"]
    assert not ben.has["blocks"]["operator"] and ben.has["blocks"]["media"] == []
    await ben.act("clear")
    assert (await anna.look()).has["blocks"]["cells"]
    await anna.act("clear")
    assert anna.has["blocks"]["cells"] == []


def test_disk_and_snapshots_are_told_where_there_are_any():
    device = DeviceInfo("macOS", "M4", "GPU", 1, 1, "Accelerate", "0.32")
    disk = DiskStats(enabled=True, num_bytes=2**20, max_bytes=2**30, files=7, hits=3)
    tiles = {
        tile["key"]: tile
        for tile in totals(Snapshot("ready", device, cache=CacheStats(enabled=True, disk=disk)))["tiles"]
    }
    assert (tiles["disk"]["number"], number(tiles["disk"]["words"])[0]) == ("1 MB", 7)
    held = CacheStats(enabled=True, snapshots=2, snapshot_bytes=4096)
    shown = totals(Snapshot("ready", device, cache=held))
    tiles = {tile["key"]: tile for tile in shown["tiles"]}
    assert "disk" not in tiles
    assert tiles["kept"]["words"].startswith("2 snapshots") and tiles["kept"]["number"] == "4 KB"


@pytest.mark.parametrize(
    ("state", "enabled", "words"),
    [
        ("loading", False, "still loading"),
        ("failed", False, "does not run"),
        ("ready", False, "switched off"),
        ("ready", True, ""),
    ],
)
def test_why_there_is_nothing_to_see(state, enabled, words):
    device = DeviceInfo("macOS", "M4", "GPU", 1, 1, "Accelerate", "0.32")
    note = totals(Snapshot(state, device, cache=CacheStats(enabled=enabled)))["note"]
    assert words in note and bool(note) == bool(words)
