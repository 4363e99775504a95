"""Components that the page's own scripts draw from plain values (static/draw.js), and sending them their values."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.i18n import I18nData

from engine.errors import EngineError, Internal
from engine.types import Json
from workbench.language import t

log = logging.getLogger(__name__)
Callback = Callable[..., Any]
Answer = Callable[[Json, gr.Request], Awaitable[Json]]
"""(fields of a question, the page that asks) -> fields of the reply. Raises EngineError, whose message is shown."""

MARK = "__i18n__"
"""Before the JSON that Gradio makes of a text that is to be translated; of a button's text it is a plain string."""

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""For events of the page's own scripts: outside Gradio's queue, without a progress display."""


def component(part: str, call: str, elem_id: str, value: Json | None = None, **more: Any) -> gr.HTML:
    """A component that a script draws. Its template never changes, so Gradio does not draw it again.

    part: the class of the element to draw in. call: the script's function with its arguments.
    """
    return gr.HTML(
        value,
        html_template=f'<div class="{part}"></div>',
        js_on_load=call,
        apply_default_css=False,
        elem_id=elem_id,
        **more,
    )


def static(text: str) -> Any:
    """A text of a component that Gradio draws, for whoever reads it (`Page`).

    text: a literal, for the catalogue.
    """
    return gr.I18n()(text)


class Page(gr.Blocks):
    """Gradio's page with its texts from `static` in the reader's language. Gradio itself would go by the browser's
    language alone, and looks each of them up in the browser.
    """

    @property
    def config(self) -> Any:
        """What a browser is told of the page."""
        return _told(self._config)

    @config.setter
    def config(self, value: Any) -> None:
        self._config = value


def _told(value: Any) -> Any:
    """The value with its texts from `static` in the reader's language."""
    if isinstance(value, dict):
        return {name: _told(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_told(one) for one in value]
    if isinstance(value, str | I18nData) and str(value).startswith(MARK):
        return t(json.loads(str(value).removeprefix(MARK))["key"])
    return value


def components(script: str, names: Sequence[str]) -> list[gr.HTML]:
    """A component for each function of window.workbench<script>, e.g. "Cache": "blocks" is drawn in #cache-blocks."""
    return [
        component(name, f"workbench{script}.{name}(element, props, watch, trigger)", f"{script.lower()}-{name}")
        for name in names
    ]


def asking(script: str, setup: Json, answers: Mapping[str, Answer]) -> gr.HTML:
    """A whole tab that window.workbench<script>.view draws, and whose questions (video/queue.js) are answered.

    setup: what the script gets once. answers: by the name of the question.
    """

    async def reply(page: gr.Request, event: gr.EventData) -> Json:
        return await reply_to(answers, page, event)

    name = script.lower()
    call = f"workbench{script}.view(element, props, watch, trigger, upload)"
    view = component(name, call, f"{name}-view", setup=setup)
    view.submit(reply, None, view, trigger_mode="multiple", **QUIET)
    return view


async def reply_to(answers: Mapping[str, Answer], page: gr.Request, event: gr.EventData) -> Json:
    """The reply to one question; turn says to which. There always is one: the script asks nothing more before it."""
    try:
        found = await answers[str(event.what)](dict(event.fields), page)
    except EngineError as error:
        found = {"error": error.message}
    except Exception:
        log.exception("a question of the page failed")
        found = {"error": Internal(t("Something went wrong inside the workbench; its log has the details.")).message}
    return {"turn": event.turn, **found}


def serial() -> int:
    """A number that no reply of before had, so that the page sees each reply, equal or not. Microseconds."""
    return time.time_ns() // 1000


def refusal(error: EngineError) -> Json:
    """For the field `refusal` of a part's value: the page says it once (static/draw.js). gr.Warning would not be shown,
    as it needs Gradio's queue."""
    return {"words": error.message, "serial": serial()}


def while_shown(  # noqa: PLR0913
    tabs: gr.Tabs,
    tick: Callback,
    on_select: Callback,
    view: gr.State,
    parts: Sequence[gr.HTML],
    *,
    every_s: float = 1.0,
) -> None:
    """Call tick every so often while a tab is shown.

    tick: view -> parts. on_select: view -> clock, parts; called when any tab is selected, to start or stop the clock.
    """
    clock = gr.Timer(every_s, active=False)
    clock.tick(tick, view, [*parts], **QUIET)
    tabs.select(on_select, view, [clock, *parts], **QUIET)


def changed(sent: dict[str, str], name: str, value: Json) -> Any:
    """The value, or gr.skip() if it equals the last one sent under this name. sent: digests by name, updated here."""
    digest = hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=12).hexdigest()
    if sent.get(name) == digest:
        return gr.skip()
    sent[name] = digest
    return value
