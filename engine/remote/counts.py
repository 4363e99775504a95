"""Tokens of a prompt, and the text of tokens, as another server counts them: at vLLM's /tokenize, which servers of this
project have too. Pure.

https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#tokenizer-api
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.remote.numbers import count, finite
from engine.remote.told import told_media
from engine.types import Json, Part, Preflight, RemoteServer

TOKENIZE, DETOKENIZE = "/tokenize", "/detokenize"


def at_root(server: RemoteServer, route: str) -> str:
    """Its URL: beside /v1, not below it."""
    return server.url.removesuffix("/v1") + route


def read_tokens(told: Json, sent: Sequence[Part]) -> Preflight | None:
    """sent: the media of the request; None where it is not said what each takes, so that the count may be without them.
    Raises LookupError, TypeError or ValueError for what is no such answer."""
    media = told_media({"media": told.get("media")}, sent)
    if len(media) != len(sent):
        return None
    ttft_ms = told.get("ttft_ms")
    return Preflight(
        tokens=tuple(count(id) for id in told["tokens"]),
        context_tokens=count(told["max_model_len"]),
        media=media,
        cached_tokens=count(told.get("cached_tokens") or 0),
        ttft_ms=None if ttft_ms is None else finite(ttft_ms),
    )
