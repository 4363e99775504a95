"""The page in German: no English is left on any tab, nothing is cut off on a phone; and the page's own preferences."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect

from tests.waiting import wait_until
from workbench.language import catalogue

expect.set_options(timeout=60_000)

TABS = {
    "chat": "Chat",
    "compare": "Vergleich",
    "video": "Video",
    "decide": "Entscheiden",
    "batch": "Stapel",
    "cache": "Cache",
    "models": "Modelle",
    "benchmark": "Benchmark",
}
PHONE = {"width": 390, "height": 844}
SHOWN = """() => {
  const out = [];
  for (const node of document.querySelectorAll("body *")) {
    if (["SCRIPT", "STYLE", "TEMPLATE"].includes(node.tagName) || !node.checkVisibility()) continue;
    for (const child of node.childNodes) if (child.nodeType === 3) out.push(child.textContent.trim());
    for (const name of ["title", "placeholder", "aria-label"]) out.push(node.getAttribute(name) ?? "");
  }
  return out.filter(Boolean);
}"""
"""Every text that somebody sees, hears or finds under the pointer."""

CUT = """() => [...document.querySelectorAll("body *")].filter((node) => {
  const box = node.getBoundingClientRect();
  return box.width && node.checkVisibility() && box.right > innerWidth + 1 && node.closest("[style*=overflow]") === null
    && !node.closest(".scroll, pre, .table, #settings, #conversations, .visually-hidden, .strip, .film")
    && !node.closest(".tab-container, .sides");
}).map((node) => `${node.tagName}.${node.className}: ${node.textContent.slice(0, 40)}`)"""


def english() -> set[str]:
    """Texts that stand in German under other words."""
    return {text for text, german in catalogue("de").items() if german != text and len(text) > 3 and "{" not in text}


def test_no_english_is_left(person, workbench_url):
    """One page for all tabs: that a tab's address opens it is test_frame's."""
    me = person(workbench_url, locale="de-DE", viewport=PHONE)
    expect(me.page.locator("html")).to_have_attribute("lang", "de")
    expect(me.page.locator("#header .running")).to_have_text("0 laufen")  # the first figures are here
    left, page = english(), me.page
    for tab, name in TABS.items():
        button = page.locator(f"#tab-{tab}-button").first
        expect(button).to_contain_text(name)
        button.click()
        expect(page.locator(f"#tab-{tab}-button[aria-selected=true]").first).to_be_visible()
        expect(page.locator(f"#tab-{tab}").first).to_contain_text(re.compile(r"\w"))
        me.at_rest()
        wait_until(lambda: not left & set(page.evaluate(SHOWN)), f"English is left on {tab}")
        assert page.evaluate(CUT) == [], tab


def test_sabotage_a_text_without_its_translation(person, workbench_url):
    """Twin: what the test above looks at would show it."""
    me = person(workbench_url, locale="en-US")
    expect(me.page.locator(".welcome h2")).to_have_text("Show it something")
    assert {"Show it something", "Conversations"} <= english() & set(me.page.evaluate(SHOWN))


def test_a_receipt_and_its_cost_in_german(person, workbench_url, drawn):
    me = person(workbench_url, locale="de-DE")
    me.page.locator("#composer input[type=file]").set_input_files(drawn())
    expect(me.page.locator("#cost")).to_contain_text("übrig")
    me.page.locator("#composer textarea").fill("What is in this image?")
    me.page.locator("#composer .submit-button").click()
    expect(me.page.locator(".receipt summary")).to_contain_text("gesehen")
    expect(me.page.locator(".note")).to_contain_text("Token hinein")


def test_the_language_is_chosen_in_the_settings(person, workbench_url):
    me = person(workbench_url, locale="en-US")
    open_settings(me)
    with me.page.expect_navigation():
        me.page.get_by_label("Language").select_option("de")
    expect(me.page.locator(".welcome h2")).to_have_text("Etwas zeigen")
    expect(me.page.locator("#tab-decide-button").first).to_have_text("Entscheiden")
    open_settings(me)
    expect(me.page.get_by_label("Sprache")).to_have_value("de")
    with me.page.expect_navigation():
        me.page.get_by_label("Sprache").select_option("")
    expect(me.page.locator(".welcome h2")).to_have_text("Show it something")


def test_light_or_dark_is_chosen_and_kept(person, workbench_url):
    me = person(workbench_url, color_scheme="light")
    dark = me.page.locator("body.dark")
    open_settings(me)
    me.page.get_by_label("Appearance").select_option("dark")
    expect(dark).to_have_count(1)
    me.page.reload()
    expect(dark).to_have_count(1)
    open_settings(me)
    me.page.get_by_label("Appearance").select_option("light")
    me.page.emulate_media(color_scheme="dark")
    expect(dark).to_have_count(0)
    me.page.get_by_label("Appearance").select_option("")
    expect(dark).to_have_count(1)


def test_empty_fields_show_what_applies_and_all_go_back_to_it(person, workbench_url):
    me = person(workbench_url)
    open_settings(me)
    heat = me.page.locator("#settings .number input").first
    expect(heat).not_to_have_attribute("placeholder", "as the model says")
    float(str(heat.get_attribute("placeholder")))
    heat.fill("1.5")
    me.page.locator("#settings-reset").click()
    expect(heat).to_have_value("")


def open_settings(me: Any) -> None:
    me.page.locator("#settings .toggle-button").click()
    expect(me.page.locator("#settings.open")).to_be_visible()


def test_the_page_to_log_in(person, serve_page, demo_engine):
    """Its title, its first field, a wrong password, the way in and the way out."""
    with serve_page(demo_engine, api_keys=(("anna", "s3cret"),)) as url:
        me = person(url, locale="de-DE")
        expect(me.page).to_have_title("Anmelden · MLX Workbench")
        expect(me.page.get_by_label("Benutzername")).to_be_focused()
        me.page.keyboard.type("anna")
        me.page.get_by_label("Passwort").fill("wrong")
        me.page.keyboard.press("Enter")
        expect(me.page.get_by_role("alert")).to_contain_text("falsch")
        me.complaints.clear()  # the browser's own line about the refused request
        me.page.get_by_label("Passwort").fill("s3cret")
        me.page.keyboard.press("Enter")
        expect(me.page.locator(".welcome h2")).to_have_text("Etwas zeigen")
        open_settings(me)
        me.page.get_by_role("link", name="Abmelden").click()
        expect(me.page.get_by_label("Benutzername")).to_be_focused()
