"""The tokens of an answer: what is told of them is what the engine told, and together they are the text."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

import httpx

from engine.types import Delta, GeneratedToken, TokenText
from workbench.chat.convert import ChatSettings, to_request, user_entries
from workbench.conversations.answers import AnswerRun
from workbench.conversations.tokens import TokenList, without_space_at_end
from workbench.conversations.types import Turn, WrittenToken

NAMES = {1: "One", 2: " two", 3: " three"}


def token_text(id: int) -> TokenText:
    return TokenText(NAMES[id], NAMES[id].encode())


def delta(id: int, logprob: float = -0.5) -> Delta:
    return Delta(NAMES[id], tokens=(GeneratedToken(id, logprob, ((id, logprob), (3, -2.0))),))


def test_what_is_continued_with_and_without_probabilities_is_told_apart():
    begun = Turn("a", "assistant", "q", "One")
    tokens = TokenList(token_text, begun)
    tokens.add(delta(2), is_known=True)
    assert tokens.tokens == (WrittenToken("One"), WrittenToken(" two", -0.5, ((" two", -0.5), (" three", -2.0))))
    later = TokenList(token_text, replace(begun, text="One two", tokens=tokens.tokens))
    for id in (3, 1):
        later.add(Delta(NAMES[id], tokens=(GeneratedToken(id),)), is_known=False)
    assert later.tokens == (*tokens.tokens, WrittenToken(" threeOne"))


def test_thoughts_are_not_among_them():
    tokens = TokenList(token_text, Turn("a", "assistant", "q"))
    tokens.add(replace(delta(1), channel="reasoning"), is_known=True)
    assert tokens.tokens == ()


def test_white_space_at_the_end_is_cut_off():
    assert without_space_at_end(
        (WrittenToken("One", -1.0), WrittenToken(" two \n", -0.5), WrittenToken(" ", -2.0))
    ) == (
        WrittenToken("One", -1.0),
        WrittenToken(" two", -0.5),
    )
    spaced = (WrittenToken("One", -1.0), WrittenToken(" two \n", -0.5), WrittenToken(" ", -2.0))
    assert without_space_at_end(spaced) == (WrittenToken("One", -1.0), WrittenToken(" two", -0.5))
    assert without_space_at_end((WrittenToken(" "),)) == ()


def test_they_are_those_of_the_api(demo_engine, serve):
    """The same question through a kept answer and through /v1, greedily."""
    from engine.api.app import create_app
    from engine.config import ServerConfig

    settings = ChatSettings(max_tokens=6, logprobs=2)
    request = to_request(user_entries("What is a circle?", []), settings)
    request = replace(request, sampling=replace(request.sampling, temperature=0.0))

    async def written() -> Turn:
        async def save(turn: Turn) -> None:
            return None

        return await AnswerRun(demo_engine, request, Turn("a", "assistant", "q", state="writing"), save).stopped()

    turn = asyncio.run(written())
    body = {
        **{"model": "default", "temperature": 0, "max_tokens": 6, "logprobs": True, "top_logprobs": 2},
        "messages": [{"role": "user", "content": "What is a circle?"}],
    }
    with serve(create_app(demo_engine, ServerConfig())) as url:
        choice = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]
    told = choice["logprobs"]["content"]
    assert turn.text == choice["message"]["content"] == "".join(token.text for token in turn.tokens)
    assert [token.text for token in turn.tokens] == [entry["token"] for entry in told]
    for token, entry in zip(turn.tokens, told, strict=True):
        assert math.isclose(token.logprob, entry["logprob"], abs_tol=2e-3)
        assert [text for text, _ in token.top] == [other["token"] for other in entry["top_logprobs"]]
