"""The video tab: exactly the frames of a clip that the model would get, what they cost, and which of them mattered.

One HTML component draws itself (video/video.js) and asks, one thing at a time; each question carries all that its
answer needs, so the tab holds nothing of any page. What is drawn comes from Engine.preflight: the engine's own sampler
and processor, on the very request that the chat would send.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import gradio as gr

from engine.errors import EngineError
from engine.types import FrameSampling, Json, Message, Part, Preflight, Request, Sampling
from workbench.chat.convert import VIDEO_SUFFIXES, ChatEntry, note
from workbench.chat.session import Session
from workbench.chat.tab import said
from workbench.drawn import QUIET, drawn
from workbench.miniatures import data_urls
from workbench.shared import Shared
from workbench.video import sheet

if TYPE_CHECKING:
    from engine.core import Engine
    from workbench.chat.tab import ChatTab


NAME = "Video"
QUESTION = "What happens in this video?"
MAX_ANSWER_TOKENS = 64
"""Of an answer that is only compared; "Ask about it" asks in the chat, with the chat's own limit."""

SHARP_BYTES = 3_000_000
"""Frames are sent to the page without loss up to here, and lightly compressed beyond."""


def build(engine: Engine, shared: Shared, chat: ChatTab, tabs: gr.Tabs) -> VideoTab:
    """Lay out the tab inside the Tab context of the caller. chat, tabs: where "Ask about it" leads."""
    return VideoTab(engine, shared, chat, tabs)


class VideoTab:
    """The component of the tab and its callbacks."""

    def __init__(self, engine: Engine, shared: Shared, chat: ChatTab, tabs: gr.Tabs) -> None:
        self._engine = engine
        self._shared = shared
        self._answers: dict[str, Callable[[Json, gr.Request], Awaitable[Json]]] = {
            "look": self._look,
            "trade": self._trade,
            "answer": self._answer,
            "without": self._without,
        }
        with gr.Column(elem_id="video"):
            self.view = drawn(
                "video",
                "workbenchVideo.view(element, props, watch, trigger, upload)",
                "video-view",
                given={"samples": _samples(shared), "question": QUESTION, "suffixes": list(VIDEO_SUFFIXES)},
            )
        self.view.submit(self.reply, None, self.view, trigger_mode="multiple", **QUIET)
        asked = self.view.click(self.ask, chat.session, [chat.chat, chat.composer, tabs], **QUIET)
        chat.then_answer(asked)

    async def reply(self, page: gr.Request, event: gr.EventData) -> Json:
        """The page asked something. Inputs: none. Outputs: view; turn says to which question."""
        try:
            said = await self._answers[str(event.what)](dict(event.asked), page)
        except EngineError as error:
            said = {"error": error.message}
        return {"turn": event.turn, **said}

    async def ask(self, session: Session, event: gr.EventData) -> tuple[Any, Any, Any]:
        """The clip and the question join the chat, which is shown. Inputs: session. Outputs: chat, composer, tabs."""
        asked = dict(event.asked)
        question = str(asked.get("question") or "").strip() or QUESTION
        try:
            part = self._part(asked)
        except EngineError as error:
            gr.Warning(error.message)
            return gr.skip(), gr.skip(), gr.skip()
        if session.answer is not None:
            gr.Warning("The chat is still answering. Ask again when it is done.")
            return gr.skip(), gr.skip(), gr.skip()
        clip = ChatEntry("user", "video", path=part.path, part=part)
        return *said(session, (clip, ChatEntry("user", "text", question))), gr.Tabs(selected="chat")

    # -- what the page may ask

    async def _look(self, asked: Json, page: gr.Request) -> Json:
        """The contact sheet; frames that show nothing new are left out if asked."""
        found = await self._engine.preflight(self._request(asked, page), pictures=True)
        thumbs = [await _in_turn(sheet.thumb, png) for png in found.pictures[0]]
        frames = found.media[0].frames
        same = sheet.repeats(thumbs)
        still = sheet.still(frames, same)
        indices = tuple(index for index, _ in frames)
        shown = sheet.folded(indices, same) if asked.get("fold") and any(same) else indices
        if shown == indices:
            return {**sheet.sheet(found, same, await _urls(found)), "still": still, "indices": None}
        found = await self._engine.preflight(self._request({**asked, "indices": list(shown)}, page), pictures=True)
        kept = dict(zip(indices, thumbs, strict=True))
        same = sheet.repeats([kept[index] for index, _ in found.media[0].frames])
        drawn = sheet.sheet(found, same, await _urls(found), hidden=len(indices) - len(shown))
        return {**drawn, "still": still, "indices": list(shown)}

    async def _trade(self, asked: Json, page: gr.Request) -> Json:
        """The same budget spread over so many frames: what one of them is then."""
        count = int(asked["count"])
        frames = replace(sheet.sampling(asked), min_frames=count, max_frames=count, indices=None)
        found = await self._engine.preflight(self._request(asked, page, frames), pictures=True)
        middle = found.pictures[0][len(found.pictures[0]) // 2]
        receipt = found.media[0]
        return {
            "frames": len(receipt.frames),
            "seen": list(receipt.seen_px),
            "tokens": receipt.tokens,
            "url": (await data_urls([middle]))[0],
            "fits": found.left >= 0,
        }

    async def _answer(self, asked: Json, page: gr.Request) -> Json:
        """The likeliest answer (greedy), its tokens, and how likely it is with all frames in the size they have."""
        request = self._request(asked, page)
        completion = await self._engine.complete(request)
        done = completion.done
        told = {"text": completion.text, "note": note(done), "ids": list(completion.token_ids)}
        if not asked.get("weigh"):
            return told
        receipt = done.media[0]
        indices = list(dict.fromkeys(index for index, _ in receipt.frames))
        same = self._request(asked, page, sheet.kept_size(indices, receipt.seen_px))
        logprobs = await self._engine.likelihood(same, completion.token_ids)
        rest = [list(left) for left in sheet.left_out(indices)]
        return {**told, "logprob": sum(logprobs), "indices": indices, "rest": rest, "seen": list(receipt.seen_px)}

    async def _without(self, asked: Json, page: gr.Request) -> Json:
        """How likely the same answer is with fewer frames, each in the size it had."""
        frames = sheet.kept_size([int(index) for index in asked["rest"]], asked["seen"])
        ids = tuple(int(token) for token in asked["ids"])
        return {"logprob": sum(await self._engine.likelihood(self._request(asked, page, frames), ids))}

    # -- requests

    def _part(self, asked: Mapping[str, Any], frames: FrameSampling | None = None) -> Part:
        path = self._shared.uploaded(str(asked.get("path") or ""))
        return Part("video", path=path, frames=frames or sheet.sampling(asked), param=PurePath(path).name)

    def _request(self, asked: Mapping[str, Any], page: gr.Request, frames: FrameSampling | None = None) -> Request:
        """What a new chat would send: the clip, then the question."""
        question = str(asked.get("question") or "").strip() or QUESTION
        parts = (self._part(asked, frames), Part("text", question, param="question"))
        return Request(
            messages=(Message("user", parts),),
            sampling=Sampling(temperature=0.0),
            max_tokens=MAX_ANSWER_TOKENS,
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
    """Some milliseconds of work; then the event loop gets a turn."""
    done = work(png)
    await asyncio.sleep(0)
    return done


async def _urls(found: Preflight) -> list[str]:
    pngs = found.pictures[0]
    if sum(map(len, pngs)) > SHARP_BYTES:
        return await data_urls(pngs)
    return [f"data:image/png;base64,{base64.b64encode(png).decode()}" for png in pngs]
