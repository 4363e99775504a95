"""/v1/embeddings by OpenAI's client and /v1/rerank by plain HTTP, on tiny models that give them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from engine.api.app import create_app
from engine.config import EngineConfig, ModelSpec, ServerConfig
from tests import text_models
from tests.engine.api.http.test_openapi import check

PATHS = ("/v1/embeddings", "/v1/rerank")


@pytest.fixture(scope="module")
def url(
    tiny_model: Callable[..., Path], models_dir: Path, engine_pool: Any, serve: Callable[[Any], Any]
) -> Iterator[str]:
    """Two models on one port: "vectors" and "scores"."""
    embedder = text_models.embedder(tiny_model("qwen3"), models_dir)
    ranker = text_models.ranker(tiny_model("qwen3"), models_dir)
    more = (ModelSpec(str(ranker), name="scores", preload=True),)
    engine = engine_pool.start(EngineConfig(model=ModelSpec(str(embedder), name="vectors"), more_models=more))
    with serve(create_app(engine, ServerConfig())) as base:
        yield base


@pytest.fixture(scope="module")
def vectors(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120) as made:
        yield made


@pytest.fixture(scope="module")
def web(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=120) as made:
        yield made


def test_by_openais_client(vectors: openai.OpenAI) -> None:
    """It asks for base64 by itself, and makes numbers of it."""
    by_default = vectors.embeddings.create(model="vectors", input=["a", "import os"])
    as_numbers = vectors.embeddings.create(model="vectors", input=["a", "import os"], encoding_format="float")
    assert [data.index for data in by_default.data] == [0, 1] and by_default.model == "vectors"
    for one, other in zip(by_default.data, as_numbers.data, strict=True):
        assert np.array_equal(np.array(one.embedding, "<f4"), np.array(other.embedding, "<f4"))
        assert np.linalg.norm(one.embedding) == pytest.approx(1.0, abs=1e-5)
    assert by_default.usage.prompt_tokens == by_default.usage.total_tokens > 3


def test_every_form_of_input(web: httpx.Client) -> None:
    def ask(text: Any, **more: Any) -> list[Any]:
        answer = web.post("/v1/embeddings", json={"model": "vectors", "input": text, **more})
        assert answer.status_code == 200, answer.text
        return [data["embedding"] for data in answer.json()["data"]]

    ids = web.post("/tokenize", json={"model": "vectors", "prompt": "import os"}).json()["tokens"]
    (text,) = ask("import os")
    assert ask(["import os"]) == [text] and ask(ids) == [text] and ask([ids]) == [text]
    assert len(ask(["a", "b", "c"])) == 3
    (short,) = ask("import os", dimensions=4.0)
    assert len(short) == 4
    (packed,) = ask("import os", encoding_format="base64")
    assert np.array_equal(np.frombuffer(base64.b64decode(packed), "<f4"), np.array(text, "<f4"))
    assert ask("import os", prompt_name="query") != [text]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": 100_000}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ({"input": "a", "messages": [{"role": "user", "content": "a"}]}, "messages"),
        ({"input": "a", "normalize": False}, "normalize"),
        ({"input": "a", "prompt_name": "nobody"}, "prompt_name"),
        ({"input": "word " * 5000}, "input"),
    ],
)
def test_what_is_refused_is_named(web: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = web.post("/v1/embeddings", json={"model": "vectors", **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


def test_what_nobody_knows_is_named(web: httpx.Client) -> None:
    answer = web.post("/v1/embeddings", json={"model": "vectors", "input": "a", "user": "me", "colour": "red"})
    assert answer.status_code == 200 and answer.headers["x-ignored-fields"] == "colour"


def test_rerank(web: httpx.Client) -> None:
    documents = ["one", {"text": "def f(): pass"}, "a b c"]
    body = {"model": "scores", "query": "which?", "documents": documents}
    whole = web.post("/v1/rerank", json={**body, "return_documents": True}).json()
    scores = [result["relevance_score"] for result in whole["results"]]
    assert scores == sorted(scores, reverse=True) and all(0 < score < 1 for score in scores)
    assert {result["index"]: result["document"]["text"] for result in whole["results"]} == {
        0: "one", 1: "def f(): pass", 2: "a b c",
    }  # fmt: skip
    assert whole["usage"]["total_tokens"] > 30
    best = web.post("/v1/rerank", json={**body, "top_n": 1}).json()["results"]
    assert best == [{"index": whole["results"][0]["index"], "relevance_score": pytest.approx(scores[0], abs=1e-4)}]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"documents": []}, "documents"),
        ({"query": ""}, "query"),
        ({"documents": [1]}, "documents[0]"),
        ({"top_n": 0}, "top_n"),
        ({"documents": ["a", "word " * 5000]}, "documents[1]"),
        ({"max_chunks_per_doc": 3}, "max_chunks_per_doc"),
        ({"instruction": ""}, "instruction"),
    ],
)
def test_what_rerank_refuses_is_named(web: httpx.Client, body: dict[str, Any], param: str) -> None:
    answer = web.post("/v1/rerank", json={"model": "scores", "query": "a", "documents": ["b"], **body})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"].startswith(param)


def test_capabilities_say_who_gives_what(web: httpx.Client) -> None:
    found = {model["id"]: model["capabilities"] for model in web.get("/v1/models").json()["data"]}
    assert [(found[name]["embeddings"], found[name]["rerank"]) for name in ("vectors", "scores")] == [
        (True, False), (False, True),
    ]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_a_plain_model_is_refused_in_words(http: httpx.Client, path: str) -> None:
    body = {"input": "hi"} if path == "/v1/embeddings" else {"query": "hi", "documents": ["x"]}
    answer = http.post(path, json={"model": "demo", **body})
    assert answer.status_code == 400 and answer.json()["error"]["code"] == "unsupported_model"
    assert http.get("/v1/models/demo").json()["capabilities"]["embeddings"] is False


def test_answers_are_as_described(web: httpx.Client) -> None:
    document = web.get("/openapi.json").json()
    for form in ("float", "base64"):
        body = {"model": "vectors", "input": "a", "encoding_format": form}
        check(document, "post", "/v1/embeddings", web.post("/v1/embeddings", json=body))
    body = {"model": "scores", "query": "a", "documents": ["b"], "return_documents": True}
    check(document, "post", "/v1/rerank", web.post("/v1/rerank", json=body))


def newest(web: httpx.Client) -> Any:
    (one,) = web.get("/v1/requests", params={"limit": 1}).json()["data"]
    return web.get(f"/v1/requests/{one['id']}").json()


def test_both_are_in_the_request_log(web: httpx.Client) -> None:
    told = web.post("/v1/embeddings", json={"model": "vectors", "input": ["a", "import os"]})
    ranked = web.post("/v1/rerank", json={"model": "scores", "query": "q", "documents": ["a", "b", "c"]})
    web.post("/v1/embeddings", json={"model": "vectors", "input": "a", "prompt_name": "nobody"})
    bad = newest(web)
    web.post("/v1/embeddings", json={"model": "vectors", "input": ["a", ""]})
    refused = newest(web)
    one, other = (web.get(f"/v1/requests/{answer.headers['x-request-id']}").json() for answer in (told, ranked))
    assert (one["dialect"], one["model"], one["status"], one["num_texts"]) == ("embeddings", "vectors", "finished", 2)
    assert one["prompt_tokens"] == told.json()["usage"]["prompt_tokens"] and one["source"] == "api"
    assert (other["dialect"], other["model"], other["num_texts"]) == ("rerank", "scores", 3)
    assert {"queue", "prefill"} <= {span["stage"] for span in one["stages"]} and one["ttft_ms"] is None
    assert sum(span["ms"] for span in one["stages"]) == pytest.approx(one["total_ms"], abs=0.1)
    assert "import os" not in str(one)
    assert bad["status"] == refused["status"] == "failed"
    assert bad["failure"]["param"] == "prompt_name" and refused["failure"]["param"] == "input[1]"
