"""The Video tab: the sheet is what goes in, frame for frame; what is asked there is answered about those frames."""

from __future__ import annotations

import asyncio
import base64
import io
import re
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

import engine.prompt.build
from engine.assets import asset
from engine.types import FrameSampling, Message, Part, Request, Sampling
from tests.engine.drive import ask
from tests.engine.runtime.test_preflight import unpatched
from tests.pages import Person
from tests.pictures import PAPER, data_url, picture, write_clip
from workbench.words import seconds

QUESTION = "What happens in this video?"


class Video:
    """A person at the Video tab."""

    def __init__(self, me: Person) -> None:
        self.me = me.arrive()
        self.page = me.page
        self.page.get_by_role("tab", name="Video").click()
        self.page.locator("#video .drop").wait_for()

    def drop(self, clip: Any) -> Video:
        with self._new_sheet():
            self.page.dispatch_event("body", "drop", {"dataTransfer": self.me._transfer((clip,))})
        return self

    def set(self, label: str, value: str) -> None:
        with self._new_sheet():
            field = self.page.locator("#video .panel").first.get_by_label(label)
            field.select_option(value) if label.startswith("Pixels") else field.fill(value)

    def fold(self) -> None:
        with self._new_sheet():
            self.page.get_by_label("Skip repeated frames").first.check()

    def _new_sheet(self) -> Any:
        page = self.page

        class Waits:
            def __enter__(self) -> None:
                page.evaluate("document.querySelectorAll('#video .pair').forEach(pair => pair.dataset.old = '')")

            def __exit__(self, *_: object) -> None:
                page.locator("#video .pair:not([data-old])").first.wait_for()
                page.locator("#video .panel.busy").wait_for(state="detached")

        return Waits()

    def frames(self) -> list[tuple[int, float, np.ndarray]]:
        """The sheet: index, time and pixels of each frame."""
        found = (
            self.page.locator("#video .panel")
            .first.locator(".sheet figure")
            .evaluate_all("all => all.map(one => [one.dataset.index, one.dataset.time, one.querySelector('img').src])")
        )
        decode = lambda url: np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))  # noqa: E731
        return [(int(index), float(time_s), decode(url)) for index, time_s, url in found]

    def numbers(self) -> dict[str, str]:
        cards = self.page.locator("#video .panel").first.locator(".number").all()
        return {card.locator("h4").inner_text(): card.inner_text() for card in cards}

    def ask(self) -> str:
        count = self.me.notes.count()  # before the click: the answer may be quick
        self.page.get_by_role("button", name="Ask about it").click()
        self.me.finished(count + 1)
        return self.me.answer


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every prompt with media that the engine's thread builds for the chat from now on."""
    prompts: list[Any] = []
    build = engine.prompt.build._with_media

    def spy(loaded: Any, request: Request, media: Any, need_pixels: bool) -> Any:
        prompt = build(loaded, request, media, need_pixels)
        if request.source == "chat":
            prompts.append(prompt)
        return prompt

    monkeypatch.setattr(engine.prompt.build, "_with_media", spy)
    return prompts


@pytest.fixture(scope="session")
def pausing(tmp_path_factory):
    """A clip that stands still, moves, and stands still again."""
    circle = picture("red", "circle", (96, 96))
    left, right = (circle.rotate(0, translate=(x, 0), fillcolor=PAPER) for x in (-25, 25))
    frames = [left] * 8 + [right] * 8
    return write_clip(tmp_path_factory.mktemp("pausing") / "pausing.mp4", frames, fps=4.0)


