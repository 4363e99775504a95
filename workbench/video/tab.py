"""The video tab: exactly the frames of a clip that the model would get, what they cost, and which of them mattered.

One HTML component draws itself (video/video.js) and sends one question at a time. Each question holds everything that
its answer needs, so the tab keeps no state of a page. The frames come from Engine.preflight: the engine's own sampler
and processor, on the same request that the chat would send.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.errors import EngineError
from engine.types import FrameSampling, Json, Message, Part, Preflight, Request, Sampling
from workbench.chat.convert import VIDEO_SUFFIXES, note
from workbench.components import QUIET, asking
from workbench.language import catalogued, t
from workbench.miniatures import data_urls
from workbench.shared import Shared
from workbench.video import sheet

if TYPE_CHECKING:
    from engine.core import Engine
    from workbench.chat.tab import ChatTab


NAME = catalogued("Video")
QUESTION = "What happens in this video?"
MAX_ANSWER_TOKENS = 64
"""For answers within this tab; "Ask about it" asks in the chat, with the chat's own limit."""

ANIMATED_SUFFIXES = (".gif", ".webp", ".apng")
"""Of pictures that may move. One that does not is told by the engine."""

SHARP_BYTES = 3_000_000
"""Frames up to this size in total are sent to the page lossless, larger ones lightly compressed."""


def build(engine: Engine, shared: Shared, chat: ChatTab, tabs: gr.Tabs) -> VideoTab:
    """Lay out the tab inside the Tab context of the caller. chat, tabs: for "Ask about it"."""
    return VideoTab(engine, shared, chat, tabs)


