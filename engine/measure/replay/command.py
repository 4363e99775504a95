"""vllm-mlx replay FILE.zip: from arguments to what differs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import BadRequest
from engine.measure.replay.compare import choices, differences
from engine.types import Json

if TYPE_CHECKING:
    from engine.request_log.archive import KeptRequest


def parser() -> argparse.ArgumentParser:
    """The arguments of vllm-mlx replay."""
    command = argparse.ArgumentParser(
        prog="vllm-mlx replay",
        description="Ask a request again that was downloaded from the Requests tab or /v1/requests/ID/zip, and say "
        "what differs in the answer. The exit status is 1 where something differs at temperature 0.",
    )
    command.add_argument("file", metavar="FILE.zip", type=Path, help="the request with its media")
    command.add_argument("--base-url", metavar="URL", required=True, help="a server's OpenAI address, with its /v1")
    command.add_argument("--api-key", metavar="KEY", help="key of that server")
    command.add_argument("--model", metavar="NAME", help="the model that is asked (default: the same name)")
    return command


def run(args: argparse.Namespace) -> int:
    """Ask and compare. Raises EngineError: no such file, server not reached, request refused."""
    import asyncio

    from engine.request_log.archive import unpacked

    kept = unpacked(args.file)
    answer = asyncio.run(_ask(kept, args.base_url, args.api_key, args.model))
    now = choices(answer, kept.asked.path)
    for choice in now:
        print(choice["text"] or choice["tool_calls"])
    return _tell(kept, now)


async def _ask(kept: KeptRequest, base_url: str, api_key: str | None, model: str | None) -> Json:
    from engine.measure.openai_client import OpenAIClient

    client = OpenAIClient(base_url, api_key)
    try:
        return await client.request("POST", kept.asked.path, kept.asked.filled() | ({"model": model} if model else {}))
    finally:
        await client.close()


def _tell(kept: KeptRequest, now: list[Json]) -> int:
    if not now:
        raise BadRequest("The server answered without a choice.")
    if not kept.answer:
        print("--- it was not answered before, so there is nothing to compare")
        return 0
    found = differences(kept.answer, now)
    if not found:
        print("--- the same answer")
        return 0
    is_greedy = kept.asked.body.get("temperature") == 0
    print("--- another answer" if is_greedy else "--- another answer, as may be: its temperature was not 0")
    for words in found:
        print(f"    {words}")
    return 1 if is_greedy else 0