def elsewhere(work: Coroutine[Any, Any, Any]) -> Any:
    """Run it in a thread: this one has Playwright's event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


def same_as_processed(frames: Any, prompt: Any) -> None:
    """The sheet's frames are what the engine's processor received for this prompt, frame for frame."""
    seen = unpatched(prompt.inputs["pixel_values_videos"], prompt.inputs["video_grid_thw"])
    assert [(index, time_s) for index, time_s, _ in frames] == list(prompt.media[-1].media.frames), "other frames"
    assert len(frames) == len(seen)
    for (_, _, shown), given in zip(frames, seen, strict=True):
        assert np.array_equal(shown, given)


@pytest.mark.parametrize(
    "settings", [{}, {"Frames per second": "4"}, {"Pixels, all frames": "25000", "From, s": "0.5"}]
)
def test_the_sheet_is_what_the_processor_receives_and_the_answer_is_about_it(
    person, workbench_url, clip, built, settings
):
    me = Video(person(workbench_url)).drop(clip)
    for label, value in settings.items():
        me.set(label, value)
    frames = me.frames()
    # Of a clip whose KV is there nothing is processed.
    assert httpx.post(f"{workbench_url}/v1/cache/clear", timeout=60).is_success
    assert "right" in me.ask().lower()
    assert me.page.get_by_role("tab", name="Chat").get_attribute("aria-selected") == "true"
    assert me.me.asked.last.inner_text().strip() == QUESTION
    (asked,) = built
    same_as_processed(frames, asked)
    receipt = me.page.locator("#chat .receipt summary").inner_text()
    assert f"{len(frames)} frames" in receipt
    with pytest.raises(AssertionError, match="other frames"):  # twin: one frame too few is seen
        same_as_processed(frames[2:], asked)


def test_another_rate_is_another_sheet_and_the_api_says_the_same(person, workbench_url, clip):
    me = Video(person(workbench_url)).drop(clip)
    before = me.frames()
    me.set("Frames per second", "4")
    after = me.frames()
    assert (len(before), len(after)) == (6, 12)
    parts = [
        {"type": "video_url", "video_url": {"url": data_url(clip.read_bytes(), "video/mp4")}},
        {"type": "text", "text": QUESTION},
    ]
    body = {"model": "default", "messages": [{"role": "user", "content": parts}], "video_fps": 4}
    told = httpx.post(f"{workbench_url}/v1/tokenize", json=body, timeout=60).json()
    (media,) = told["media"]
    assert [(index, time_s) for index, time_s, _ in after] == [(f["index"], f["time"]) for f in media["frames"]]
    numbers = me.numbers()
    assert f"{media['seen'][0]} × {media['seen'][1]}" in numbers["Each seen as"]
    assert re.search(rf"\b{media['tokens']}\b", numbers["Tokens"])
    assert re.search(rf"\b{told['count']}\b", numbers["Prompt"])
    assert f"{told['max_model_len'] - told['count']:,} left" in numbers["Prompt"]
    assert me.page.locator("#video .track i").count() == 12


def test_more_frames_at_one_budget_are_smaller(person, workbench_url, clip):
    me = Video(person(workbench_url)).drop(clip)
    me.set("Pixels, all frames", "100000")
    me.page.wait_for_function(  # not those of the budget before
        "(last => last?.dataset.frames === '64' && last.dataset.width < 128)"
        "([...document.querySelectorAll('#video .option')].at(-1))"
    )
    widths = me.page.locator("#video .option").evaluate_all("all => all.map(one => Number(one.dataset.width))")
    assert widths[0] == 128 and widths == sorted(widths, reverse=True)
    me.page.locator('#video .option[data-frames="16"]').click()
    me.page.wait_for_function("document.querySelectorAll('#video .sheet figure').length === 16")
    assert me.frames()[0][2].shape[1] < 128


def test_what_repeats_is_marked_and_left_out_if_asked(person, workbench_url, pausing, built):
    me = Video(person(workbench_url)).drop(pausing)
    assert len(me.frames()) == 8
    marked = me.page.locator("#video .sheet figure.same")
    assert marked.count() == 6
    assert me.page.locator("#video .track .still").count() == 2
    me.fold()
    assert me.page.locator("#video .track .still").count() == 2, "what was left out is still shown"
    frames = me.frames()
    assert len(frames) == 2
    assert marked.count() == 0
    me.ask()
    same_as_processed(frames, built[0])


def test_which_frame_mattered_is_the_likelihood_without_it(person, workbench_url, demo_engine):
    """The bars against the engine's own numbers, and a stop."""
    clip = asset("samples") / "changing-square.mp4"
    me = Video(person(workbench_url)).drop(clip)
    frames = me.frames()
    me.page.get_by_role("button", name="Which frame mattered?").click()
    me.page.get_by_text("Each bar: how much less likely").wait_for()
    drops = me.page.locator("#video .pair").evaluate_all("all => all.map(one => Number(one.dataset.drop))")
    assert len(drops) == len(frames) // 2

    def request(indices: list[int]) -> Request:
        part = Part("video", path=str(clip), frames=FrameSampling(indices=tuple(indices)))
        return Request((Message("user", (part, Part("text", QUESTION))),), sampling=Sampling(temperature=0.0))

    async def expected() -> list[float]:
        every = [index for index, _, _ in frames]
        ids = (await ask(demo_engine, request(every))).token_ids
        rests = [every[:start] + every[start + 2 :] for start in range(0, len(every), 2)]
        whole, *parts = [sum(await demo_engine.likelihood(request(indices), ids)) for indices in (every, *rests)]
        return [whole - part for part in parts]

    assert drops == pytest.approx(elsewhere(expected()), abs=2e-3)
    assert max(drops) > 0.2, "without the frames of one colour the answer is less likely"
    most = drops.index(max(drops, key=abs))
    (_, first_s, _), (_, second_s, _) = frames[2 * most : 2 * most + 2]
    verdict = me.page.locator("#video .verdict")
    named = f"Frames {2 * most + 1} and {2 * most + 2}, at {seconds(first_s)} and {seconds(second_s)}, mattered most:"
    expect(verdict).to_contain_text(f"{named} without them, this answer is ")
    expect(verdict).to_be_in_viewport(ratio=1)
    assert verdict.bounding_box()["y"] < me.page.locator("#video .sheet").bounding_box()["y"], "after its chart"
    assert "most" in me.page.locator("#video .pair").nth(most).get_attribute("class").split()
    me.set("Frames per second", "1")
    assert verdict.inner_text() == "", "it says nothing of other frames"