class VideoTab:
    """The component of the tab and its callbacks."""

    def __init__(self, engine: Engine, shared: Shared, chat: ChatTab, tabs: gr.Tabs) -> None:
        self._engine = engine
        self._shared = shared
        setup = {
            "samples": _samples(shared),
            "question": QUESTION,
            "suffixes": [*VIDEO_SUFFIXES, *ANIMATED_SUFFIXES],
        }
        answers = {"sheet": self._sheet, "trade": self._trade, "answer": self._answer, "without": self._without}
        with gr.Column(elem_id="video"):
            self.view = asking("Video", setup, answers)
        self._chat = chat
        self.view.click(self.ask, chat.inputs(), [*chat.shown, tabs], **QUIET)

    async def ask(self, values: Mapping[Any, Any], page: gr.Request, event: gr.EventData) -> list[Any]:
        """Send the clip and the question in the chat. Inputs: those of the chat. Outputs: the chat's, tabs."""
        fields = dict(event.fields)
        question = str(fields.get("question") or "").strip() or QUESTION
        try:
            part = self._part(fields)
        except EngineError as error:
            return [*self._chat.notice(values, error.message), gr.skip()]
        if self._chat.is_writing(values):
            words = t("The chat is still answering. Ask again when it is done.")
            return [*self._chat.notice(values, words), gr.skip()]
        return [*await self._chat.ask(values, page, question, part), gr.Tabs(selected="chat")]

    # -- the questions of the page

    async def _sheet(self, fields: Json, page: gr.Request) -> Json:
        """The contact sheet; with `fold`, without frames that show nothing new."""
        preflight = await self._engine.preflight(self._request(fields, page), pictures=True)
        thumbnails = [await _in_turn(sheet.thumbnail, png) for png in preflight.pictures[0]]
        frames = preflight.media[0].frames
        same = sheet.repeats(thumbnails)
        still = sheet.still(frames, same)
        indices = tuple(index for index, _ in frames)
        selected = sheet.distinct(indices, same) if fields.get("fold") and any(same) else indices
        if selected == indices:
            data = sheet.sheet(preflight, same, await _urls(preflight), folds=bool(fields.get("fold")))
            return {**data, "still": still, "indices": None, "rate": self._rate(preflight, fields)}
        preflight = await self._engine.preflight(
            self._request({**fields, "indices": list(selected)}, page), pictures=True
        )
        thumbnail_by_index = dict(zip(indices, thumbnails, strict=True))
        same = sheet.repeats([thumbnail_by_index[index] for index, _ in preflight.media[0].frames])
        data = sheet.sheet(preflight, same, await _urls(preflight), hidden=len(indices) - len(selected))
        return {**data, "still": still, "indices": list(selected), "rate": self._rate(preflight, fields, folded=True)}

    def _rate(self, preflight: Preflight, fields: Json, *, folded: bool = False) -> str:
        asked = sheet.sampling(fields).over(self._engine.config.frames)
        indices = tuple(index for index, _ in preflight.media[0].frames) if folded else asked.indices
        return sheet.rate(preflight.media[0], replace(asked, indices=indices))

    async def _trade(self, fields: Json, page: gr.Request) -> Json:
        """The middle frame, if the same budget of pixels is spread over `count` frames."""
        count = int(fields["count"])
        frames = replace(sheet.sampling(fields), min_frames=count, max_frames=count, indices=None)
        preflight = await self._engine.preflight(self._request(fields, page, frames), pictures=True)
        middle = preflight.pictures[0][len(preflight.pictures[0]) // 2]
        receipt = preflight.media[0]
        return {
            "frames": len(receipt.frames),
            "seen": list(receipt.seen_px),
            "tokens": receipt.tokens,
            "url": (await data_urls([middle]))[0],
            "fits": preflight.left >= 0,
        }

    async def _answer(self, fields: Json, page: gr.Request) -> Json:
        """The greedy answer and its tokens; with `weigh`, its log-probability with all frames in their present size."""
        request = self._request(fields, page)
        completion = await self._engine.complete(request)
        done = completion.done
        answer = {"text": completion.text, "note": note(done), "ids": list(completion.token_ids)}
        if not fields.get("weigh"):
            return answer
        receipt = done.media[0]
        indices = list(dict.fromkeys(index for index, _ in receipt.frames))
        same = self._request(fields, page, sheet.same_size(indices, receipt.seen_px))
        logprobs = await self._engine.likelihood(same, completion.token_ids)
        rest = [list(remaining) for remaining in sheet.without_each_pair(indices)]
        return {**answer, "logprob": sum(logprobs), "indices": indices, "rest": rest, "seen": list(receipt.seen_px)}

    async def _without(self, fields: Json, page: gr.Request) -> Json:
        """The log-probability of the same answer with fewer frames, each in its present size."""
        frames = sheet.same_size([int(index) for index in fields["rest"]], fields["seen"])
        ids = tuple(int(token) for token in fields["ids"])
        return {"logprob": sum(await self._engine.likelihood(self._request(fields, page, frames), ids))}

    # -- requests

    def _part(self, fields: Mapping[str, Any], frames: FrameSampling | None = None) -> Part:
        path = self._shared.uploaded(str(fields.get("path") or ""))
        return Part("video", path=path, frames=frames or sheet.sampling(fields), param=PurePath(path).name)

    def _request(self, fields: Mapping[str, Any], page: gr.Request, frames: FrameSampling | None = None) -> Request:
        """The request of a new chat with the header's model: the clip, then the question."""
        question = str(fields.get("question") or "").strip() or QUESTION
        parts = (self._part(fields, frames), Part("text", question, param="question"))
        return Request(
            messages=(Message("user", parts),),
            sampling=Sampling(temperature=0.0),
            max_tokens=MAX_ANSWER_TOKENS,
            model=str(fields.get("model") or "") or None,
            source="video",
            session=page.session_hash,
            tenant=self._shared.caller(page).tenant(),
        )


def _samples(shared: Shared) -> list[Json]:
    """The clips among the example cards, each once."""
    paths = dict.fromkeys(path for sample in shared.samples for path in sample.paths)
    return [
        {"path": path, "name": PurePath(path).stem.replace("-", " ")}
        for path in paths
        if PurePath(path).suffix.lower() in VIDEO_SUFFIXES
    ]


async def _in_turn(work: Callable[[bytes], Any], png: bytes) -> Any:
    """Do some milliseconds of work, then let the event loop run."""
    done = work(png)
    await asyncio.sleep(0)
    return done


async def _urls(preflight: Preflight) -> list[str]:
    pngs = preflight.pictures[0]
    if sum(map(len, pngs)) > SHARP_BYTES:
        return await data_urls(pngs)
    return [f"data:image/png;base64,{base64.b64encode(png).decode()}" for png in pngs]
