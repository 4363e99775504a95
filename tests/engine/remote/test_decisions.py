"""Questions and tokens passed on to another server: as it answers them itself, or refused where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fastapi import Response
from fastapi.responses import JSONResponse

from engine.access.visibility import Caller
from engine.errors import BadGateway, BadRequest, EngineError, ModelNotFound, Unavailable
from engine.types import YES_NO, Option, Part, Request, TypedQuestion
from tests.engine.drive import chat, part
from tests.engine.remote.conftest import EngineAt
from tests.engine.remote.test_odd_servers import StandIn
from tests.pictures import picture


def asked(kind: Any, text: str, *options: str, media: tuple[Part, ...] = ()) -> TypedQuestion:
    texts = options or YES_NO
    return TypedQuestion(kind, (*media, Part("text", text=text)), tuple(map(Option, texts)), f"questions[{text}]")


QUESTIONS = (
    asked("predicate", "There is a red circle."),
    asked("choice", "What color is it?", "red", "blue", "green"),
    asked("score", "How many circles are there?", "none", "one", "two"),
)
ABOUT = replace(chat("Look."), max_tokens=None)


async def test_the_same_probabilities_as_there(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    """With a picture of the input, one of a question, and what an option means; the log has them, too."""
    await demo_engine.ready()
    far = engine_at(demo_server.url)
    described = Option("blue", (Part("text", text="like the sky"),))
    questions = (
        *QUESTIONS,
        replace(QUESTIONS[1], options=(Option("red"), described)),
        asked("predicate", "It is a square.", media=(part(picture("blue", "square")),)),
    )
    about = replace(ABOUT, messages=chat(picture("red")).messages)
    here, there = await demo_engine.decide(about, questions), await far.decide(about, questions)
    assert len(there.answers) == 5 and there.answers[1].best == 0
    for one, other in zip(here.answers, there.answers, strict=True):
        assert other.probabilities == pytest.approx(one.probabilities, abs=1e-4)
    assert there.done.usage.prompt_tokens == here.done.usage.prompt_tokens
    assert [one.seen_px for one in there.done.media] == [one.seen_px for one in here.done.media]
    assert there.done.served_by is not None and there.done.served_by.tells_usage
    [record] = far.requests.records()
    assert record.status == "finished" and far.num_open == 0 and far._tickets.held_bytes == 0


async def test_what_a_prompt_takes(demo_engine: Any, demo_server: Any, engine_at: EngineAt) -> None:
    await demo_engine.ready()
    far = engine_at(demo_server.url)
    for request in (chat("Hello"), chat(picture("red"), "What is it?")):
        here, there = await demo_engine.preflight(request), await far.preflight(request)
        assert (there.tokens, there.left) == (here.tokens, here.left)
        assert [(one.seen_px, one.tokens) for one in there.media] == [(one.seen_px, one.tokens) for one in here.media]
    assert await far.detokenize(list(there.tokens)) == await demo_engine.detokenize(list(there.tokens))
    assert not far.requests.records() and not far.snapshot().running


Asker = Callable[..., Any]


@pytest.fixture
def ask(serve: Any, engine_at: EngineAt) -> Any:
    """ask(work, answer): what work(engine) gives of a server that answers so; ask.server, ask.engine."""
    server = StandIn()
    with serve(server.app()) as url:
        engine = engine_at(url, model="odd")

        def made(work: Asker, answer: Response | Any) -> Any:
            server.answer = answer if isinstance(answer, Response) else JSONResponse(answer)
            return asyncio.run(work(engine))

        made.server, made.engine = server, engine  # type: ignore[attr-defined]
        yield made


def decide(engine: Any, request: Request = ABOUT, questions: Any = QUESTIONS) -> Any:
    return engine.decide(request, questions)


def likely(name: str, **probabilities: float) -> list[Any]:
    return [{name: option, "probability": value} for option, value in probabilities.items()]


ANSWERS: list[Any] = [
    {"type": "predicate", "name": None, "probability": 0.75},
    {"type": "choice", "probabilities": likely("value", green=0, red=1, blue=0)},
    {"type": "score", "probabilities": likely("label", none=0, one=0.5, two=0.5)},
]


def test_what_is_asked_and_what_is_read(ask: Any) -> None:
    """Options by their words, whatever their order; of what is not told nothing is made up."""
    request = replace(ABOUT, tenant=Caller("ann").tenant("pepper"), reuse=False)
    found = ask(lambda engine: decide(engine, request), {"answers": ANSWERS})
    assert [one.probabilities for one in found.answers] == [(0.75, 0.25), (1.0, 0.0, 0.0), (0.0, 0.5, 0.5)]
    assert found.done.served_by is not None and not found.done.served_by.tells_usage and found.written_tokens == 0
    [body] = ask.server.asked
    assert ask.server.paths == ["v1/decisions"] and body["model"] == "odd"
    assert body["input"] == [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Look."}]}]
    assert body["questions"][2]["levels"] == [{"label": "none"}, {"label": "one"}, {"label": "two"}]
    assert body["prompt_cache_options"] == {"mode": "explicit"} and len(body["prompt_cache_key"]) == 64
    assert body["prompt_cache_key"] != Caller().tenant("pepper").partition("\0")[2], "the hash of the salt alone"


@pytest.mark.parametrize(
    "answers",
    [
        None,
        7,
        ANSWERS[:2],
        [*ANSWERS, ANSWERS[0]],
        [ANSWERS[1], ANSWERS[1], ANSWERS[2]],
        [{**ANSWERS[0], "probability": 1.5}, *ANSWERS[1:]],
        [{**ANSWERS[0], "probability": True}, *ANSWERS[1:]],
        [{**ANSWERS[0], "probability": "0.5"}, *ANSWERS[1:]],
        [{**ANSWERS[0], "probability": 10**400}, *ANSWERS[1:]],
        [ANSWERS[0], {**ANSWERS[1], "probabilities": ANSWERS[1]["probabilities"][:2]}, ANSWERS[2]],
    ],
)
def test_what_is_no_answer_to_them(ask: Any, answers: Any) -> None:
    with pytest.raises(BadGateway, match="cannot be read"):
        ask(decide, {"answers": answers})


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_server_without_the_route_is_asked_once(ask: Any, status: int) -> None:
    lacks = Response('{"detail": "Not here"}', status)
    for _ in range(2):
        with pytest.raises(
            BadRequest, match=rf"does not have /v1/decisions; it answered {status}: Not here\."
        ) as refused:
            ask(decide, lacks)
        assert refused.value.code == "remote_model"
    assert len(ask.server.asked) == 1
    [link] = ask.engine._remote._links.values()
    for error in (Unavailable("away"), None):  # it may come back as a newer one
        ask.engine._remote._show(link, error)
    assert ask(decide, {"answers": ANSWERS}).answers


def test_a_route_of_the_same_name_with_other_fields(ask: Any) -> None:
    """As mlx-vlm's server has one; a fault further inside is one of the request."""
    words = "Input should be a valid dictionary"
    other = {"type": "dict_type", "loc": ["body", "questions"], "msg": words, "input": [1]}
    words = r"has another /v1/decisions; it answered 422: questions: Input should be a valid dictionary\."
    for _ in range(2):
        with pytest.raises(BadRequest, match=words) as refused:
            ask(decide, JSONResponse({"detail": [other]}, 422))
        assert refused.value.code == "remote_model"
    assert len(ask.server.asked) == 1
    ask.engine._remote._links["far"].lacks.clear()
    with pytest.raises(BadRequest, match="answered 422") as refused:
        ask(decide, JSONResponse({"detail": [{**other, "loc": ["body", "questions", 0]}]}, 422))
    assert refused.value.code == "invalid_value"