def test_other_frames_in_the_middle_of_weighing(person, workbench_url, clip):
    """The numbers of a sheet do not come to stand under the next one."""
    me = Video(person(workbench_url)).drop(clip)
    me.set("Frames per second", "20")
    me.page.get_by_role("button", name="Which frame mattered?").click()
    me.page.get_by_text("Leaving out pair 2 of").wait_for()
    me.set("Frames per second", "2")
    me.page.get_by_role("button", name="Which frame mattered?").wait_for()
    assert me.page.locator("#video .weighed").count() == 0 and not me.page.locator("#video .verdict").inner_text()


def test_it_can_be_stopped(person, workbench_url, clip):
    me = Video(person(workbench_url)).drop(clip)
    me.set("Frames per second", "20")
    me.page.get_by_role("button", name="Which frame mattered?").click()
    me.page.get_by_text("Leaving out pair 2 of").wait_for()
    me.page.get_by_role("button", name="Stop").click()
    me.page.get_by_text(re.compile(r"Stopped after \d+ of \d+ pairs")).wait_for()


def test_another_clip_in_the_middle_of_a_look_or_of_weighing(person, workbench_url, clip):
    """What was asked about the first clip says nothing under the second; `person` sees to a clean console."""
    me = Video(person(workbench_url)).drop(clip)
    page, weigh = me.page, me.page.locator("#video .bar button").nth(1)
    page.locator("#video").get_by_label("Frames per second").fill("20")
    page.wait_for_timeout(400)  # the look waits its turn or is on its way
    weigh.click()
    page.get_by_role("button", name="Another clip").click()
    page.get_by_role("button", name="growing star").click()
    assert weigh.inner_text() == "Which frame mattered?"
    page.locator("#video .pair").first.wait_for()
    page.locator("#video .panel.busy").wait_for(state="detached")
    assert page.locator("#video .bar + .progress").inner_text() == ""
    assert page.locator("#video .weighed").count() == 0
    weigh.click()
    page.get_by_text("Each bar: how much less likely").wait_for()


def test_two_settings_answer_the_same_question(person, workbench_url, clip):
    me = Video(person(workbench_url)).drop(clip)
    me.page.get_by_role("button", name="Compare two settings").click()
    me.page.locator("#video .panel").nth(1).locator(".pair").first.wait_for()
    me.page.get_by_role("button", name="Answer both").click()
    texts = me.page.locator("#video .answer .text")
    texts.nth(1).wait_for()
    counts = [me.page.locator("#video .panel").nth(i).locator("figure").count() for i in (0, 1)]
    assert counts[0] > counts[1]
    assert "right" in texts.first.inner_text()


def test_what_is_no_clip_or_no_number_is_said_in_words(person, workbench_url, clip, drawn):
    me = Video(person(workbench_url))
    me.page.dispatch_event("body", "drop", {"dataTransfer": me.me._transfer((drawn(),))})
    me.page.get_by_text("red-circle.png is not a clip.").wait_for()
    me.drop(clip)
    me.page.locator("#video .panel").get_by_label("From, s").fill("99")
    me.page.get_by_text("the clip lasts").wait_for()
    me.page.locator("#video .panel").get_by_label("From, s").fill("soon")
    me.page.get_by_text("“soon” is not").wait_for()
    me.page.locator("#video .panel.old").wait_for()  # the sheet of before is greyed
    me.set("From, s", "1")
    assert me.frames()[0][1] >= 1


