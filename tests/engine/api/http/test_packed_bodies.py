"""Bodies that come packed: gzip is read within limits, the rest is refused by name."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from engine.api.app import create_app
from engine.api.http import packed_bodies
from engine.api.http.packed_bodies import GzipBody
from engine.config import ServerConfig
from engine.errors import BadRequest

BODY = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}).encode()
LIMIT = 2_000_000


@pytest.fixture(scope="module")
def url(demo_engine: Any, serve: Callable[[Any], Any]) -> Iterator[str]:
    with serve(create_app(demo_engine, ServerConfig(max_upload_bytes=LIMIT, max_uploads_bytes=LIMIT))) as base:
        yield f"{base}/v1/chat/completions"


def post(url: str, content: Any, encoding: str = "gzip") -> httpx.Response:
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    return httpx.post(url, content=content, headers=headers, timeout=60)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip", "identity, gzip", "identity", ""])
def test_what_is_read(url: str, encoding: str) -> None:
    packed = BODY if encoding in ("identity", "") else gzip.compress(BODY)
    assert post(url, packed, encoding).status_code == 200


def test_in_chunks_and_in_members(url: str) -> None:
    packed = gzip.compress(BODY)
    assert post(url, (packed[i : i + 1] for i in range(len(packed)))).status_code == 200
    assert post(url, gzip.compress(BODY[:20]) + gzip.compress(b"") + gzip.compress(BODY[20:])).status_code == 200
    stored = gzip.compress(BODY, compresslevel=0)
    assert post(url, stored).status_code == 200


@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "deflate", "compress", "gzip, gzip", "br, gzip", "x" * 5000, "gzip;q=1"]
)
def test_other_packings_are_refused_by_name(url: str, encoding: str) -> None:
    response = post(url, b"x", encoding)
    assert response.status_code == 415 and response.headers["accept-encoding"] == "gzip"
    error = response.json()["error"]
    assert error["code"] == "unsupported_encoding" and encoding[:50] in error["message"] and len(error["message"]) < 300


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(BODY)[:-9], "ends too early"),
        (gzip.compress(BODY)[:3], "ends too early"),
        (BODY, "no gzip"),
        (zlib.compress(BODY), "no gzip"),
        (gzip.compress(BODY)[:30] + b"\0" * 60, "damaged"),
        (gzip.compress(BODY) + b"rest", "damaged"),
        (gzip.compress(BODY)[:-8] + b"\0" * 8, "damaged"),
    ],
    ids=["no end", "three bytes", "plain", "zlib", "damaged", "more behind it", "a wrong checksum"],
)
def test_what_is_no_gzip(url: str, content: bytes, words: str) -> None:
    response = post(url, content)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_encoding") and words in error["message"]


def test_a_bomb_ends_at_the_limit(url: str) -> None:
    """300 KB that unpack to 300 MB: no more than the limit is ever held."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 10_000_000) for _ in range(30)) + packer.flush()
    response = post(url, bomb)
    assert response.status_code in (413, 429) and "2,000,000" in response.json()["error"]["message"]
    assert post(url, gzip.compress(BODY + b" " * (LIMIT - len(BODY)))).status_code == 200, "exactly the limit"
    assert post(url, gzip.compress(BODY)).status_code == 200, "and the room is free again"


def test_an_empty_body_of_a_get(url: str) -> None:
    models = url.replace("chat/completions", "models")
    assert httpx.get(models, headers={"Content-Encoding": "gzip"}).status_code == 200
    assert post(url, b"").status_code == 400, "no JSON"


async def pieces_of(*messages: bytes) -> list[bytes]:
    left = [{"type": "http.request", "body": m, "more_body": i < len(messages) - 1} for i, m in enumerate(messages)]

    async def receive() -> Any:
        return left.pop(0)

    body, out = GzipBody(receive), []
    while True:
        message = await body.receive()
        out.append(message["body"])
        if not message["more_body"]:
            return out


async def test_it_is_unpacked_in_small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every size around that of a piece: zlib may keep the end of one for the next call."""
    monkeypatch.setattr(packed_bodies, "PIECE_BYTES", 64)
    for size in (0, 1, 63, 64, 65, 127, 128, 129, 1000):
        data = bytes(i % 251 for i in range(size))
        packed = gzip.compress(data)
        for cut in (1, 10, len(packed)):
            pieces = await pieces_of(*[packed[i : i + cut] for i in range(0, len(packed), cut)])
            assert b"".join(pieces) == data and max(map(len, pieces)) <= 64
    with pytest.raises(BadRequest):
        await pieces_of(gzip.compress(b"x" * 1000)[:-1])
