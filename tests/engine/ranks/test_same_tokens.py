"""Several ranks answer as one process does: text, pictures, and mixed batches in which one is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.ranks.battery import TIMEOUT_S, answered, cached_tokens, same_answers, texts
from tests.engine.ranks.conftest import CHUNK_TOKENS, Alone
from tests.engine.ranks.processes import RankProcesses
from tests.waiting import wait_until

SPECULATION = '{"method": "ngram"}'


def serving(model: Path, *more: str) -> tuple[str, ...]:
    return ("serve", str(model), "--port", "0", "--prefill-step-size", str(CHUNK_TOKENS), *more)


@pytest.mark.parametrize(
    ("family", "size", "more"),
    [("qwen3", 2, ()), ("qwen3_vl", 2, ()), ("qwen3_vl", 3, ("--speculative-config", SPECULATION))],
)
async def test_the_tokens_of_one_process(
    family: str, size: int, more: tuple[str, ...], divisible_model: Callable[[str], Path], alone: Alone, tmp_path: Path
) -> None:
    with RankProcesses(tmp_path, size, *serving(divisible_model(family), *more)) as ranks:
        expected = await alone(family)  # meanwhile
        url = await asyncio.to_thread(lambda: ranks.url)
        found = await answered(url, sees=family == "qwen3_vl")
        same_answers(expected, found)
        assert cached_tokens(found["long, again"]) == cached_tokens(expected["long, again"]) > 0
        check_memory(url, size)
        if family == "qwen3":
            await check_loaded_again(url, expected)
            check_restart(url)
        assert ranks.end() == [0] * size, ranks.said


def check_memory(url: str, size: int) -> None:
    """Every rank says once a second what it has in use, and each has a part of the weights."""

    def ranks() -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = httpx.get(f"{url}/health").json()["memory"]["ranks"]
        return told

    wait_until(lambda: all(rank["mlx_active_bytes"] >= 1_000_000 for rank in ranks()), "a rank has no part", 10)
    assert [rank["rank"] for rank in ranks()] == list(range(size))
    assert all(rank["process_bytes"] > 0 and rank["total_bytes"] > 0 for rank in ranks())


async def check_loaded_again(url: str, expected: dict[str, Any]) -> None:
    """Every rank lets its part go, and loads it anew for the next request."""
    async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S) as client:
        assert (await client.post("/v1/models/unload", json={"model": "default"})).status_code == 200
        assert (await client.get("/health")).json()["models"][0]["state"] != "ready"
    same_answers(expected, {"short": one_answer(url)})


def one_answer(url: str) -> Any:
    response = httpx.post(f"{url}/v1/chat/completions", json=texts()["short"], timeout=TIMEOUT_S)
    assert response.status_code == 200, response.text
    return response.json()


def check_restart(url: str) -> None:
    refused = httpx.post(f"{url}/v1/server/restart", timeout=TIMEOUT_S)
    assert refused.status_code == 409 and "mlx.launch" in refused.json()["error"]["message"], refused.text


@pytest.mark.parametrize("how", ["same_part", "forgets"])
async def test_a_rank_that_does_something_else_is_seen(
    how: str, divisible_model: Callable[[str], Path], alone: Alone, tmp_path: Path
) -> None:
    expected = await alone("qwen3")
    words_of = (how, *serving(divisible_model("qwen3")))
    with RankProcesses(tmp_path, 2, *words_of, module="tests.engine.ranks.saboteur") as ranks:
        url = await asyncio.to_thread(lambda: ranks.url)
        found = {"short": await asyncio.to_thread(one_answer, url)}
        with pytest.raises(AssertionError, match="short: not the tokens of one process"):
            same_answers(expected, found)
