"""The real OpenAI client and plain HTTP, both on the demo model behind a real socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest

from engine.api.app import create_app
from engine.config import ServerConfig


@pytest.fixture(scope="session")
def client(demo_server: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo_server.url}/v1", api_key="unused", max_retries=0, timeout=120) as made:
        yield made


@pytest.fixture(scope="session")
def http(demo_server: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=demo_server.url, timeout=120) as made:
        yield made


@pytest.fixture(scope="session")
def trained(smollm2_server: Any) -> Iterator[openai.OpenAI]:
    """The client of a model with sense in its words. What is decoded on two busy cores takes its time."""
    with openai.OpenAI(base_url=f"{smollm2_server.url}/v1", api_key="unused", max_retries=0, timeout=300) as made:
        yield made


@pytest.fixture(scope="session")
def three_keys(demo_engine: Any, serve: Callable[..., Any]) -> Iterator[str]:
    """The demo model behind the keys sk-alice, sk-bob and sk-carol of people of these names: the server's URL."""
    keys = tuple((name, f"sk-{name}") for name in ("alice", "bob", "carol"))
    with serve(create_app(demo_engine, ServerConfig(api_keys=keys))) as url:
        yield url
