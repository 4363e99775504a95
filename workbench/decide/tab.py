"""The Decide tab: a picture, a clip or a text once, any number of typed questions about it, bars of probability.

One HTML component draws itself (decide/decide.js) and sends one question at a time, which holds everything that its
answer needs. What is asked goes to Engine.decide, as /v1/decisions does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.batch_run import question_table
from engine.errors import BadRequest
from engine.types import Decisions, Json, Message, Part, Request
from workbench.chat.convert import MEDIA_SUFFIXES, media_kind
from workbench.components import QUIET, asking
from workbench.decide import sheet
from workbench.language import catalogued, t
from workbench.shared import Shared

if TYPE_CHECKING:
    from engine.core import Engine


NAME = catalogued("Decide")
EXAMPLES: list[Json] = [
    {"question": "Is there a circle?", "type": "yes or no", "options": []},
    {
        "question": "What color is the circle?",
        "type": "choice",
        "options": ["red", "orange", "yellow", "green", "blue"],
    },
    {"question": "How many shapes are there?", "type": "score", "options": ["none", "one", "two", "three"]},
]


def build(engine: Engine, shared: Shared) -> DecideTab:
    """Lay out the tab inside the Tab context of the caller."""
    return DecideTab(engine, shared)


class DecideTab:
    """The component of the tab and its callbacks. Of a page it holds only what runs for it, to stop it."""

    def __init__(self, engine: Engine, shared: Shared) -> None:
        self._engine = engine
        self._shared = shared
        self._running: dict[str, asyncio.Task[Decisions]] = {}
        setup = {
            "samples": _samples(shared),
            "examples": EXAMPLES,
            "kinds": list(question_table.KINDS),
            "suffixes": list(MEDIA_SUFFIXES),
        }
        answers = {"decide": self._decide, "import": self._import, "export": self._export}
        with gr.Column(elem_id="decide"):
            self.view = asking("Decide", setup, answers)
        self.view.click(self.stop, None, None, trigger_mode="multiple", **QUIET)

    async def stop(self, page: gr.Request) -> None:
        """Stop what runs for this page. Inputs and outputs: none."""
        task = self._running.get(page.session_hash or "")
        if task is not None:
            task.cancel()

    async def _decide(self, fields: Json, page: gr.Request) -> Json:
        questions = question_table.typed_questions(fields.get("rows") or ())
        task = asyncio.ensure_future(self._engine.decide(self._request(fields, page), questions))
        session = page.session_hash or ""
        self._running[session] = task
        try:
            return sheet.answers_json(questions, await task)
        except asyncio.CancelledError:
            if not task.cancelled():  # the page is gone, not only its wish
                task.cancel()
                raise
            return {"error": t("Stopped.")}
        finally:
            if self._running.get(session) is task:
                del self._running[session]

    async def _import(self, fields: Json, page: gr.Request) -> Json:
        return {"rows": question_table.read_csv(str(fields.get("csv") or ""))}

    async def _export(self, fields: Json, page: gr.Request) -> Json:
        return {"csv": sheet.write_csv(fields.get("rows") or (), fields.get("answers") or ())}

    def _request(self, fields: Mapping[str, Any], page: gr.Request) -> Request:
        """What the questions are about: the file, then the text. model: that of the header; "" for the default one."""
        parts: list[Part] = []
        if fields.get("path"):
            path = self._shared.uploaded(str(fields["path"]))
            parts.append(Part(media_kind(path), path=path, param=PurePath(path).name))
        if text := str(fields.get("text") or "").strip():
            parts.append(Part("text", text, param="text"))
        if not parts:
            raise BadRequest(t("There is nothing to ask about yet: add a picture, a clip or a text."))
        return Request(
            messages=(Message("user", tuple(parts)),),
            model=str(fields.get("model") or "") or None,
            source="decide",
            session=page.session_hash,
            tenant=self._shared.caller(page).tenant(),
        )


def _samples(shared: Shared) -> list[Json]:
    """The files among the example cards that stand alone on theirs, each once."""
    paths = dict.fromkeys(sample.paths[0] for sample in shared.samples if len(sample.paths) == 1)
    return [
        {"path": path, "name": PurePath(path).stem.replace("-", " "), "isClip": media_kind(path) == "video"}
        for path in paths
    ]