@pytest.fixture(scope="session")
def moving_gif(tmp_path_factory):
    """An animated GIF of three seconds: a circle moves to the right."""
    circle = picture("red", "circle", (96, 96))
    frames = [circle.rotate(0, translate=(x, 0), fillcolor=PAPER) for x in range(-25, 26, 5)]
    path = tmp_path_factory.mktemp("gif") / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=300, loop=0)
    return path


def test_a_moving_picture_is_a_clip_and_both_answers_are_in_view(person, workbench_url, moving_gif):
    me = Video(person(workbench_url, viewport={"width": 1280, "height": 700}))
    page = me.page
    page.locator("#video input[type=file]").set_input_files(moving_gif)
    page.locator("#video .pair").first.wait_for()
    assert len(me.frames()) >= 4
    box = page.get_by_label("Skip repeated frames")
    assert box.evaluate("node => getComputedStyle(node).appearance") == "auto", "the tick is not seen"
    page.get_by_role("button", name="Compare two settings").click()
    page.locator("#video .panel").nth(1).locator(".pair").first.wait_for()
    assert page.get_by_role("button", name="Which frame of A mattered?").is_visible()
    page.get_by_role("button", name="Answer both").click()
    page.locator("#video .answer .text").nth(1).wait_for()
    page.wait_for_timeout(600)
    for answer in page.locator("#video .answer .text").all():
        place = answer.bounding_box()
        assert place["y"] >= 0 and place["y"] + place["height"] <= 700, "an answer is out of sight"


def test_with_a_wrong_value_nothing_is_asked(person, workbench_url, clip):
    me = Video(person(workbench_url)).drop(clip)
    page = me.page
    page.locator("#video .panel").get_by_label("From, s").fill("soon")
    page.get_by_text("“soon” is not").wait_for()
    for name in ("Ask about it", "Which frame mattered?"):
        assert page.get_by_role("button", name=name).is_disabled()
    me.set("From, s", "1")
    assert page.get_by_role("button", name="Ask about it").is_enabled()


def highlighted(me) -> list[float]:
    """Times of the frames that stand out."""
    return me.page.locator("#video .sheet figure.now").evaluate_all("all => all.map(one => Number(one.dataset.time))")


def wait_highlighted(me, time_s: float) -> None:
    me.page.wait_for_function(
        "time => { const now = [...document.querySelectorAll('#video .sheet figure.now')];"
        " return now.length === 1 && Number(now[0].dataset.time) === time; }",
        arg=time_s,
    )


def test_the_player_is_in_step_with_the_sheet(person, workbench_url, clip):
    me = Video(person(workbench_url)).drop(clip)
    times = [time_s for _, time_s, _ in me.frames()]
    film = me.page.locator("#video .player video")
    me.page.wait_for_function("document.querySelector('#video .player video').readyState > 0")
    film.evaluate("(film, time) => { film.currentTime = time; }", times[2] + 0.1)
    wait_highlighted(me, times[2])
    film.evaluate("(film, time) => { film.currentTime = time; }", times[3] - 0.05)
    wait_highlighted(me, times[2])  # not before its time
    me.page.locator("#video .sheet button.frame").nth(4).click()
    wait_highlighted(me, times[4])
    assert film.evaluate("film => film.currentTime") == pytest.approx(times[4], abs=0.02)
    assert f"frame 5 of {len(times)}" in me.page.locator("#video .where").inner_text()
    film.evaluate("film => { film.currentTime = 0; film.play(); }")
    wait_highlighted(me, times[1])  # while it plays


def test_what_the_browser_cannot_play_is_said_and_the_sheet_works(person, workbench_url, pausing):
    """MPEG-4 Part 2, as OpenCV writes it: the frames of the sheet stand in for the clip."""
    me = Video(person(workbench_url)).drop(pausing)
    me.page.locator("#video .why", has_text="cannot play this clip").wait_for()
    times = [time_s for _, time_s, _ in me.frames()]
    assert not me.page.locator("#video .player video").is_visible()
    me.page.locator("#video .sheet button.frame").nth(3).click()
    wait_highlighted(me, times[3])
    shown = me.page.locator("#video .screen img").get_attribute("src")
    assert shown == me.page.locator("#video .sheet img").nth(3).get_attribute("src")
    me.page.get_by_label("Playhead").press("End")
    wait_highlighted(me, times[-1])
    me.page.get_by_role("button", name="Play", exact=True).click()
    wait_highlighted(me, times[0])
    me.page.get_by_role("button", name="Pause").click()


