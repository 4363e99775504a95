"""The frame: the header at every width, tabs in the address, keys alone, a screen reader, what is offered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.config import EngineConfig, ModelSpec
from tests.pages import DESKTOP, PHONE, Person
from tests.waiting import wait_until

AXE = Path(__file__).parents[1] / "page" / "node_modules" / "axe-core" / "axe.min.js"
TABS = ("Chat", "Compare", "Video", "Decide", "Batch", "Cache", "Requests", "Models", "Benchmark")
WIDTHS = (360, 390, 640, 720, 768, 900, 1024, 1100, 1280, 1440, 1920, 2560)

OVERLAPS = """() => {
  const names = '#header .brand, #header .pill, #tabs [role=tab], #chat .clear, #settings .toggle-button';
  const shown = [...document.querySelectorAll(names)]
    .filter(node => node.checkVisibility() && node.getBoundingClientRect().width);
  const seen = node => {  // of a bar that is scrolled only what is in sight
    const box = node.getBoundingClientRect(), bar = node.closest('.tab-container')?.getBoundingClientRect();
    if (!bar) return box;
    const left = Math.max(box.left, bar.left), right = Math.min(box.right, bar.right);
    return {top: box.top, bottom: box.bottom, left, right};
  };
  const boxes = shown.map(node => [node.className || node.id, seen(node)]).filter(([, box]) => box.left < box.right);
  const over = [];
  for (const [i, [name, a]] of boxes.entries()) {
    if (a.left < -1 || a.right > innerWidth + 1) over.push(`${name} is off the window`);
    for (const [other, b] of boxes.slice(i + 1))
      if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1)
        over.push(`${name} / ${other}`);
  }
  return over;
}"""


def serious(page: Any, rule: str = "") -> list[str]:
    """What axe finds on the page as it is, of what keeps people out. rule: only this one of its rules."""
    page.evaluate(AXE.read_text())
    asked: dict[str, Any] = {"resultTypes": ["violations"], **({"runOnly": [rule]} if rule else {})}
    found = page.evaluate("asked => axe.run(document, asked)", asked)
    return [
        f"{one['id']}: {node['html'][:120]}: {node['failureSummary']}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


def serious_in_both(me: Person) -> list[str]:
    """`serious` in the light, and then in the dark. There only the colours are others, so only these are looked at."""
    page = me.page
    found = serious(page)
    page.emulate_media(color_scheme="dark")
    page.locator("body.dark").wait_for()
    me.at_rest()
    found += [f"dark: {one}" for one in serious(page, "color-contrast")]
    page.emulate_media(color_scheme="light")
    page.locator("body:not(.dark)").wait_for()
    me.at_rest()
    return found


def open_tab(me: Person, name: str) -> None:
    tab = me.page.get_by_role("tab", name=name)
    tab.click()
    tab.and_(me.page.locator("[aria-selected=true]")).wait_for()
    me.at_rest()


@pytest.mark.parametrize("name", ["demo", "mlx-community/Qwen3-VL-235B-A22B-Instruct-mixed-4bit"])
def test_the_header_holds_at_every_width(person, serve_page, engine_pool, name):
    """Also with the settings open, and with the name of a real model, whose end is always there."""
    with serve_page(engine_pool.start(EngineConfig(model=ModelSpec("demo", name=name)))) as url:
        me = person(url, viewport={"width": 1440, "height": 700}).arrive()
        page = me.page
        page.locator("#header .model.ready").wait_for()
        me.ask("Hello!")  # so that "New chat" is there too
        for is_open in (False, True):
            if is_open:
                page.locator("#settings .toggle-button").click()
            for width in WIDTHS:
                if is_open and width <= 768:
                    continue  # there the panel lies over the page
                page.set_viewport_size({"width": width, "height": 700})
                me.at_rest()
                assert page.evaluate(OVERLAPS) == [], (width, is_open)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
                assert page.locator("#header .bar").bounding_box()["height"] <= 90
                end = page.locator("#header .model .tail" if len(name) > 24 else "#header .model .head")
                whole = "node => node.scrollWidth <= node.clientWidth + 1 && node.getBoundingClientRect().width > 20"
                assert end.evaluate(whole), (width, is_open)
        me.leave()


IN_SIGHT = """tab => {
  const box = tab.getBoundingClientRect(), bar = tab.parentElement.getBoundingClientRect();
  return box.left >= bar.left - 1 && box.right <= bar.right + 1 && bar.left >= 0 && bar.right <= innerWidth;
}"""


@pytest.mark.parametrize("language", ["en", "de"])
def test_on_a_phone_the_tabs_are_scrolled_and_the_current_one_is_in_sight(person, workbench_url, language, artifacts):
    me = person(workbench_url, **PHONE, locale=language).arrive()
    page, bar = me.page, me.page.locator("#tabs .tab-container:not(.visually-hidden)")
    tabs = bar.get_by_role("tab")
    assert bar.evaluate("bar => bar.scrollWidth > bar.clientWidth"), "they fit, and nothing is tested"
    assert tabs.count() == len(TABS)
    for place in range(len(TABS)):
        tab = tabs.nth(place)
        size = tab.bounding_box()
        assert size["height"] >= 44 and size["width"] >= 44
        assert float(tab.evaluate("tab => parseFloat(getComputedStyle(tab).fontSize)")) >= 13
        tab.click()
        tab.and_(page.locator("[aria-selected=true]")).wait_for()
        assert tab.evaluate(IN_SIGHT)
        ends = bar.evaluate("bar => [bar.scrollLeft > 1, bar.scrollLeft < bar.scrollWidth - bar.clientWidth - 1]")
        page.wait_for_function(
            """([before, after]) => {
              const bar = document.querySelector('#tabs .tab-container:not(.visually-hidden)');
              return bar.hasAttribute('data-before') === before && bar.hasAttribute('data-after') === after;
            }""",
            arg=ends,
        )
    me.shoot(artifacts / f"tabs-{language}.png")
    tabs.first.hover()
    ground = "tab => getComputedStyle(tab).backgroundColor"
    assert tabs.first.evaluate(ground) != tabs.last.evaluate(ground), "what was touched looks selected"
    page.reload()
    page.locator("#tab-benchmark-button[aria-selected=true]").first.wait_for()
    last = "document.querySelector('#tabs .tab-container:not(.visually-hidden) #tab-benchmark-button')"
    page.wait_for_function(f"({IN_SIGHT})({last})")
    tabs.first.focus()
    for place in range(len(TABS)):
        assert tabs.nth(place).evaluate("tab => tab === document.activeElement")
        assert tabs.nth(place).evaluate(IN_SIGHT), "what has the focus is not seen"
        page.keyboard.press("Tab")


def test_the_tab_is_in_the_address_and_back_leads_back(person, workbench_url):
    me = person(workbench_url).arrive()
    page = me.page
    for name in TABS[1:]:
        open_tab(me, name)
        page.wait_for_function("name => document.title.startsWith(name)", arg=name)
        assert page.url.endswith(f"tab={name.lower()}")
        assert page.title() == f"{name} · MLX Workbench"
    page.go_back()
    page.locator(f'[role=tab][aria-selected=true]:has-text("{TABS[-2]}")').first.wait_for()
    page.goto(f"{workbench_url}/?tab=video")
    page.locator("#video .drop").wait_for()
    open_tab(me, "Chat")
    page.wait_for_function("!location.search.includes('tab=')")


def test_what_cannot_be_seen_is_not_reached_by_tab(person, workbench_url):
    me = person(workbench_url).arrive()
    page = me.page
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        box = page.evaluate(
            """() => { const node = document.activeElement, box = node.getBoundingClientRect();
                 const name = node.getAttribute('aria-label') ?? node.textContent.slice(0, 30);
                 return [node.tagName, box.left, box.right, box.width, name]; }"""
        )
        if box[0] != "BODY":  # between the last and the first
            reached.append(box)
    assert len(reached) > 6
    hidden = [box for box in reached if box[1] >= 1280 or box[2] <= 0 or box[3] == 0]
    assert hidden == []


def test_the_model_is_a_control_that_says_what_it_is(person, workbench_url, artifacts):
    me = person(workbench_url).arrive()
    page = me.page
    page.locator("#chat .welcome").get_by_text("This model is a toy. It knows plain shapes").wait_for()
    assert page.locator("#chat .starter:visible").count() == 0
    model = page.get_by_role("button", name="Model: demo")
    model.focus()
    page.keyboard.press("Enter")
    card = page.locator(".model-card")
    assert "This is a toy. It knows plain shapes" in card.inner_text()
    assert "vllm-mlx-chat --model" in card.inner_text()
    assert "parameters" in card.inner_text()
    me.shoot(artifacts / "model-card.png")
    page.keyboard.press("Escape")
    assert card.is_hidden()
    assert page.evaluate("document.activeElement.classList.contains('model')")


@pytest.mark.parametrize("context", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_no_serious_finding_of_axe_on_any_tab(person, workbench_url, context, drawn):
    me = person(workbench_url, **context, color_scheme="light").arrive()
    page = me.page
    found: dict[str, list[str]] = {}

    def look(state: str) -> None:
        me.at_rest()
        found[state] = serious(page) if context is PHONE else serious_in_both(me)

    look("empty")
    me.drop(drawn())
    page.locator("#composer .file-words", has_text="tokens").wait_for()
    look("composing")
    me.ask("What is in this image?")
    page.locator("#chat .receipt summary").click()
    page.locator("#chat .receipt img").first.wait_for()
    look("answered")
    page.locator("#chat .picture").click()
    page.locator(".lightbox .seen:not([hidden])").wait_for()
    look("lightbox")
    page.keyboard.press("Escape")
    page.locator("#settings .toggle-button").click()
    look("settings")
    page.locator("#settings .toggle-button").click()
    open_tab(me, "Video")
    look("video, empty")
    page.get_by_role("button", name="moving circle").click()
    page.locator("#video .option").first.wait_for()
    look("video")
    open_tab(me, "Decide")
    page.locator("#decide .sample img").first.wait_for()
    look("decide, empty")
    page.locator("#decide input[type=file]").first.set_input_files(drawn())
    page.get_by_role("button", name="Examples").click()
    page.locator("#decide .shown img").wait_for()
    page.get_by_role("button", name="Decide", exact=True).click()
    page.locator("#decide .summary", has_text="3 questions in").wait_for()
    look("decide")
    open_tab(me, "Cache")
    page.locator("#cache .lane .bar").first.click()
    page.locator("#cache button.cell").first.click()
    page.locator("#cache .details .text").wait_for()
    look("cache")
    for name, shown in (
        ("Compare", "#compare .side"), ("Batch", "#batch h3"),
        ("Requests", "#requests .axis .bars"), ("Models", "#models .list .model"),
        ("Benchmark", "#bench .suite"),
    ):  # fmt: skip
        open_tab(me, name)
        page.locator(shown).first.wait_for(state="attached")
        look(name.lower())
    assert {state.partition(",")[0] for state in found} >= {name.lower() for name in TABS[1:]}, (
        "a tab was not looked at"
    )
    assert {state: lines for state, lines in found.items() if lines} == {}


COUNTED = """
    window.numFrames = 0;
    const next = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (act) => { window.numFrames += 1; return next(act); };
