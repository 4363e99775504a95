"""What lm-eval's local-chat-completions sends, word for word as recorded (lm-eval 0.4.13), and what it reads back.

Recorded with `lm-eval run --model local-chat-completions --apply_chat_template` on a generate_until task: first one
request at a time through requests, then with num_concurrent=2 (aiohttp), a system instruction, one example and
gen_kwargs.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest

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
