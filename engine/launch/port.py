"""The port that a program is set up for: where it is, and what its model can take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from engine.errors import BadRequest, Unauthorized, Unavailable

DEFAULT_URLS = ("http://127.0.0.1:8000", "http://127.0.0.1:7860")
"""Where `vllm-mlx serve` and `vllm-mlx-chat` answer unless they are told otherwise."""

TIMEOUT_S = 10.0
NO_KEY = "none"
"""For programs that want a key where none is asked for."""


@dataclass(frozen=True, slots=True)
class Port:
    """url: without /v1. api_key: None where none is asked for. context_tokens: None when it is not known."""

    url: str
    model: str
    api_key: str | None = None
    context_tokens: int | None = None
    sees: bool = False

    def facts(self) -> dict[str, Any]:
        """What recipes put in."""
        capabilities = ["tool_use", *(["image_input"] if self.sees else [])]
        return {
            "root_url": self.url,
            "base_url": f"{self.url}/v1",
            "model": self.model,
            "api_key": self.api_key,
            "some_key": self.api_key or NO_KEY,
            "key_name": "mlx-workbench" if self.api_key else None,
            "context_tokens": self.context_tokens,
            "answer_tokens": None if self.context_tokens is None else max(1, self.context_tokens // 4),
            "sees": self.sees,
            "sees_or_none": True if self.sees else None,
            "modalities": ["text", "image"] if self.sees else ["text"],
            "continue_capabilities": capabilities,
        }


def find_port(url: str | None, model: str | None, api_key: str | None) -> Port:
    """Ask the port at this URL, or at those where it is by default. Raises EngineError in words for a person.

    model: the one to use where the port serves several, or does not answer yet.
    """
    urls = [_root(url)] if url else list(DEFAULT_URLS)
    for candidate in urls:
        cards = _models(candidate, api_key)
        if cards is not None:
            return _port(candidate, cards, model, api_key)
    if url and model:
        return Port(urls[0], model, api_key)
    where = " and ".join(urls)
    raise Unavailable(
        f"No server answers at {where}. Start one with `vllm-mlx serve MODEL`, or name it with --url; with --url and "
        "--model nothing is asked.",
        code="no_server",
    )


def _models(url: str, api_key: str | None) -> list[dict[str, Any]] | None:
    """What /v1/models says; None where nobody answers."""
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        response = httpx.get(f"{url}/v1/models", headers=headers, timeout=TIMEOUT_S, trust_env=False)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise Unauthorized(f"{url} asks for a key. Give it with --api-key.")
        data = response.raise_for_status().json()["data"]
        return [dict(card) for card in data]
    except httpx.TransportError:
        return None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError) as error:
        raise BadRequest(f"What answers at {url} is no OpenAI server: {type(error).__name__}.", param="url") from error


def _port(url: str, cards: list[dict[str, Any]], model: str | None, api_key: str | None) -> Port:
    by_id = {str(card.get("id")): card for card in cards}
    if model is not None and by_id and model not in by_id:
        raise BadRequest(f"{url} serves {', '.join(by_id)}, not {model!r}.", param="model")
    if model is None and not by_id:
        raise Unavailable(f"{url} is still loading its model; try again in a moment, or give --model.")
    name = model or next(iter(by_id))
    card = by_id.get(name, {})
    if card.get("state") == "loading":
        raise Unavailable(f"{url} is still loading {name}; try again in a moment.")
    capabilities = card.get("capabilities") or {}
    return Port(url, name, api_key, card.get("max_model_len"), bool(capabilities.get("vision")))


def _root(url: str) -> str:
    """Without the /v1 that people copy with it. Raises BadRequest for what is no URL."""
    cleaned = url.strip().rstrip("/").removesuffix("/v1")
    if not cleaned.startswith(("http://", "https://")) or len(cleaned.split("//", 1)[1]) == 0:
        raise BadRequest(f"--url {url!r} is not like http://localhost:8000.", param="url")
    return cleaned