"""


def test_a_page_at_rest_asks_for_no_frames(person, workbench_url):
    """Gradio's own clock asked for sixty a second for as long as a page was open (static/clock.js)."""
    me = person(workbench_url, at="/health")
    me.page.add_init_script(COUNTED)
    me.page.goto(f"{workbench_url}/?c=new")
    me.arrive().ask("Hello!")
    me.at_rest()
    assert me.page.evaluate("numFrames") > 0, "the test sees nothing"
    wait_until(lambda: num_frames(me.page) < 5, "it never comes to rest")


def num_frames(page: Any) -> int:
    """How many are asked for in half a second."""
    before = page.evaluate("numFrames")
    page.wait_for_timeout(500)
    return int(page.evaluate("numFrames")) - int(before)


def test_the_page_has_one_title_and_landmarks(person, workbench_url):
    me = person(workbench_url).arrive()
    assert me.page.title() == "MLX Workbench"
    assert me.page.locator("h1").all_inner_texts() == ["MLX Workbench"]
    assert me.page.get_by_role("log", name="Conversation").count() == 1


def test_high_contrast_and_reduced_motion(person, workbench_url, artifacts):
    me = person(workbench_url, forced_colors="active", reduced_motion="reduce").arrive()
    me.ask("Hello!")
    me.shoot(artifacts / "high-contrast.png")
    page = me.page
    running = page.evaluate("document.getAnimations().filter(one => one.playState === 'running').length")
    assert running == 0
    sign = page.locator("#chat .icon.retry")
    colour = sign.evaluate("node => getComputedStyle(node, '::before').backgroundColor")
    assert colour != sign.evaluate("node => getComputedStyle(node).backgroundColor"), "the sign is not seen"


