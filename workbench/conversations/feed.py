"""What one open page is told, as server-sent events: the header's figures, that its list or its conversation changed,
and the answer that is being written. Event loop only.

Plain HTTP, not Gradio's queue: a connection that breaks is opened again by the browser, and the page stays.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from engine.types import Json
from workbench.conversations.answers import AnswerRun
from workbench.conversations.library import ConversationLibrary, OpenPage
from workbench.conversations.owned import OwnedConversations
from workbench.conversations.types import Turn

BEAT_S = 1.0
"""How often a page hears something at least: silence tells it that the connection is dead."""

STOPPED = "stopped"

DrawAnswer = Callable[[Turn, str], list[Json]]


@dataclass(frozen=True)
class Voices:
    """Where the words come from, for somebody who manages models or not. status: of the header; its "state" is STOPPED
    once the engine has ended. models: what there is to tell of models, by kind of event. manages_models: whether this
    page does. runs: the same of the runs of an owner. server: the same of the server's process, for somebody who runs
    it or not; runs_server: whether this page does.

    answer: makes what draws one answer: a turn that is being written and what it waits for -> its parts, as the page's
    chat takes them.
    """

    status: Callable[[bool], Json]
    answer: Callable[[], DrawAnswer]
    version: str
    models: Callable[[bool], dict[str, Json]] = lambda manages: {}
    runs: Callable[[str], dict[str, Json]] = lambda owner: {}
    manages_models: bool = False
    server: Callable[[bool], dict[str, Json]] = lambda runs: {}
    runs_server: bool = False


@dataclass
class Told:
    """What the page has heard so far."""

    status: Json | None = None
    status_s: float = 0.0
    others: dict[str, Json] = field(default_factory=dict)
    kept: Json | None = None
    list_number: int = -1
    conversation: str | None = None
    revision: int | None = None
    run: AnswerRun | None = None
    draw: DrawAnswer | None = None
    num_tokens: int = -1
    answer_s: float = 0.0


async def feed(
    library: ConversationLibrary, owned: OwnedConversations, page: str, conversation: str, voices: Voices
) -> AsyncIterator[str]:
    """The events of one page until it goes away or the server ends. page: what it calls itself."""
    here = library.listen(page, owned.owner, conversation)
    told, status_s = Told(), 0.0
    try:
        yield event({"kind": "hello", "version": voices.version})
        while told.status is None or told.status.get("state") != STOPPED:
            here.wake.clear()
            wanted = here.conversation
            is_theirs = not wanted or wanted == told.conversation or await library.look_up(owned, wanted)
            if here.conversation != wanted:
                continue  # the page shows another one meanwhile
            if not is_theirs:
                here.conversation = ""  # they hear nothing of it
            with ExitStack() as watch:
                if here.conversation:
                    watch.enter_context(library.answers.watching(here.conversation))
                news = _news(library, here, told, voices)
                if told.status_s != status_s:
                    status_s = told.status_s
                    others = {**voices.models(voices.manages_models), **voices.runs(owned.owner)}
                    news += _of_others(told, {**others, **voices.server(voices.runs_server)})
                for one in news:
                    yield event(one)
                run = library.answers.get(here.conversation)
                with suppress(TimeoutError):
                    await asyncio.wait_for(here.wake.wait(), min(BEAT_S, run.period_s()) if run else BEAT_S)
    finally:
        library.leave(page, here)


def _of_others(told: Told, now: dict[str, Json]) -> list[Json]:
    """What has changed of the models, the runs and the server; looked at as often as the header's figures."""
    news = [{"kind": kind, **value} for kind, value in now.items() if told.others.get(kind) != value]
    told.others = now
    return news


def event(value: Json) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _news(library: ConversationLibrary, here: OpenPage, told: Told, voices: Voices) -> list[Json]:
    """What the page has not heard yet."""
    now_s = time.monotonic()
    news: list[Json] = []
    if now_s - told.status_s >= 0.95 * BEAT_S:
        status = voices.status(voices.manages_models)
        news.append({"kind": "status", "status": status} if status != told.status else {"kind": "beat"})
        told.status, told.status_s = status, now_s
    if (kept := library.how_kept()) != told.kept:
        told.kept = kept
        news.append({"kind": "kept", **kept})
    if (number := library.list_number(here.owner)) != told.list_number:
        told.list_number = number
        news.append({"kind": "list"})
    revision = library.revision(here.conversation)
    run = library.answers.get(here.conversation)
    if revision is not None and (here.conversation, revision) != (told.conversation, told.revision):
        is_writing = run is not None
        what = {"conversation": here.conversation, "revision": revision, "is_writing": is_writing}
        news.append({"kind": "conversation", **what})
    told.conversation, told.revision = here.conversation, revision
    if run is not None and (run is not told.run or _is_due(run, told, now_s)):
        if told.draw is None or run is not told.run:
            told.draw = voices.answer()
        told.run, told.num_tokens, told.answer_s = run, run.num_tokens, now_s
        turn = run.turn
        waits_for = "" if turn.text or turn.reasoning else run.waiting()
        who = {"conversation": here.conversation, "turn": turn.id, "parent": turn.parent}
        news.append({"kind": "answer", **who, "parts": told.draw(turn, waits_for)})
    return news


def _is_due(run: AnswerRun, told: Told, now_s: float) -> bool:
    """New text, or time to say anew what it waits for."""
    if run.num_tokens == told.num_tokens:
        return not run.num_tokens and now_s - told.answer_s >= BEAT_S
    return now_s - told.answer_s >= 0.8 * run.period_s()