def test_other_refusals_are_not_remembered(ask: Any) -> None:
    unknown = JSONResponse({"error": {"message": "no such model", "code": "model_not_found"}}, 404)
    with pytest.raises(ModelNotFound):
        ask(decide, unknown)
    with pytest.raises(EngineError, match="broken"):
        ask(decide, Response("broken", 500))
    assert ask(decide, {"answers": ANSWERS}).answers


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (
            replace(QUESTIONS[0], options=(Option("Yes", (Part("text", text="so"),)), Option("No"))),
            "what yes and no mean",
        ),
        (replace(QUESTIONS[1], options=(Option("red"),)), "one option only"),
        (replace(QUESTIONS[1], options=(Option("red", (part(picture()),)), Option("blue"))), "described by a medium"),
        (replace(QUESTIONS[1], instructions=()), "no instructions"),
    ],
)
def test_what_cannot_be_said_there(ask: Any, question: TypedQuestion, why: str) -> None:
    with pytest.raises(BadRequest, match=why) as refused:
        ask(lambda engine: decide(engine, ABOUT, (question,)), {})
    assert refused.value.code == "remote_model" and not ask.server.asked


def test_a_count_that_may_be_without_the_pictures_is_none(ask: Any) -> None:
    """vLLM's /tokenize says nothing of media; its count of a text is taken."""
    told = {"count": 2, "max_model_len": 100, "tokens": [5, 7]}
    found = ask(lambda engine: engine.preflight(chat("Hi")), told)
    assert (found.tokens, found.left, found.ttft_ms) == ((5, 7), 98, None) and ask.server.paths == ["tokenize"]
    with pytest.raises(BadRequest, match="does not say how many tokens each medium takes") as refused:
        ask(lambda engine: engine.preflight(chat(picture(), "Hi")), told)
    assert refused.value.code == "remote_model"
    odd: list[dict[str, Any]] = [{"tokens": [-1]}, {"tokens": [True]}, {"tokens": [2**70]}, {"tokens": "x"}]
    odd += [{"max_model_len": None}, {"ttft_ms": "nan"}, {"ttft_ms": 10**400}, {"cached_tokens": -1}]
    for wrong in ({}, *({**told, **one} for one in odd)):
        with pytest.raises(BadGateway, match="cannot be read"):
            ask(lambda engine: engine.preflight(chat("Hi")), wrong)
    seen = {"kind": "image", "bytes": 1, "decoded": [1, 1], "seen": [1, 1], "tokens": 1, "sha256": ""}
    with_picture = lambda engine: engine.preflight(chat(picture(), "Hi"))  # noqa: E731
    assert ask(with_picture, {**told, "media": [seen]}).media[0].tokens == 1
    for wrong in ({"duration": "nan"}, {"tokens": -1}, {"bytes": True}, {"fetch_ms": 10**400}):
        with pytest.raises(BadRequest, match="does not say how many tokens each medium takes"):
            ask(with_picture, {**told, "media": [{**seen, **wrong}]})