def test_at_200_percent_the_chat_can_be_used(person, workbench_url, artifacts):
    """A window of 1280 × 800 zoomed to 200 % has 640 × 400 pixels of CSS."""
    me = person(workbench_url, viewport={"width": 640, "height": 400}, device_scale_factor=2).arrive()
    page = me.page
    title = page.locator("#chat .welcome h2").bounding_box()
    assert title["y"] >= page.locator("#chat .conversation").bounding_box()["y"] - 1, "the title is scrolled out"
    me.ask("Hello!")
    me.shoot(artifacts / "zoomed.png")
    last = page.locator("#chat .turn").last.bounding_box()
    assert last["y"] + last["height"] <= page.locator("#composer").bounding_box()["y"] + 1


@pytest.fixture(scope="module")
def text_url(serve_page, engine_pool, tiny_model):
    spec = ModelSpec(str(tiny_model("gemma3")), text_only=True)
    with serve_page(engine_pool.start(EngineConfig(model=spec, max_tokens=8))) as url:
        yield url


def test_what_the_model_cannot_take_is_not_offered(person, text_url, drawn, artifacts):
    me = person(text_url).arrive()
    page = me.page
    page.locator("#header .model.ready").wait_for()
    page.get_by_role("heading", name="Ask it something").wait_for()
    assert "pictures" not in page.locator("#chat .welcome").inner_text()
    assert page.locator("#chat .example:visible img").count() == 0
    assert page.get_by_role("tab", name="Video").is_hidden()
    page.wait_for_function("document.querySelector('#composer textarea').placeholder === 'Ask, or drop documents'")
    me.shoot(artifacts / "text-model.png")
    transfer = me._transfer((drawn(),))
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("body", event, {"dataTransfer": transfer})
    page.get_by_text("Not added: red-circle.png. This model takes text and documents.").wait_for()
    page.locator("#chat .starter:visible").first.click()
    assert page.input_value("#composer textarea").startswith("Explain")
    page.press("#composer textarea", "Enter")
    me.finished()