def test_handles_set_the_start_and_the_end(person, workbench_url, clip):
    me = Video(person(workbench_url)).drop(clip)
    panel = me.page.locator("#video .panel").first
    start, end = panel.get_by_role("slider", name="Start, A"), panel.get_by_role("slider", name="End, A")
    whole = float(end.get_attribute("aria-valuenow"))
    box = panel.locator(".ends").bounding_box()
    with me._new_sheet():
        me.page.mouse.move(*middle(start))
        me.page.mouse.down()
        me.page.mouse.move(box["x"] + box["width"] / 2, box["y"], steps=4)
        me.page.mouse.up()
    assert float(panel.get_by_label("From, s").input_value()) == pytest.approx(whole / 2, abs=whole / 50)
    assert me.frames()[0][1] >= whole / 2 - 0.3
    with me._new_sheet():
        end.focus()
        for _ in range(10):
            end.press("ArrowLeft")
    assert float(panel.get_by_label("To, s").input_value()) == pytest.approx(0.9 * whole, abs=0.05)
    assert end.get_attribute("aria-valuetext").endswith(" s")
    end.press("Home")  # not past the other one
    assert float(end.get_attribute("aria-valuenow")) > float(start.get_attribute("aria-valuenow"))
    with me._new_sheet():
        end.press("End")
        start.press("Home")
    assert [panel.get_by_label(label).input_value() for label in ("From, s", "To, s")] == ["", ""]
    me.set("From, s", "1")
    assert float(start.get_attribute("aria-valuenow")) == 1, "the field moves the handle"


def test_a_finger_moves_a_handle(person, workbench_url, clip):
    me = Video(person(workbench_url, viewport={"width": 390, "height": 844}, has_touch=True)).drop(clip)
    start = me.page.get_by_role("slider", name="Start, A")
    start.scroll_into_view_if_needed()
    assert start.evaluate("node => getComputedStyle(node).touchAction") == "none", "the page would scroll instead"
    x, y = middle(start)
    touch = me.page.context.new_cdp_session(me.page)
    with me._new_sheet():
        touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
        for step in range(1, 6):
            point = {"x": x + 25 * step, "y": y}
            touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [point]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert float(me.page.get_by_label("From, s").input_value()) > 0.3


def middle(handle) -> tuple[float, float]:
    box = handle.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def test_the_rate_is_said_in_words(person, workbench_url, clip):
    me = Video(person(workbench_url)).drop(clip)
    said = me.page.locator("#video .rate")
    assert "6 frames, one every" in said.inner_text()
    me.set("Frames per second", "10")
    me.set("Max frames", "4")
    assert "Asked for: 10 a second, but no more than 4 frames may go in." in said.inner_text()


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_moving_pictures_of_each_kind_are_clips(person, workbench_url, moving_gif, tmp_path, suffix):
    path = tmp_path / f"moving{suffix}"
    with Image.open(moving_gif) as gif:
        gif.save(path, save_all=True)
    me = Video(person(workbench_url))
    me.page.locator("#video input[type=file]").set_input_files(path)
    me.page.locator("#video .pair").first.wait_for()
    assert len(me.frames()) >= 4
    me.page.locator("#video .why", has_text="moving picture").wait_for()
    assert me.page.locator("#video .screen img").is_visible()


def shoot_both(me: Any, path: Path) -> None:
    """In the light and in the dark, for whoever looks at the pictures."""
    for scheme in ("dark", "light"):
        me.page.emulate_media(color_scheme=scheme)
        me.page.wait_for_function("dark => document.body.classList.contains('dark') === dark", arg=scheme == "dark")
        me.shoot(path.with_name(f"{path.name}-{scheme}.png"))


@pytest.mark.parametrize("width", [1280, 390])
def test_looks(person, workbench_url, clip, artifacts, width):
    me = Video(person(workbench_url, viewport={"width": width, "height": 844}, color_scheme="light")).drop(clip)
    me.page.wait_for_function("document.querySelector('#video .player video').readyState > 1")
    me.page.locator("#video .sheet button.frame").nth(2).click()
    me.page.locator("#video .sheet figure.now").wait_for()
    me.page.locator("#video").evaluate("node => node.scrollTo(0, 0)")
    shoot_both(me.me, artifacts / f"video-{width}")
    assert me.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sizes = me.page.locator("#video .handle").evaluate_all("all => all.map(one => one.offsetWidth)")
    assert min(sizes) >= 24, "too small for a finger"
    me.page.get_by_role("button", name="Compare two settings").click()
    me.page.locator("#video .panel").nth(1).locator(".pair").first.wait_for()
    shoot_both(me.me, artifacts / f"video-compare-{width}")
    assert me.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
