"""On /v1 a key's name and `cache_salt` say who shares cached work with whom, and who sees what of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from engine.access.visibility import Caller
from engine.api.app import create_app
from engine.api.http import guard
from engine.config import ServerConfig
from tests import pictures

KEYS = (("alice", "sk-alice"), ("bob", "sk-bob"), ("carol", "sk-carol"))
SIZES_ONLY = {"start", "num_tokens", "num_bytes", "refs", "hits", "pinned", "age_s", "idle_s"}


@pytest.fixture(scope="module", autouse=True)
def nothing_cached(demo_engine: Any) -> None:
    """People of these names have asked in other files, too."""
    asyncio.run(demo_engine.cache.clear())


def headers(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer sk-{name}"} if name else {}


def chat(url: str, text: str, name: str = "", path: str = "chat/completions", **more: Any) -> httpx.Response:
    """A question about a picture (or a raw prompt) under a key's name."""
    image = {"type": "image_url", "image_url": {"url": pictures.picture_url("red")}}
    messages = [{"role": "user", "content": [image, {"type": "text", "text": text}]}]
    body = {"prompt": text} if path == "completions" else {"messages": messages}
    body |= {"max_tokens": 2, "temperature": 0, **more}
    return httpx.post(f"{url}/v1/{path}", json=body, headers=headers(name), timeout=60)


def cached(answer: httpx.Response) -> int:
    assert answer.status_code == 200, answer.text
    return int(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])


def strangers_share_nothing(url: str, text: str) -> None:
    chat(url, text, "alice")
    assert cached(chat(url, text, "bob")) == 0, "bob was served from alice's prompt"
    assert cached(chat(url, text, "bob")) > 10


def test_each_key_has_a_cache_of_its_own(three_keys: str) -> None:
    strangers_share_nothing(three_keys, "Each key.")


def test_sabotage_keys_without_names_are_seen(
    demo_engine: Any, serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "caller", lambda config, name: Caller())
    with (
        serve(create_app(demo_engine, ServerConfig(api_keys=KEYS))) as url,
        pytest.raises(AssertionError, match="alice's prompt"),
    ):
        strangers_share_nothing(url, "Sabotage.")


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_a_salt_shares_with_its_like_only(demo_server: Any, path: str) -> None:
    url, text = demo_server.url, "A salt shares with its like, and with no other salt; nor with none."

    def ask(**more: Any) -> int:
        return cached(chat(url, text, path=path, **more))

    assert [ask(cache_salt="x"), ask(cache_salt="y")] == [0, 0]
    whole = ask(cache_salt="x")
    assert whole > 10 and ask() < whole, "without a salt, what salted requests sent is not found"
    assert ask(cache_salt="y") == ask() == whole


def test_a_salt_is_not_shared_between_keys(three_keys: str) -> None:
    chat(three_keys, "Same salt.", "alice", cache_salt="x")
    assert cached(chat(three_keys, "Same salt.", "bob", cache_salt="x")) == 0
    assert cached(chat(three_keys, "Same salt.", "alice", cache_salt="x")) > 10


@pytest.mark.parametrize("salt", ["", 5, ["x"], True])
@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_a_wrong_salt_is_named(demo_server: Any, salt: Any, path: str) -> None:
    answer = chat(demo_server.url, "Hm?", path=path, cache_salt=salt)
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "cache_salt") and "cache_salt" in error["message"]


def blocks(url: str, name: str) -> list[dict[str, Any]]:
    return list(httpx.get(f"{url}/v1/cache/blocks", headers=headers(name)).json()["data"])


def test_one_sees_what_one_has_sent_and_of_others_sizes(three_keys: str) -> None:
    """alice's key is the first: the operator's."""
    chat(three_keys, "Alice asks about a red thing.", "alice")
    chat(three_keys, "Bob asks about a red thing.", "bob", cache_salt="x")
    of_bob, of_alice = blocks(three_keys, "bob"), blocks(three_keys, "alice")
    assert len(of_bob) == len(of_alice)
    told = [block for block in of_bob if "text" in block]
    assert any("Bob asks" in block["text"] for block in told)
    assert told and not [block for block in told if "Alice" in block["text"]]
    assert all(set(block) == SIZES_ONLY for block in of_bob if "text" not in block)
    everything = "".join(block["text"] for block in of_alice)
    assert "Alice asks" in everything and "Bob asks" in everything
    assert not [block for block in of_alice if "tenant" in block], "whose it is may be a secret"


@pytest.mark.parametrize("path", ["clear", f"blocks/{'0' * 32}/pin"])
def test_only_the_operator_changes_the_cache(three_keys: str, path: str) -> None:
    refused = httpx.post(f"{three_keys}/v1/cache/{path}", headers=headers("bob"))
    assert refused.status_code == 403 and refused.json()["error"]["code"] == "operator_only"
    assert httpx.post(f"{three_keys}/v1/cache/{path}", headers=headers("alice")).status_code in (200, 404)