def test_a_preflight_counts_what_the_request_would_find_in_the_cache(ask: Any) -> None:
    told = {"count": 1, "max_model_len": 100, "tokens": [5]}
    request = replace(chat("Hi"), tenant=Caller("ann").tenant("pepper"))
    ask(lambda engine: engine.preflight(request), told)
    whole = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}
    ask(lambda engine: engine.complete(request), whole)
    counted, answered = ask.server.asked
    assert counted["cache_salt"] == answered["cache_salt"] and len(counted["cache_salt"]) == 64


def test_an_error_in_a_200_keeps_its_words(ask: Any) -> None:
    works: list[Asker] = [decide, lambda engine: engine.preflight(chat("Hi")), lambda engine: engine.detokenize([5])]
    for work in works:
        with pytest.raises(BadGateway, match="stopped with an error: out of memory"):
            ask(work, {"error": {"message": "out of memory"}})


def test_a_route_that_is_lacking_costs_no_media(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    about, read = replace(ABOUT, messages=chat(picture("red"), "Look.").messages), []
    as_sent = ask.engine._remote._media.as_sent
    monkeypatch.setattr(ask.engine._remote._media, "as_sent", lambda *given: read.append(given) or as_sent(*given))
    for _ in range(2):
        with pytest.raises(BadRequest, match="does not have"):
            ask(lambda engine: decide(engine, about), Response("", 404))
    assert len(read) == len(ask.server.asked) == 1


def test_a_limit_of_pictures_is_one_of_each_question(ask: Any) -> None:
    """The input and one question are what its model reads at once."""
    takes = {"vision": True, "images_per_prompt": 1}
    ask.server.models = JSONResponse({"data": [{"id": "odd", "capabilities": takes}]})
    asyncio.run(ask.engine.reached())
    seeing = replace(QUESTIONS[0], instructions=(part(picture()), Part("text", text="A circle.")))
    assert ask(lambda engine: decide(engine, ABOUT, (seeing,) * 3), {"answers": ANSWERS[:1] * 3}).answers
    about = replace(ABOUT, messages=chat(picture("red"), "Look.").messages)
    with pytest.raises(BadRequest, match="2 images were sent; the limit is 1 per prompt"):
        ask(lambda engine: decide(engine, about, (QUESTIONS[0], seeing)), {})


def test_no_more_threads_is_said_and_does_not_last(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = ask.engine._remote
    asyncio.run(ask.engine.reached())
    aside = remote._aside

    def full(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(remote, "_aside", full)
    with pytest.raises(Unavailable, match="can't start new thread"):
        asyncio.run(ask.engine.reached())
    monkeypatch.setattr(remote, "_aside", aside)
    assert asyncio.run(ask.engine.reached()).stage == "ready"


def test_a_look_that_fails_is_over(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it fails by: who waits for it goes on, and the next one begins."""
    remote = ask.engine._remote
    asyncio.run(ask.engine.reached())
    [link] = remote._links.values()

    def broken(*_: Any) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr(remote, "_show", broken)

    def aside(look: Callable[[], None]) -> None:
        with pytest.raises(ValueError, match="a fault"):
            look()

    monkeypatch.setattr(remote, "_aside", aside)
    assert remote._probe(link).done() and link.probe is None
