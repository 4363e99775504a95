"""Who may ask: keys, host names, the size of a body."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from engine.api.app import create_app
from engine.api.http.guard import JsonRequest, check_key, guarded_names, host_name
from engine.config import EngineConfig, MediaLimits, ModelSpec, ServerConfig
from engine.errors import Unauthorized
from tests import pictures

KEYS = (("alice", "sk-alice"), ("gina", "sk-gina"))
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}


@pytest.fixture(scope="module")
def keyed(demo_engine: Any, serve: Callable[..., Any]) -> Iterator[str]:
    """URL of a server that asks for a key and takes bodies of 20,000 bytes."""
    with serve(create_app(demo_engine, ServerConfig(api_keys=KEYS, max_upload_bytes=20_000))) as url:
        yield url


@pytest.mark.parametrize("header", ["", "sk-alice", "Bearer", "Bearer sk-alic", "Bearer sk-alicee", "Basic sk-alice"])
def test_without_the_right_key_nothing_of_v1_answers(keyed: str, header: str) -> None:
    headers = {"Authorization": header} if header else {}
    for method, path in (
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/demo"),
        ("GET", "/v1/whatever"),
        ("GET", "//v1/models"),
        ("GET", "/v1//models"),
        ("GET", "/v1/%6dodels"),
        ("GET", "/V1/models"),
    ):
        response = httpx.request(method, keyed + path, json=BODY if method == "POST" else None, headers=headers)
        assert response.status_code in (401, 404), path
        assert "demo" not in response.text
        if path.startswith("/v1/") and response.status_code == 401:
            assert response.json()["error"]["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"


def test_the_key_is_asked_for_before_the_body_is_read(keyed: str) -> None:
    response = httpx.post(
        f"{keyed}/v1/chat/completions", content="{broken", headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 401


@pytest.mark.parametrize("secret", [secret for _, secret in KEYS])
def test_every_named_key_opens(keyed: str, secret: str) -> None:
    with openai.OpenAI(base_url=f"{keyed}/v1", api_key=secret, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["demo"]


def test_the_openai_client_knows_the_error(keyed: str) -> None:
    client = openai.OpenAI(base_url=f"{keyed}/v1", api_key="wrong", max_retries=0)
    with client, pytest.raises(openai.AuthenticationError, match="key is wrong"):
        client.models.list()


def test_health_needs_no_key(keyed: str) -> None:
    assert httpx.get(f"{keyed}/health").status_code == 200


def test_keys_may_hold_any_character() -> None:
    for sent in ("käse=", "käse=".encode().decode("latin-1")):  # as latin-1 or as UTF-8, one character for each byte
        assert check_key({"authorization": f"Bearer {sent}"}, (("a", "käse="),)) == "a"
    assert check_key({"authorization": "bearer  x "}, (("a", "x"),)) == "a"
    assert check_key({"x-api-key": "y"}, (("a", "x"), ("b", "y"))) == "b", "Anthropic's clients"
    assert check_key({}, ()) == ""
    for headers in ({"authorization": "Bearer "}, {"authorization": "Basic x", "x-api-key": "x"}, {"x-api-key": ""}):
        with pytest.raises(Unauthorized):
            check_key(headers, (("a", "x"), ("b", "")))


def test_a_body_over_the_limit(keyed: str) -> None:
    headers = {"Authorization": "Bearer sk-gina", "Content-Type": "application/json"}
    declared = httpx.post(f"{keyed}/v1/chat/completions", content=b" " * 20_001, headers=headers)
    chunked = httpx.post(f"{keyed}/v1/chat/completions", content=iter([b" " * 10_000] * 3), headers=headers)
    for response in (declared, chunked):
        assert response.status_code == 413
        assert (
            response.json()["error"]["code"] == "request_too_large" and "20,000" in response.json()["error"]["message"]
        )
    exact = '{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}'.ljust(20_000)
    assert httpx.post(f"{keyed}/v1/chat/completions", content=exact, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.com", "evil.com:80", "localhost.evil.com", "127.0.0.1.evil.com", "", "[::1", "a@localhost:1"]
)
def test_a_loopback_server_answers_only_under_its_names(demo_server: Any, host: str) -> None:
    for path in ("/health", "/v1/models", "/anything"):
        response = httpx.get(demo_server.url + path, headers={"Host": host})
        assert response.status_code == 400, host
        if response.headers.get("content-type") == "application/json":
            assert response.json()["error"]["code"] == "host_not_allowed"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:5", "localhost."])
def test_its_own_names_are_fine(demo_server: Any, host: str) -> None:
    assert httpx.get(f"{demo_server.url}/health", headers={"Host": host}).status_code == 200


def test_when_names_are_checked() -> None:
    assert guarded_names(ServerConfig(allowed_hosts=("Box.LAN",))) == {"localhost", "127.0.0.1", "::1", "box.lan"}
    assert guarded_names(ServerConfig(host="0.0.0.0")) is None
    assert guarded_names(ServerConfig(api_keys=KEYS)) is None, "another page has no key"
    assert guarded_names(ServerConfig(open_access=True)) is None


@pytest.mark.parametrize(
    ("header", "name"),
    [("Host.Lan:80", "host.lan"), ("[::1]:80", "::1"), ("::1", "::1"), ("10.0.0.1", "10.0.0.1"), ("[", ""), ("", "")],
)
def test_host_names(header: str, name: str) -> None:
    assert host_name(header) == name


def test_no_cross_origin_headers(demo_server: Any) -> None:
    response = httpx.get(f"{demo_server.url}/v1/models", headers={"Origin": "https://evil.com"})
    assert not [name for name in response.headers if name.startswith("access-control")]
    preflight = httpx.options(f"{demo_server.url}/v1/chat/completions", headers={"Origin": "https://evil.com"})
    assert preflight.status_code >= 400


async def test_a_picture_under_the_media_root(
    engine_pool: Any, serve: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root: Path = tmp_path_factory.mktemp("media") / "root"
    root.mkdir()
    pictures.picture().save(root / "a.png")
    (root.parent / "secret.png").write_bytes(pictures.encode(pictures.picture("blue")))
    (root / "link.png").symlink_to(root.parent / "secret.png")
    engine = engine_pool.start(EngineConfig(model=ModelSpec(), media=MediaLimits(media_root=root)))

    def post(url: str) -> httpx.Response:
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 12, "temperature": 0}
        return httpx.post(f"{base}/v1/chat/completions", json=body, timeout=120)

    with serve(create_app(engine, ServerConfig())) as base:
        for url in ("a.png", str(root / "a.png"), f"file://{root}/a.png"):
            assert post(url).json()["usage"]["media"][0]["decoded"] == [128, 96]
        for url in ("link.png", "../secret.png", f"file://{root}/../secret.png", "/etc/passwd"):
            assert post(url).status_code == 400 and "--media-root" in post(url).json()["error"]["message"]
        assert "no file 'gone.png'" in post("gone.png").json()["error"]["message"]


READABLE = (
    b'{"a": 1, "a": 2}',
    b'{"a": NaN, "b": -Infinity, "c": 1e999, "d": -0}',
    b'{"a": 0.1000000000000000055511151231257827}',
    b'{"a": 123456789012345678901234567890}',
    b'{"a": "\\ud83d\\ude00 \\u0000"}',
    b'{"a": "half \\ud83d"}',
    b"\xef\xbb\xbf{}",
    b"[" * 300 + b"]" * 300,
    b" [1, true, null] ",
    b"5",
)


@pytest.mark.parametrize("body", READABLE)
async def test_a_body_is_read_as_the_json_module_reads_it(body: bytes) -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    request = JsonRequest({"type": "http", "method": "POST", "headers": []}, receive)
    assert repr(await request.json()) == repr(json.loads(body))
