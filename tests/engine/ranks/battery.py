"""What is asked of one process and of several ranks alike, and what each answer must have in common."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.pictures import picture_url

TIMEOUT_S = 60.0
ALONE = {"short", "picture"}
LONG = "One line after another, and each of them is a little longer than the one before. " * 12


def message(text: str, *pictures: str) -> list[dict[str, Any]]:
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in pictures]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def greedy(text: str, *pictures: str, **more: Any) -> dict[str, Any]:
    fixed = {"temperature": 0, "max_tokens": 10, "logprobs": True, "ignore_eos": True}
    return {"messages": message(text, *pictures), **fixed, **more}


def texts() -> dict[str, dict[str, Any]]:
    """Requests by what they show."""
    return {
        "short": greedy("hello"),
        "drawn": greedy("say something", temperature=0.9, seed=7, n=2),
        "long": greedy(LONG),
        "copied": greedy("a b c d a b c d a b c d a b c d", max_tokens=24),
    }


def pictures() -> dict[str, dict[str, Any]]:
    red, blue = picture_url("red", "circle"), picture_url("blue", "square", (96, 128))
    return {
        "picture": greedy("what is this?", red),
        "two pictures": greedy("which one is round?", red, blue),
        "picture, drawn": greedy("tell me", blue, temperature=0.8, seed=3),
    }


def question() -> dict[str, Any]:
    """Typed questions about a picture; the last ones go on from a shared stem."""
    seen = {"type": "input_image", "image_url": picture_url("red", "circle")}
    colours = [{"value": value} for value in ("dark red", "dark green", "dark blue")]
    return {
        "input": [{"role": "user", "content": [seen]}],
        "questions": [
            {"type": "choice", "instructions": "What color is it?", "choices": colours},
            {"type": "predicate", "instructions": "Is it round?"},
        ],
    }


async def _cancelled(client: httpx.AsyncClient) -> None:
    """A stream that is closed in its middle."""
    body = greedy("go on and on", max_tokens=400, stream=True)
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        lines = response.aiter_lines()
        for _ in range(6):
            await anext(lines)


async def answered(url: str, *, sees: bool) -> dict[str, Any]:
    """Every answer by the name of its request: some alone, then all at once with one that is cancelled, then one again
    from the cache."""
    asked = {**texts(), **(pictures() if sees else {})}
    found: dict[str, Any] = {}
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client:

        async def ask(name: str, body: dict[str, Any]) -> None:
            response = await client.post("/v1/chat/completions", json=body)
            assert response.status_code == 200, response.text
            found[name] = response.json()

        for name in ALONE & asked.keys():
            await ask(name, asked[name])
        all_of_them = [ask(f"{name}, among others", body) for name, body in asked.items()]
        await asyncio.gather(*all_of_them, _cancelled(client))
        await ask("long, again", asked["long"])
        if sees:
            response = await client.post("/v1/decisions", json=question())
            assert response.status_code == 200, response.text
            found["decided"] = response.json()
    return found


def same_answers(expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Token by token, with log-probabilities as near as float32 lets sums in another order be."""
    assert found
    for name, answer in found.items():
        mine, others = _drawn(expected[name]), _drawn(answer)
        assert [text for text, _ in mine] == [text for text, _ in others], f"{name}: not the tokens of one process"
        apart = max(abs(a - b) for (_, a), (_, b) in zip(mine, others, strict=True))
        assert apart < 2e-3, f"{name}: log-probabilities are {apart} apart"


def _drawn(answer: dict[str, Any]) -> list[tuple[str, float]]:
    """(token, its log-probability) of every choice; of decisions (option, its probability)."""
    if "answers" in answer:
        return [
            (str(option.get("value")), option["probability"])
            for one in answer["answers"]
            for option in one.get("probabilities", [{"value": True, "probability": one.get("probability")}])
        ]
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    return [(token["token"], token["logprob"]) for choice in choices for token in choice["logprobs"]["content"]]


def cached_tokens(answer: dict[str, Any]) -> int:
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