def test_a_wrong_setting_is_marked_where_it_stands(person, workbench_url):
    me = person(workbench_url).arrive()
    me.page.locator("#settings .toggle-button").click()
    box = me.page.locator("#settings .number", has_text="Top p")
    box.get_by_text("up to this share").wait_for()
    assert "number, more than" not in box.inner_text()
    me.set("Top p", "2")
    box.get_by_text("Top p must be a number, more than 0 and at most 1").wait_for()
    assert "wrong" in (box.first.get_attribute("class") or "")
    box.locator("input").fill("0.5")
    box.get_by_text("up to this share").wait_for()
    assert box.locator("input").input_value() == "0.5"


def test_a_file_that_is_dropped_on_another_tab_shows_where_it_went(person, workbench_url, drawn):
    me = person(workbench_url).arrive()
    me.page.get_by_role("tab", name="Cache").click()
    me.drop(drawn())
    me.page.locator("#composer .thumbnail-item").wait_for()
    assert me.page.get_by_role("tab", name="Chat").get_attribute("aria-selected") == "true"


def test_after_an_example_the_next_question_can_be_typed(person, workbench_url):
    me = person(workbench_url).arrive()
    me.page.locator("#chat .example").first.click()
    me.page.locator("#chat .turn.user").wait_for()
    me.page.keyboard.type("And now?")
    assert me.page.locator("#composer textarea").input_value() == "And now?"
