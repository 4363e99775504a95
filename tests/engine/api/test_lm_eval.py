"""What lm-eval's local-chat-completions sends, word for word as recorded (lm-eval 0.4.13), and what it reads back.

Recorded with `lm-eval run --model local-chat-completions --apply_chat_template` on a generate_until task: first one
request at a time through requests, then with num_concurrent=2 (aiohttp), a system instruction, one example and
gen_kwargs. For likelihoods, what its local-completions sends and how it reads the answer, from its source.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from engine.types import Request, Sampling
from tests.conftest import Server

HEADERS = {"Accept": "*/*", "Authorization": "Bearer", "Content-Type": "application/json"}
"""The key is OPENAI_API_KEY, which is not set as a rule: then the scheme stands alone."""

PLAIN = {
    "messages": [{"role": "user", "content": "Hello"}],
    "model": "demo",
    "max_tokens": 16,
    "temperature": 0,
    "stop": ["\n\n", "Question:"],
    "seed": 1234,
}
FEW_SHOT = {
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "What is two plus two?"},
        {"role": "assistant", "content": "four"},
        {"role": "user", "content": "Hello"},
    ],
    "model": "demo",
    "max_tokens": 32,
    "temperature": 0.5,
    "stop": ["\n\n"],
    "seed": 1234,
    "top_p": 0.9,
}


def parse_generations(outputs: dict[str, Any]) -> list[str]:
    """As lm_eval.models.openai_completions.LocalChatCompletion reads an answer."""
    found: list[Any] = [None] * len(outputs["choices"])
    for choice in outputs["choices"]:
        found[choice["index"]] = choice["message"]["content"]
    return found


@pytest.mark.parametrize("body", [PLAIN, FEW_SHOT], ids=["plain", "few-shot"])
def test_requests_of_lm_eval_are_answered(demo_server: Server, body: dict[str, Any]) -> None:
    def ask() -> list[str]:
        answer = httpx.post(f"{demo_server.url}/v1/chat/completions", json=body, headers=HEADERS, timeout=60)
        assert answer.status_code == 200, answer.text
        return parse_generations(answer.json())

    (text,) = ask()
    assert isinstance(text, str) and text and not any(stop in text for stop in body["stop"])
    assert ask() == [text], "its seed makes it repeatable"


def parse_logprobs(outputs: dict[str, Any], ctxlens: list[int]) -> list[tuple[float, bool]]:
    """As lm_eval.models.openai_completions.LocalCompletionsAPI reads an answer."""
    found = []
    for choice, ctxlen in zip(sorted(outputs["choices"], key=lambda choice: choice["index"]), ctxlens, strict=True):
        values = choice["logprobs"]["token_logprobs"][ctxlen:-1]
        tops = choice["logprobs"]["top_logprobs"][ctxlen:-1]
        found.append((sum(values), all(value == max(top.values()) for value, top in zip(values, tops, strict=True))))
    return found


async def test_likelihoods_of_lm_eval_are_the_models(demo_server: Server) -> None:
    """Token ids of context and continuation together, several in one request: the sum of the log-probabilities of the
    continuation, and whether it is what the model would say."""
    engine = demo_server.engine

    def ids(text: str) -> list[int]:
        return list(httpx.post(f"{demo_server.url}/tokenize", json={"prompt": text}).json()["tokens"])

    context = ids("The picture shows")
    greedy = await engine.complete(Request(prompt=tuple(context), sampling=Sampling(temperature=0), max_tokens=4))
    continuations = [list(greedy.token_ids), ids(" a green star")]
    body = {
        "model": "demo",
        "prompt": [context + continuation for continuation in continuations],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    answer = httpx.post(f"{demo_server.url}/v1/completions", json=body, headers=HEADERS, timeout=60)
    assert answer.status_code == 200, answer.text
    (first, is_greedy), (second, is_not) = parse_logprobs(answer.json(), [len(context)] * 2)
    assert is_greedy and not is_not
    for told, continuation in ((first, continuations[0]), (second, continuations[1])):
        expected = await engine.likelihood(Request(prompt=tuple(context)), tuple(continuation))
        assert told == pytest.approx(sum(expected), abs=1e-2)
